package quithttp

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gracefulgo/graceful/internal/text"
	"github.com/gracefulgo/graceful/quit"
)

//go:embed status.html
var statusHTML string

//go:embed status.css
var statusCSS string

//go:embed status.js
var statusJS string

// pageAssets is what all pages have in common.
type pageAssets struct {
	head, tail string // of the page, around the report
	policy     string // its Content-Security-Policy
	report     *template.Template
}

// assets are made when they are first used. The style and the script are part of the page, so that it
// works under any path, and are allowed by their hashes. The address of the icon is an empty one, or browsers
// would ask the server for one.
var assets = sync.OnceValue(func() *pageAssets {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	unix := strings.NewReplacer("\r\n", "\n") // as browsers do before they hash
	css, js := unix.Replace(statusCSS), unix.Replace(statusJS)
	a := &pageAssets{
		report: template.Must(template.New("report").Parse(unix.Replace(statusHTML))),
		policy: "default-src 'none'; style-src " + hash(css) + "; script-src " + hash(js) +
			"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}
	a.head = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>quit</title>
<style>` + css + `</style>
</head>
<body>
<main id="report">
`
	a.tail = `</main>
<footer id="note">A snapshot. Reload the page for a newer one.</footer>
<script>` + js + `</script>
</body>
</html>
`
	return a
})

func (a *pageAssets) page(s shot) []byte {
	return []byte(a.head + string(s.html(s.clock)) + a.tail)
}

// shot is a report, and what depends on the time at which it was taken.
type shot struct {
	quit.Report
	clock time.Duration // from the fire; 0 before it
	limit time.Duration // of the shutdown; 0: none
	span  time.Duration // of the time axis; 0: nothing is on it
}

func take(q *quit.QuitEvent) shot {
	s := shot{Report: q.Report()}
	if !s.Fired.IsZero() {
		s.clock = time.Since(s.Fired)
	}
	switch {
	case s.Deadline.IsZero():
	case s.started():
		s.limit = s.Deadline.Sub(s.Fired).Round(time.Millisecond)
	default: // less is left to the deadline by now, but the limit is the same
		s.limit = cmp.Or(q.Timeout, quit.DefaultTimeout)
	}
	switch {
	case !s.Ended.IsZero():
		s.clock = s.Ended.Sub(s.Fired)
		s.span = max(s.clock, 1)
	case s.started():
		// The axis grows in steps, so that between them only the bars do.
		s.span = roundUp(max(s.clock, 100*time.Millisecond))
		if s.limit > s.clock {
			s.span = min(s.span, s.limit)
		}
	}
	return s
}

func (s *shot) started() bool {
	return !s.Ended.IsZero() || len(s.Steps) > 0 && !s.Steps[0].Start.IsZero()
}

// roundUp returns the next of 1, 2, 5, 10, 20, 50 and so on.
func roundUp(d time.Duration) time.Duration {
	unit := time.Duration(math.Pow10(int(math.Floor(math.Log10(float64(max(d, 1)))))))
	for _, n := range []time.Duration{1, 2, 5} {
		if d <= n*unit {
			return n * unit
		}
	}
	return 10 * unit
}

// picture is what the template draws. Lengths on the time axis are in percent, all others in pixels.
type picture struct {
	Class, Marker, State   string
	Before, Elapsed, After string // the time used, in words
	Live                   bool   // the elapsed time grows
	Used                   string // of the limit; "" if there is none
	Limit, Span            int64  // in milliseconds
	Facts                  []fact
	Ticks                  []tick
	Height                 int
	Rows                   []*row
	More                   int // steps that are not drawn
	Failures               []failure

	shot  *shot
	clock time.Duration
}

type fact struct{ Name, Text string }

type tick struct{ At, Label string }

// row is a step, or several that are alike.
type row struct {
	Class, Marker, Word       string
	Name, Site, Times         string // as far as there is room for them
	Full, FullSite, In, Phase string
	Begun, Took               string
	Running                   bool
	Since                     int64 // the fire, in milliseconds, when it began
	BarX, BarWidth            string
	X, Y                      int
	step                      *quit.Step
	folded                    int // steps; the times are those of all
	start, end                time.Time
	path                      []string
}

type failure struct{ Marker, Title, Text, Stacks string }

// mostRows bounds the page. What failed or runs is on it in any case.
const mostRows = 1000

// html returns the report as it is drawn when the clock shows the given time. The
// same report at the same time is drawn the same.
func (s *shot) html(clock time.Duration) []byte {
	p := &picture{shot: s, clock: clock, Span: s.span.Milliseconds(), Limit: s.limit.Milliseconds()}
	p.addTicks()
	p.addRows(s.Steps, nil)
	for _, w := range p.Rows {
		p.place(w)
	}
	p.addFailures()
	p.addHead()
	var b bytes.Buffer
	if err := assets().report.Execute(&b, p); err != nil {
		return []byte("<p>The report cannot be drawn: " + template.HTMLEscapeString(err.Error()) + "</p>\n")
	}
	return b.Bytes()
}

func (p *picture) addHead() {
	s := p.shot
	within := "without a limit"
	if s.limit > 0 {
		within = "of " + length(s.limit)
	}
	if s.limit > 0 && s.started() {
		p.Used = percent(p.clock, s.limit)
	}
	switch {
	case s.Fired.IsZero() && s.limit > 0:
		p.Class, p.Marker, p.State, p.Before = "planned", "·", "Not fired", "a shutdown would have "+length(s.limit)
	case s.Fired.IsZero():
		p.Class, p.Marker, p.State, p.Before = "planned", "·", "Not fired", "a shutdown would have no limit"
	case !s.started():
		p.Class, p.Marker, p.State, p.Elapsed, p.After = "running", "▸", "Fired", ticking(p.clock), "ago, not shut down"
	case s.Ended.IsZero():
		p.Class, p.Marker, p.State, p.Elapsed, p.After = "running", "▸", "Shutting down", ticking(p.clock), within
	default:
		p.Class, p.Marker, p.State, p.Before, p.Elapsed, p.After = "ok", "✓", "Stopped", "after", length(s.clock), within
	}
	p.Live = p.Class == "running"
	if n := len(p.Failures); n > 0 && p.Class == "ok" {
		p.Class, p.Marker, p.State = "failed", "✗", "Stopped with 1 failure"
		if n > 1 {
			p.State = fmt.Sprintf("Stopped with %d failures", n)
		}
	}
	if s.Cause != nil {
		p.Facts = append(p.Facts, fact{"Cause", text.Clip(text.OneLine(strings.TrimPrefix(textOf(s.Cause), "quit: ")), 200)},
			fact{"Fired", s.Fired.Format("2006-01-02 15:04:05.000 MST")})
	}
	p.Facts = append(p.Facts, fact{"Goroutines counted", strconv.Itoa(s.Goroutines)})
}

// addTicks adds some round times to the axis, but none where its label would not fit.
func (p *picture) addTicks() {
	span := p.shot.span
	if span == 0 {
		return
	}
	p.Height = 24
	for at, each := time.Duration(0), roundUp(span/5); at <= span-span/8; at += each {
		p.Ticks = append(p.Ticks, tick{percent(at, span), length(at)})
	}
}

// addRows adds steps and what is in them. Those that follow each other and
// differ in nothing but their times are folded.
func (p *picture) addRows(steps []quit.Step, path []string) {
	var last *row // that the next step may be folded into
	for i := range steps {
		s := &steps[i]
		w := &row{step: s, path: path, folded: 1, start: s.Start, end: s.End}
		switch {
		case s.Abandoned:
			w.Class, w.Marker, w.Word = "abandoned", "✗", "ABANDONED"
		case s.Err != nil:
			w.Class, w.Marker, w.Word = "failed", "✗", "FAILED"
		case s.Start.IsZero():
			w.Class, w.Marker, w.Word = "planned", "·", "planned"
		case s.End.IsZero():
			w.Class, w.Marker, w.Word, w.Running = "running", "▸", "running", true
		default:
			w.Class, w.Marker, w.Word = "ok", "✓", "ok"
		}
		plain := (w.Class == "ok" || w.Class == "planned") && len(s.Steps) == 0
		switch {
		case plain && last != nil && w.Class == last.Class && s.Name == last.step.Name && s.Site == last.step.Site && s.Phase == last.step.Phase:
			last.folded++
			if w.start.Before(last.start) {
				last.start = w.start
			}
			if w.end.After(last.end) {
				last.end = w.end
			}
		case plain && len(p.Rows) >= mostRows:
			p.More++
		default:
			p.Rows = append(p.Rows, w)
			if last = nil; plain {
				last = w
			}
			p.addRows(s.Steps, append(path[:len(path):len(path)], title(s)))
		}
	}
}

// place gives the row its texts and its place in the picture.
func (p *picture) place(w *row) {
	w.Full, w.FullSite, w.Phase = text.OneLine(w.step.Name), text.OneLine(w.step.Site), w.step.Phase.String()
	w.In = strings.Join(w.path, ": ")
	most := 32
	if w.folded > 1 {
		w.Times = fmt.Sprintf("×%d", w.folded)
		most -= len(w.Times)
	}
	w.Name, w.Site = text.Clip(w.Full, most), w.FullSite
	if r := []rune(w.Site); len(r) > 28 {
		w.Site = "…" + string(r[len(r)-27:]) // the end has the line
	}
	w.X, w.Y = 16*min(len(w.path), 8), p.Height
	if w.start.IsZero() {
		p.Height += 26
		return
	}
	p.Height += 38
	from := w.start.Sub(p.shot.Fired)
	until := p.clock
	w.Since, w.Begun = from.Milliseconds(), length(from)
	if w.Running {
		w.Took = ticking(until - from)
	} else {
		until = w.end.Sub(p.shot.Fired)
		w.Took = length(until - from)
	}
	const least = 0.3 // percent, to be seen
	x := min(share(from, p.shot.span), 100-least)
	w.BarX, w.BarWidth = decimal(x), decimal(max(min(share(until, p.shot.span), 100)-x, least))
}

// addFailures tells each failure in full, with the stacks: of steps in their
// order, and then all others. What failed in an event that is a step is told with
// the steps of that event.
func (p *picture) addFailures() {
	told := make(map[string]bool) // lines of the shutdown's error
	tell := func(prefix, text string) (untold []string) {
		for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
			line = strings.TrimPrefix(line, "quit: ")
			if !told[prefix+line] {
				told[prefix+line] = true
				untold = append(untold, line)
			}
		}
		return untold
	}
	texts := make(map[*row][]string)
	for _, inner := range []bool{false, true} { // the innermost first, since the error of an event repeats theirs
		for _, w := range slices.Backward(p.Rows) {
			if w.step.Err != nil && inner == (len(w.step.Steps) > 0) {
				texts[w] = tell(w.title()+": ", textOf(w.step.Err))
			}
		}
	}
	for _, w := range p.Rows {
		f := failure{Marker: w.Marker, Title: w.title(), Text: lines(strings.Join(texts[w], "\n")), Stacks: lines(w.step.Stacks)}
		if f.Stacks == "" && f.Text != "" {
			f.Stacks = lines(panicStack(w.step.Err))
		}
		if f.Text != "" || f.Stacks != "" {
			p.Failures = append(p.Failures, f)
		}
	}
	for _, line := range tell("", textOf(p.shot.Err())) {
		if line != "" {
			p.Failures = append(p.Failures, failure{Marker: "✗", Title: text.OneLine(line)})
		}
	}
}

// title names the row's step with those it is in, in the way in which errors do.
func (w *row) title() string {
	return strings.Join(append(w.path[:len(w.path):len(w.path)], title(w.step)), ": ")
}

func title(s *quit.Step) string {
	if s.Site == "" {
		return text.OneLine(s.Name)
	}
	return text.OneLine(s.Name) + " (" + s.Site + ")"
}

// textOf returns the text of err, whose method is not ours: the streams outlive its panic.
func textOf(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("%T: panic in Error", err)
		}
	}()
	if err == nil {
		return ""
	}
	return err.Error()
}

func panicStack(err error) (stack string) {
	defer func() { recover() }() // as in textOf
	if p := (*quit.PanicError)(nil); errors.As(err, &p) {
		return string(p.Stack)
	}
	return ""
}

// lines is text.OneLine for each line of s.
func lines(s string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(strings.ReplaceAll(s, "\t", "    "), "\n"), "\n") {
		b.WriteString(text.OneLine(line) + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// length returns d with three digits: 12.3µs, 1.23s, 2m3s.
func length(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	if d >= time.Minute {
		unit = time.Second
	}
	return d.Round(unit).String()
}

// ticking returns d as the script does while the time grows: 1.2s, 2m3s.
func ticking(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", max(d, 0).Truncate(100*time.Millisecond).Seconds())
	}
	return d.Truncate(time.Second).String()
}

// share returns part in percent of the whole.
func share(part, whole time.Duration) float64 {
	return min(max(100*float64(part)/float64(max(whole, 1)), 0), 100)
}

func percent(part, whole time.Duration) string { return decimal(share(part, whole)) }

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }
