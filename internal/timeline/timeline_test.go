package timeline_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/timeline"
)

// named is an error like those of package quit.
type named struct {
	name, site string
	err        error
}

func (e *named) Error() string { return timeline.ErrorText(e) }

func (e *named) Failure() (string, string, error) {
	asked++
	return e.name, e.site, e.err
}

var asked int // calls to Failure

func of(s timeline.Step) error { return &named{name: s.Name, site: s.Site, err: s.Err} }

func at(d time.Duration) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(d)
}

// in returns s with inner steps.
func in(s timeline.Step, inner ...timeline.Step) []timeline.Step {
	s.Steps = inner
	return []timeline.Step{s}
}

// slice is an error that is not comparable.
type slice []string

func (s slice) Error() string { return strings.Join(s, " ") }

// list is an error that only holds several errors.
type list []error

func (l list) Error() string { return errors.Join(l...).Error() }
func (l list) List() []error { return l }

// step returns a step that has ended with err.
func step(name string, err error) timeline.Step {
	return timeline.Step{
		Name:  name,
		Site:  "a.go:1",
		Phase: "closers",
		Start: at(0),
		End:   at(time.Second),
		Err:   err,
	}
}

// told returns the details, one line each.
func told(t *timeline.Timeline) (lines []string) {
	for _, d := range t.Details {
		line := strings.TrimSpace(d.State.Marker()+d.Times()+" "+d.Title) + ": " + d.Text
		if d.Stacks != "" {
			line += " | " + d.Stacks
		}
		lines = append(lines, strings.ReplaceAll(line, "\n", "/"))
	}
	return lines
}

