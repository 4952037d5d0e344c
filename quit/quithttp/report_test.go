package quithttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// drawn has the facts that both drawings of a report share.
type drawn struct {
	failures int // in the headline
	told     int // in the details
	rows     []string
}

func (d drawn) String() string {
	return fmt.Sprintf("%d failures, %d told, rows %.1000q", d.failures, d.told, d.rows)
}

func number(pattern, s string) (n int) {
	if found := regexp.MustCompile(pattern).FindStringSubmatch(s); found != nil {
		n, _ = strconv.Atoi(found[1])
	}
	return n
}

// folded returns the number after × in s, or 1.
func folded(s string) int { return max(number(` ×(\d+)`, s), 1) }

func drawnText(s string) (d drawn) {
	table, details, _ := strings.Cut(s, "\n\n")
	lines := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	d.failures = number(`, (\d+) failures?$`, lines[0])
	for _, line := range lines[1:] {
		if fields := strings.Fields(line); !strings.HasPrefix(fields[0], "0─") {
			d.rows = append(d.rows, fmt.Sprint(fields[len(fields)-1], folded(line)))
		}
	}
	for _, line := range regexp.MustCompile(`(?m)^✗ .*`).FindAllString(details, -1) {
		d.told += folded(line)
	}
	return d
}

func drawnPage(s string) (d drawn) {
	d.failures = number(`<span class="state">[A-Z][a-z ]* with (\d+) failures?</span>`, s)
	for _, li := range regexp.MustCompile(`(?s)<li class="(\w+)">.*?</li>`).FindAllString(s, -1) {
		_, outcome, _ := strings.Cut(li, "<br>")
		pattern := regexp.MustCompile(`: <span class="word">(\w+)</span>`)
		word := pattern.FindStringSubmatch(outcome)[1]
		d.rows = append(d.rows, fmt.Sprint(word, folded(li)))
	}
	title := regexp.MustCompile(`<h3><span class="mark">✗</span>.*?</h3>`)
	for _, h3 := range title.FindAllString(s, -1) {
		d.told += folded(h3)
	}
	return d
}

func at(d time.Duration) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(d)
}

// ended returns a step that took a second.
func ended(name string, err error, steps ...quit.Step) quit.Step {
	return quit.Step{
		Name:  name,
		Site:  "a.go:1",
		Phase: quit.PhaseClosers,
		Start: at(0),
		End:   at(time.Second),
		Err:   err,
		Steps: steps,
	}
}

func times(n int, s quit.Step) (steps []quit.Step) {
	for range n {
		steps = append(steps, s)
	}
	return steps
}

func stopped(steps ...quit.Step) quit.Report {
	return quit.Report{Fired: at(0), Started: at(0), Ended: at(time.Second), Steps: steps}
}

// TestReportDrawings compares the text for a terminal and the page.
func TestReportDrawings(t *testing.T) {
	boom := errors.New("boom")
	stuck := ended("stuck", fmt.Errorf("abandoned after 1s: %w", context.DeadlineExceeded))
	stuck.Abandoned, stuck.Stacks = true, "1 goroutine of stuck:\n\tmain.hang\n"
	running := quit.Step{Name: "busy", Phase: quit.PhaseClosers, Start: at(0)}
	planned := quit.Step{Name: "later", Phase: quit.PhaseAfterDrain}
	deep := ended("leaf", boom)
	for range 20_000 {
		deep = ended("event", boom, deep)
	}
	repeated := errors.New("quit: inner (a.go:1): boom\nmore")
	outer := ended("outer", repeated, ended("inner", boom), ended("inner", nil))
	left := ended("outer", nil, ended("inner", boom), running)
	left.Abandoned = true
	var apart []quit.Step // no two alike
	for i := range 900 {
		apart = append(apart, ended(fmt.Sprint("closer ", i), nil))
	}

	reports := map[string]quit.Report{
		"nothing": {},
		"plan": {
			Steps: append(times(5, planned), quit.Step{Name: "drain", Phase: quit.PhaseDrain}),
		},
		"begun, not shut": {Fired: at(0), Steps: []quit.Step{running}},
		"alike":           stopped(times(3, ended("consumer", boom))...),
		"other errors": stopped(ended("consumer", boom), ended("consumer", errors.New("bust")),
			ended("consumer", boom)),
		"each state": {
			Fired:   at(0),
			Started: at(0),
			Steps:   []quit.Step{ended("ok", nil), ended("failed", boom), stuck, running, planned},
		},
		"crowd":           stopped(times(3000, stuck)...),
		"apart":           stopped(apart...),
		"many running":    {Fired: at(0), Started: at(0), Steps: times(3000, running)},
		"inner":           stopped(outer),
		"abandoned outer": stopped(left),
		"long":            stopped(ended("long", errors.New(strings.Repeat("x", 10<<20)))),
		"panicking": stopped(ended("broken", panickingError{}),
			ended("broken", (*countedError)(nil))),
		"below zero": {Goroutines: -3, Fired: at(0), Deadline: at(-time.Hour)},
		"ages": {
			Fired:   time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC),
			Started: at(0),
			Ended:   time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC),
			Steps:   []quit.Step{ended("a", boom)},
		},
	}
	want := map[string]int{
		"alike":           3,
		"other errors":    3,
		"each state":      2,
		"crowd":           3000,
		"inner":           2,
		"abandoned outer": 2,
		"long":            1,
		"panicking":       2,
		"ages":            1,
	}
	for name, report := range live(t) {
		reports[name] = report
	}
	want["live, fired"], want["live, stopping"], want["live, stopped"] = 1, 3, 10

	for name, report := range reports {
		text, page := drawnText(report.String()), drawnPage(quithttp.Fragment(report))
		if text.String() != page.String() {
			t.Errorf("%s: the terminal has\n%v\nand the page\n%v", name, text, page)
		}
		if n := want[name]; text.failures != n || text.told != n {
			t.Errorf("%s: %d failures, %d told, want %d:\n%.3000s", name, text.failures, text.told,
				n, report)
		}
		if len(report.Steps) > 0 != (len(text.rows) > 0) || len(text.rows) > 1000 {
			t.Errorf("%s: %d rows of %d steps", name, len(text.rows), len(report.Steps))
		}
		if _, err := json.Marshal(report); err != nil {
			t.Errorf("%s: Marshal() = %v, want no error", name, err)
		}
	}
	for name, marks := range map[string]string{
		"begun, not shut": "Shutdown requested",
		"below zero":      "<dt>Goroutines counted</dt><dd>0</dd>",
		"crowd":           `<span class="times">×3000</span>`,
		"many running":    `<span class="times">×3000</span>`,
		"long":            "… 10481664 bytes more</pre>",
		"panicking":       "&lt;nil&gt;</pre>",
	} {
		got := quithttp.Fragment(reports[name])
		if !strings.Contains(got, marks) || len(got) > 20_000 {
			t.Errorf("%s: the page has %d bytes, want %s and few:\n%.5000s",
				name, len(got), marks, got)
		}
	}

	// The page leaves out rows, but not that of the failure.
	got := quithttp.Fragment(stopped(deep))
	if page := drawnPage(got); page.failures != 1 || page.told != 1 || len(page.rows) != 1001 ||
		!strings.Contains(got, ": … 19993 more …: ") ||
		!strings.Contains(got, "19000 more steps") ||
		strings.Contains(got, "d9") || len(got) > 3<<20 {
		t.Errorf("deep: %d bytes, %v, want 1 failure and 1001 rows", len(got), page)
	}
	apart = append(apart, apart...)
	for i := range apart {
		apart[i].Name += fmt.Sprint(" of ", i)
	}
	apart = append(append(apart, times(3, ended("alike", nil))...), stuck, running, planned)
	got = quithttp.Fragment(quit.Report{Fired: at(0), Started: at(0), Steps: apart})
	for _, want := range []string{
		`<div class="row abandoned"`,
		`<div class="row running"`,
		"804 more steps",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("apart: the page does not have %s", want)
		}
	}
}

// live returns reports of an event with a nested one, in all stages.
func live(t *testing.T) map[string]quit.Report {
	reports := make(map[string]quit.Report)
	synctest.Test(t, func(t *testing.T) {
		q, inner := quietEvent(), quietEvent()
		for i := range 6 {
			inner.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
				if i%2 == 0 {
					panic("boom")
				}
				return errors.New("boom")
			}), quit.Name(fmt.Sprint("consumer ", i/2%2)), quit.AfterDrain())
		}
		inner.Go(func(ctx context.Context) error { <-ctx.Done(); return errors.New("lost") },
			quit.Name("worker"))
		q.RegisterQuitCloser(inner, quit.Name("inner"))
		q.RegisterStopFunc(func() { time.Sleep(time.Second) })
		reports["live, idle"] = q.Report()
		q.Fail(errors.New("why"))
		reports["live, fired"] = q.Report()
		go q.GracefulStop()
		synctest.Wait()
		q.Fail(errors.New("one"))
		q.Fail(errors.New("two"))
		reports["live, stopping"] = q.Report()
		q.GracefulStop()
		reports["live, stopped"] = q.Report()
	})
	return reports
}
