package quit

import (
	"bytes"
	"fmt"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"
)

// stacks returns the stacks of all goroutines with the label "quit" for which
// want is true, as the goroutine profile has them: identical ones once, with a count.
func stacks(want func(name string) bool) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return ""
	}
	var b strings.Builder
	for _, record := range strings.Split(profile.String(), "\n\n") {
		if name, ok := labelIn(record); ok && want(name) {
			b.WriteString(strings.TrimSpace(record))
			b.WriteString("\n\n")
		}
	}
	return b.String()
}

// labelIn returns the label "quit" of a record of the profile, whose second line is
//
//	# labels: {"quit":"the name", "other":"label"}
func labelIn(record string) (name string, ok bool) {
	_, labels, ok := strings.Cut(record, "\n# labels: {")
	if !ok {
		return "", false
	}
	labels, _, _ = strings.Cut(labels, "\n")
	_, quoted, ok := strings.Cut(" "+labels, ` "quit":`)
	if !ok {
		return "", false
	}
	if quoted, err := strconv.QuotedPrefix(quoted); err == nil {
		name, err = strconv.Unquote(quoted)
		return name, err == nil
	}
	return "", false
}

// stillRunning says what the shutdown is waiting for: the steps that run,
// the number of goroutines, and the stacks of both.
func (q *QuitEvent) stillRunning() string {
	q.mu.Lock()
	var running []*step
	for _, s := range q.steps {
		if s.end.IsZero() || s.abandoned {
			running = append(running, s)
		}
	}
	q.mu.Unlock()

	var b strings.Builder
	for _, s := range running {
		fmt.Fprintf(&b, "quit: still running: %s (%s) for %v\n",
			s.name, s.siteText(), time.Since(s.start).Round(time.Millisecond))
	}
	if n := q.count.count(); n > 0 {
		fmt.Fprintf(&b, "quit: still running: %d goroutines\n", n)
	}
	b.WriteString("\n")
	b.WriteString(stacks(func(string) bool { return true }))
	return b.String()
}