func TestFailures(t *testing.T) {
	boom, bust := errors.New("boom"), errors.New("bust")
	inner, other := step("inner", boom), step("other", bust)
	goroutine := &named{name: "goroutine f", err: boom}
	words := step("words", slice{"a", "b"})
	stuck := func(stacks string) timeline.Step {
		s := step("stuck", errors.New("abandoned after 1s"))
		s.Abandoned, s.Stacks = true, stacks
		return s
	}
	twice := timeline.Step{Name: "outer", Start: at(0), Err: errors.Join(boom, bust), Stacks: "x"}
	silent := timeline.Step{Name: "silent", Start: at(0), End: at(1), Abandoned: true}
	running := timeline.Step{Name: "busy", Start: at(0), Stacks: "here\n"}
	for _, test := range []struct {
		name  string
		steps []timeline.Step
		errs  []error
		want  []string
		n     int
	}{
		{name: "none", steps: []timeline.Step{step("a", nil)}},
		{
			name:  "of a step and in the result",
			steps: []timeline.Step{inner},
			errs:  []error{of(inner)},
			want:  []string{"✗ inner (a.go:1): boom"},
			n:     1,
		},
		{
			name:  "of no step",
			steps: []timeline.Step{inner},
			errs:  []error{of(inner), &named{name: "goroutine f", err: bust}, bust},
			want:  []string{"✗ inner (a.go:1): boom", "✗ goroutine f: bust", "✗: bust"},
			n:     3,
		},
		{
			name:  "alike",
			steps: []timeline.Step{inner, inner, inner},
			errs:  []error{of(inner), of(inner), of(inner)},
			want:  []string{"✗×3 inner (a.go:1): boom"},
			n:     3,
		},
		{
			name:  "one more than the steps tell",
			steps: []timeline.Step{inner, inner},
			errs:  []error{of(inner), of(inner), of(inner)},
			want:  []string{"✗×3 inner (a.go:1): boom"},
			n:     3,
		},
		{
			name:  "alike, but not in a row",
			steps: []timeline.Step{inner, other, inner},
			want:  []string{"✗×2 inner (a.go:1): boom", "✗ other (a.go:1): bust"},
			n:     3,
		},
		{
			name:  "abandoned, with other stacks",
			steps: []timeline.Step{stuck("x"), stuck("y"), stuck("x")},
			want: []string{
				"✗×2 stuck (a.go:1): abandoned after 1s | x",
				"✗ stuck (a.go:1): abandoned after 1s | y",
			},
			n: 3,
		},
		{
			name:  "abandoned, without an error",
			steps: []timeline.Step{silent},
			want:  []string{"✗ silent: abandoned"},
			n:     1,
		},
		{
			name:  "stacks of one that runs",
			steps: []timeline.Step{running, running},
			want:  []string{"▸×2 busy:  | here"},
			n:     0,
		},
		{
			name:  "several lines",
			steps: []timeline.Step{step("a", errors.Join(boom, errors.New("quit: bust\n")))},
			want:  []string{"✗ a (a.go:1): boom/bust"},
			n:     1,
		},
		{
			name:  "two of one step",
			steps: []timeline.Step{step("a", list{boom, bust})},
			want:  []string{"✗ a (a.go:1): boom", "✗ a (a.go:1): bust"},
			n:     2,
		},
		{
			name:  "named, of a closer",
			steps: []timeline.Step{step("a", of(inner))},
			want:  []string{"✗ a (a.go:1): inner (a.go:1): boom"},
			n:     1,
		},

		{
			name: "of inner steps",
			steps: in(step("outer", errors.Join(of(inner), of(other), of(words))), inner, other,
				words),
			want: []string{
				"✗ outer (a.go:1): inner (a.go:1): boom",
				"✗ outer (a.go:1): other (a.go:1): bust",
				"✗ outer (a.go:1): words (a.go:1): a b",
			},
			n: 3,
		},
		{
			name:  "of the outer step alone",
			steps: in(step("outer", errors.Join(of(inner), bust, goroutine)), inner),
			want: []string{
				"✗ outer (a.go:1): bust",
				"✗ outer (a.go:1): goroutine f: boom",
				"✗ outer (a.go:1): inner (a.go:1): boom",
			},
			n: 3,
		},
		{
			name:  "same text, other step",
			steps: in(step("outer", of(step("late", boom))), inner),
			want: []string{
				"✗ outer (a.go:1): late (a.go:1): boom",
				"✗ outer (a.go:1): inner (a.go:1): boom",
			},
			n: 2,
		},
		{
			name:  "repeated as a text",
			steps: in(step("outer", errors.New("quit: inner (a.go:1): boom")), inner),
			want:  []string{"✗ outer (a.go:1): inner (a.go:1): boom"},
			n:     1,
		},
		{
			name:  "repeated as a text, and more",
			steps: in(step("outer", errors.New("it is lost\nquit: inner (a.go:1): boom")), inner),
			want: []string{
				"✗ outer (a.go:1): it is lost",
				"✗ outer (a.go:1): inner (a.go:1): boom",
			},
			n: 2,
		},
		{
			name:  "the same error",
			steps: in(step("outer", boom), inner),
			want:  []string{"✗ outer (a.go:1): inner (a.go:1): boom"},
			n:     1,
		},
		{
			name:  "wrapped, which says more",
			steps: in(step("outer", fmt.Errorf("lost: %w", boom)), inner),
			want: []string{
				"✗ outer (a.go:1): lost: boom",
				"✗ outer (a.go:1): inner (a.go:1): boom",
			},
			n: 2,
		},
		{
			name:  "stacks and two failures",
			steps: in(twice, step("inner", nil)),
			want:  []string{"✗ outer: boom | x", "✗ outer: bust"},
			n:     2,
		},
		{
			name:  "abandoned with inner steps",
			steps: in(stuck("x"), inner),
			want: []string{
				"✗ stuck (a.go:1): abandoned after 1s | x",
				"✗ stuck (a.go:1): inner (a.go:1): boom",
			},
			n: 2,
		},
	} {
		got := timeline.New(timeline.Report{Steps: test.steps, Errs: test.errs})
		if got := told(got); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: Details = %q, want %q", test.name, got, test.want)
		}
		if got.Failures != test.n {
			t.Errorf("%s: Failures = %d, want %d", test.name, got.Failures, test.n)
		}
	}
}

func TestPanicStack(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	stacks := map[error]string{one: "stack of one", two: "stack of two"}
	r := timeline.Report{
		Steps:      []timeline.Step{step("a", one)},
		Errs:       []error{two},
		PanicStack: func(err error) string { return stacks[err] },
	}
	want := []string{"✗ a (a.go:1): one | stack of one", "✗: two | stack of two"}
	if got := told(timeline.New(r)); !reflect.DeepEqual(got, want) {
		t.Errorf("Details = %q, want %q", got, want)
	}
}

func TestRows(t *testing.T) {
	plan := timeline.Step{Name: "a", Site: "a.go:1", Phase: "closers"}
	running, abandoned := plan, step("a", nil)
	running.Start = at(time.Minute)
	abandoned.Abandoned = true
	later := step("a", nil)
	later.Start, later.End = at(-time.Second), at(time.Hour)
	for _, test := range []struct {
		name  string
		steps []timeline.Step
		want  string
	}{
		{
			name: "of each state",
			steps: []timeline.Step{
				step("a", nil),
				step("a", errors.New("x")),
				abandoned,
				running,
				plan,
			},
			want: "✓ok ✗FAILED ✗ABANDONED ▸running ·planned",
		},
		{
			name: "folded",
			steps: []timeline.Step{
				step("a", nil),
				later,
				step("a", errors.New("x")),
				step("a", errors.New("y")),
				abandoned,
				abandoned,
				running,
				running,
				plan,
				plan,
			},
			want: "✓ok×2 ✗FAILED×2 ✗ABANDONED×2 ▸running×2 ·planned×2",
		},
		{
			name:  "not in a row",
			steps: []timeline.Step{plan, step("a", nil), plan},
			want:  "·planned ✓ok ·planned",
		},
		{
			name: "other names, sites and phases",
			steps: []timeline.Step{
				plan,
				{Name: "b", Site: "a.go:1", Phase: "closers"},
				{Name: "b", Site: "b.go:1", Phase: "closers"},
				{Name: "b", Site: "b.go:1", Phase: "drain"},
			},
			want: "·planned ·planned ·planned ·planned",
		},
		{
			name:  "with inner steps",
			steps: append(in(plan, plan, plan), append(in(plan, plan), plan, plan)...),
			want:  "·planned >·planned×2 ·planned >·planned ·planned×2",
		},
		{
			name:  "with an inner step, after one without",
			steps: append([]timeline.Step{plan}, in(plan, plan)...),
			want:  "·planned ·planned >·planned",
		},
	} {
		var got []string
		rows := timeline.New(timeline.Report{Steps: test.steps}).Rows
		for _, w := range rows {
			depth := strings.Repeat(">", w.Depth)
			got = append(got, depth+w.State.Marker()+w.State.String()+w.Times())
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%s: rows = %s, want %s", test.name, got, test.want)
		}
		if w := rows[0]; test.name == "folded" && (w.Start != later.Start || w.End != later.End) {
			t.Errorf("folded: from %v to %v, want from %v to %v", w.Start, w.End, later.Start,
				later.End)
		}
	}
}

func TestStage(t *testing.T) {
	for _, test := range []struct {
		name   string
		report timeline.Report
		stage  timeline.Stage
		limit  time.Duration
		line   string
	}{
		{
			name:   "idle",
			report: timeline.Report{Taken: at(0), Deadline: at(25 * time.Second)},
			stage:  timeline.Idle,
			limit:  25 * time.Second,
			line:   "quit: not shutting down; a shutdown may take 25s",
		},
		{
			name: "fired",
			report: timeline.Report{
				Fired:    at(0),
				Taken:    at(5 * time.Second),
				Deadline: at(30 * time.Second),
			},
			stage: timeline.Fired,
			limit: 25 * time.Second,
			line:  "quit: shutdown requested 5s ago, not begun",
		},
		{
			name: "started",
			report: timeline.Report{
				Fired:    at(0),
				Started:  at(time.Second),
				Taken:    at(5 * time.Second),
				Deadline: at(26*time.Second - 1),
			},
			stage: timeline.Stopping,
			limit: 26 * time.Second,
			line:  "quit: shutting down for 5s of 26s",
		},
		{
			name: "stopped",
			report: timeline.Report{
				Fired:   at(0),
				Started: at(0),
				Ended:   at(2 * time.Second),
				Taken:   at(5 * time.Second),
			},
			stage: timeline.Stopped,
			limit: 0,
			line:  "quit: stopped after 2s, without a limit",
		},
		{
			name:   "short",
			report: timeline.Report{Fired: at(0), Started: at(0), Ended: at(10), Deadline: at(12)},
			stage:  timeline.Stopped,
			limit:  12,
			line:   "quit: stopped after 10ns of 12ns",
		},
		{
			name: "of few milliseconds",
			report: timeline.Report{Fired: at(0), Started: at(0), Ended: at(10),
				Deadline: at(15_400_000)},
			stage: timeline.Stopped,
			limit: 15 * time.Millisecond,
			line:  "quit: stopped after 10ns of 15ms",
		},
		{
			name: "of less than 10 ms",
			report: timeline.Report{Fired: at(0), Started: at(0), Ended: at(10),
				Deadline: at(9_400_000)},
			stage: timeline.Stopped,
			limit: 9_400_000,
			line:  "quit: stopped after 10ns of 9.4ms",
		},
		{
			name:   "late",
			report: timeline.Report{Fired: at(10), Started: at(10), Ended: at(10), Deadline: at(0)},
			stage:  timeline.Stopped,
			limit:  1,
			line:   "quit: stopped after 0s of 1ns",
		},
		{
			name:   "below zero",
			report: timeline.Report{Taken: at(0), Goroutines: -1},
			line:   "quit: not shutting down; a shutdown has no limit",
		},
		{
			name:   "counted",
			report: timeline.Report{Taken: at(0), Goroutines: 2},
			line:   "quit: not shutting down; a shutdown has no limit, 2 goroutines counted",
		},
	} {
		got := timeline.New(test.report)
		if got.Stage() != test.stage || got.Limit != test.limit {
			t.Errorf("%s: stage %d, limit %v, want %d, %v", test.name, got.Stage(), got.Limit,
				test.stage, test.limit)
		}
		if got := got.String(); got != test.line+"\n" {
			t.Errorf("%s: String() = %q, want %q", test.name, got, test.line+"\n")
		}
	}
}

// chain returns nested steps. err is the failure of the innermost one, and the
// others repeat it.
func chain(depth int, err error) timeline.Step {
	s := step("leaf", err)
	for i := range depth {
		outer := step(fmt.Sprint("event ", depth-i), nil)
		if err != nil {
			outer.Err = of(s)
		}
		outer.Steps = []timeline.Step{s}
		s = outer
	}
	return s
}

func TestIn(t *testing.T) {
	for _, test := range []struct {
		depth int
		want  string
	}{
		{depth: 0, want: ""},
		{depth: 2, want: "event 1 (a.go:1): event 2 (a.go:1)"},
		{
			depth: 8,
			want: "event 1 (a.go:1): event 2 (a.go:1): event 3 (a.go:1): event 4 (a.go:1): " +
				"event 5 (a.go:1): event 6 (a.go:1): event 7 (a.go:1): event 8 (a.go:1)",
		},
		{
			depth: 1009,
			want: "event 1 (a.go:1): event 2 (a.go:1): event 3 (a.go:1): event 4 (a.go:1): " +
				"… 1001 more …: event 1006 (a.go:1): event 1007 (a.go:1): " +
				"event 1008 (a.go:1): event 1009 (a.go:1)",
		},
	} {
		rows := timeline.New(timeline.Report{Steps: []timeline.Step{chain(test.depth, nil)}}).Rows
		if got := rows[len(rows)-1].In(); got != test.want {
			t.Errorf("In() at depth %d = %q, want %q", test.depth, got, test.want)
		}
	}
}

func TestErrorText(t *testing.T) {
	boom := errors.New("quit: boom\nand more\n")
	wrapped := fmt.Errorf("two: %w and %w", boom, boom)
	for _, test := range []struct {
		err  error
		want string
	}{
		{err: boom, want: "quit: boom\nand more"},
		{
			err:  &named{name: "a\tb", site: "x.go:1", err: boom},
			want: "quit: a\\tb (x.go:1): boom\nquit: a\\tb (x.go:1): and more",
		},
		{
			err: &named{
				name: "a",
				err:  errors.Join(errors.New("x"), &named{name: "b", err: errors.New("y")}),
			},
			want: "quit: a: x\nquit: a: b: y",
		},
		{err: &named{name: "a", err: errors.New("")}, want: "quit: a: "},
		{err: errors.Join(errors.New("x"), errors.New("y")), want: "x\ny"},
		{
			err: &named{name: "a", err: wrapped},
			want: "quit: a: two: quit: boom\nquit: a: and more\n" +
				"quit: a:  and quit: boom\nquit: a: and more",
		},
	} {
		if got := timeline.ErrorText(test.err); got != test.want {
			t.Errorf("ErrorText(%q) = %q, want %q", test.err, got, test.want)
		}
	}
}

// deep is a depth at which a quadratic cost would be noticed.
const deep = 100_000

func TestDeep(t *testing.T) {
	r := timeline.Report{
		Fired:   at(0),
		Started: at(0),
		Ended:   at(time.Second),
		Steps:   []timeline.Step{chain(deep, errors.New("boom"))},
	}
	r.Errs = []error{of(r.Steps[0])}
	asked = 0
	tl := timeline.New(r)
	if rows, n := len(tl.Rows), tl.Failures; rows != deep+1 || n != 1 || len(tl.Details) != 1 {
		t.Fatalf("%d rows, %d failures, %d details, want %d, 1, 1", rows, n, len(tl.Details),
			deep+1)
	}
	if title := tl.Details[0].Title; len(title) > 500 {
		t.Errorf("Title = %q, want it clipped", title)
	}
	if got := len(tl.String()); got > 200*deep {
		t.Errorf("String() has %d bytes, want %d at most", got, 200*deep)
	}
	b, err := r.JSON()
	if err != nil || len(b) > 100<<20 {
		t.Errorf("JSON() = %d bytes, %v, want 100 MB at most", len(b), err)
	}
	if asked > 20*deep {
		t.Errorf("the errors were asked for those in them %d times, want %d at most", asked,
			20*deep)
	}
	if !json.Valid(b) {
		t.Error("the JSON is not valid")
	}
}

// TestJSONDepth checks that steps that are nested too deep are counted.
func TestJSONDepth(t *testing.T) {
	for _, test := range []struct {
		depth, levels int
		last          string
	}{
		{depth: 999, levels: 1000, last: "leaf"},
		{depth: 1009, levels: 1001, last: "… 10 steps more, nested too deep"},
	} {
		r := timeline.Report{Steps: []timeline.Step{chain(test.depth, nil)}}
		b, err := r.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var last map[string]any
		if err := json.Unmarshal(b, &last); err != nil {
			t.Fatal(err)
		}
		levels := 0
		for ; last["steps"] != nil; levels++ {
			last = last["steps"].([]any)[0].(map[string]any)
		}
		if levels != test.levels || last["name"] != test.last || last["phase"] != "closers" {
			t.Errorf("%d levels of steps, the last of them %v, want %d and %q", levels, last,
				test.levels, test.last)
		}
	}
}

// TestJSONErr checks that a long error is cut if the inner steps tell all of
// it, and only then.
func TestJSONErr(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	inner, other := step("inner", errors.New(long)), step("other", errors.New("lost"))
	named := step(strings.Repeat("n", 5000), errors.New("lost"))
	crowd := errors.Join(of(named), of(named), of(named), of(named), of(named))
	for _, test := range []struct {
		name string
		step timeline.Step
		want int
		cut  bool
	}{
		{name: "leaf", step: inner, want: len(long)},
		{name: "repeats", step: in(step("outer", of(inner)), inner)[0], cut: true},
		{
			name: "repeats two",
			step: in(step("outer", errors.Join(of(inner), of(other))), inner, other)[0],
			cut:  true,
		},
		{
			name: "repeats little",
			step: in(step("outer", errors.Join(of(other), of(other))), other, other)[0],
		},
		{
			name: "repeats long names",
			step: in(step("outer", crowd), named, named, named, named, named)[0],
			cut:  true,
		},
		{
			name: "says more",
			step: in(step("outer", errors.Join(errors.New("more"), of(inner))), inner)[0],
			want: len(long),
		},
	} {
		b, err := test.step.JSON()
		var got struct{ Err string }
		if err == nil {
			err = json.Unmarshal(b, &got)
		}
		if n := strings.Count(got.Err, "x"); err != nil || n != test.want || got.Err == "" {
			t.Errorf("%s: %d of the error's bytes, %v, want %d", test.name, n, err, test.want)
		}
		cut := strings.HasSuffix(got.Err, "… more, which the inner steps tell")
		if cut != test.cut || cut && len(got.Err) > 17<<10 {
			t.Errorf("%s: %d bytes, cut: %v, want %v", test.name, len(got.Err), cut, test.cut)
		}
	}
}

func TestJSONTimes(t *testing.T) {
	zone := time.FixedZone("far", 30*60*60)
	for _, test := range []struct {
		t    time.Time
		want string
	}{
		{t: at(0), want: "2026-03-01T12:00:00Z"},
		{t: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), want: "9999-12-31T23:59:59.999999999Z"},
		{t: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), want: "0000-01-01T00:00:00Z"},
		{t: time.Date(0, 6, 1, 12, 0, 0, 0, zone), want: "0000-05-31T06:00:00Z"},
		{t: time.Unix(1<<60, 0), want: "9999-12-31T23:59:59.999999999Z"},
		{t: at(0).In(time.FixedZone("near", 60*60)), want: "2026-03-01T13:00:00+01:00"},
		{t: at(0).In(zone), want: "2026-03-01T12:00:00Z"},
	} {
		r := timeline.Report{Fired: test.t, Started: test.t, Deadline: test.t, Ended: test.t,
			Taken: test.t,
			Steps: []timeline.Step{{Start: test.t, Deadline: test.t, End: test.t}}}
		b, err := r.JSON()
		if n := strings.Count(string(b), `"`+test.want+`"`); err != nil || n != 8 {
			t.Errorf("JSON() with %v = %s, %v, want %s 8 times", test.t, b, err, test.want)
		}
	}
}

// TestDrawnDetails checks that a missing title, text or stack leaves no gap.
func TestDrawnDetails(t *testing.T) {
	waiting := timeline.Step{Name: "web", Start: at(0), Detail: "3 busy connections"}
	running := timeline.Step{Name: "busy", Start: at(0), Stacks: "here\n"}
	longer := running
	longer.Start = at(-time.Second)
	drain := timeline.Step{Name: "drain", Phase: "drain", Start: at(0),
		Deadline: at(18 * time.Second)}
	outer := timeline.Step{Name: "group", Start: at(0), Deadline: at(time.Minute)}
	outer.Steps = []timeline.Step{drain} // with a counter of its own
	drained := timeline.Step{Name: "drain", Start: at(0), End: at(1),
		Stacks: "there\n\nand there\n"}
	failed := step("db", errors.New("lost\nand gone"))
	failed.Stacks = "was here\n"
	limited := timeline.Step{Name: "mail", Start: at(0), Detail: "3 letters"}
	limited.Deadline = at(20 * time.Second)
	r := timeline.Report{
		Fired:      at(0),
		Started:    at(0),
		Taken:      at(2 * time.Second),
		Goroutines: 3,
		Steps: []timeline.Step{failed, drained, running, longer, running, waiting, limited,
			drain, outer},
		Errs: []error{errors.New("of the event\nalone")},
	}
	_, got, _ := strings.Cut(timeline.New(r).String(), "\n\n")
	const want = "✗ db (a.go:1): lost\n  and gone\n    was here\n" +
		"\n✓ drain\n    there\n    and there\n" +
		"\n▸ busy ×3: running for 3s\n    here\n" +
		"\n▸ web: running for 2s, 3 busy connections\n" +
		"\n▸ mail: running for 2s of 20s, 3 letters\n" +
		"\n▸ drain: running for 2s of 18s, 3 goroutines counted\n" +
		"\n▸ group: drain: running for 2s of 18s\n" +
		"\n✗ of the event\n  alone\n"
	if got != want {
		t.Errorf("details:\n%s\nwant:\n%s", got, want)
	}
}

// TestWaits checks the reason why a step has not ended, and how much time it
// may use.
func TestWaits(t *testing.T) {
	drain := timeline.Step{Phase: "drain", Start: at(0)}
	for n, want := range []string{"", "1 goroutine counted", "2 goroutines counted"} {
		r := timeline.Report{Goroutines: n, Steps: []timeline.Step{drain}}
		if got := timeline.New(r).Rows[0].Waits; got != want {
			t.Errorf("Waits with %d goroutines = %q, want %q", n, got, want)
		}
	}
	ended := step("web", nil)
	ended.Detail = "3 busy connections"
	r := timeline.Report{Steps: []timeline.Step{ended}}
	if got := timeline.New(r).Rows[0].Waits; got != "" {
		t.Errorf("Waits of a step that has ended = %q, want none", got)
	}
	drain.Deadline = drain.Start
	if got := drain.Share(); got <= 0 {
		t.Errorf("Share() without time = %v, want more than 0, which is no limit", got)
	}
}

// TestWidest checks that a long name leaves room for the number of steps, and
// that the longest time with minutes fits.
func TestWidest(t *testing.T) {
	s := step(strings.Repeat("n", 30), nil)
	s.End = at(1000*time.Hour - time.Minute)
	steps := []timeline.Step{s, s, s}
	r := timeline.Report{Fired: at(0), Started: at(0), Ended: s.End, Steps: steps}
	got := timeline.New(r).String()
	want := "\n  " + strings.Repeat("n", 22) + "… ×3 a.go:1 999h59m █"
	if !strings.Contains(got, want) {
		t.Errorf("String() = %s, want %q in it", got, want)
	}
}

// TestBars checks that a step that took no time has a bar, and that a failure
// has another kind of bar.
func TestBars(t *testing.T) {
	brief := timeline.Step{Name: "brief", Start: at(0), End: at(0)}
	whole := timeline.Step{Name: "whole", Start: at(0), End: at(2 * time.Second)}
	lost := timeline.Step{Name: "lost", Start: at(0), End: at(2 * time.Second),
		Err: errors.New("lost")}
	r := timeline.Report{
		Fired:   at(0),
		Started: at(0),
		Ended:   at(2 * time.Second),
		Steps:   []timeline.Step{brief, whole, lost, {Name: "plan"}},
	}
	lines := strings.Split(timeline.New(r).String(), "\n")[2:]
	for i, want := range []string{"▏", strings.Repeat("█", 53), strings.Repeat("▒", 53), ""} {
		var bar strings.Builder
		for _, c := range lines[i] {
			if strings.ContainsRune("▏▎▍▌▋▊▉█▒", c) {
				bar.WriteRune(c)
			}
		}
		if bar.String() != want {
			t.Errorf("bar %d = %q, want %q, in %q", i, bar.String(), want, lines[i])
		}
	}
}
