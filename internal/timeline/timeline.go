// Package timeline makes a report of package quit ready to be drawn: its steps
// as rows, and its failures, each of them told once. The terminal's drawing,
// the status page and the JSON are made of it.
package timeline

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/gracefulgo/graceful/internal/text"
)

// Report is a quit.Report. That package imports this one, and so cannot be
// imported here.
type Report struct {
	Cause                                  error
	Fired, Started, Deadline, Ended, Taken time.Time
	Goroutines                             int
	Errs                                   []error // what failed, including what the steps tell
	Steps                                  []Step

	// PanicStack returns the stack of the panic that an error is of; "" if
	// there is none.
	PanicStack func(error) string
}

// Step is a quit.Step.
type Step struct {
	Name, Site, Phase    string
	Start, Deadline, End time.Time
	Detail               string
	Err                  error
	Abandoned            bool
	Stacks               string
	Steps                []Step
}

// of is set by Bind.
var of func(report any) Report

// Bind has Of use convert, which package quit knows: a T is a quit.Report.
func Bind[T any](convert func(T) Report) struct{} {
	of = func(report any) Report { return convert(report.(T)) }
	return struct{}{}
}

// Of returns the timeline of a quit.Report.
func Of(report any) *Timeline { return New(of(report)) }

// Timeline is a report that is ready to be drawn.
type Timeline struct {
	Report
	Reason   string        // the cause, on one line
	Limit    time.Duration // of the shutdown; 0: none
	Rows     []Row
	Details  []Detail // what the rows have no room for, in their order
	Failures int      // in Details, or more if Details folds some
}

// Row is a step, or several that follow each other and are alike.
type Row struct {
	*Step      // the first of them
	State      State
	Start, End time.Time // of all of them
	Depth      int       // how many steps it is in
	Folded     int       // how many steps it stands for
	Tells      bool      // it has Details
	in         path
}

// Detail is a failure, or several that are alike, or a step that has stacks to
// show.
type Detail struct {
	State  State     // of the step; Failed for a failure that is of no step
	Title  string    // the step and those it is in; "" for a failure of the event itself
	Text   string    // lines; "" if there is nothing but stacks to show
	Stacks string    // lines
	Since  time.Time // when the step began; zero for a failure that is of no step
	Count  int
}

// State is what became of a step.
type State int

// The states of a step.
const (
	Planned State = iota
	Running
	OK
	Failed
	Abandoned
)

// Marker returns the sign that a state is seen by, without colour.
func (s State) Marker() string { return [...]string{"·", "▸", "✓", "✗", "✗"}[s] }

// String returns the word for a state.
func (s State) String() string {
	return [...]string{"planned", "running", "ok", "FAILED", "ABANDONED"}[s]
}

// State returns what became of the step.
func (s *Step) State() State {
	switch {
	case s.Abandoned:
		return Abandoned
	case s.Err != nil:
		return Failed
	case s.Start.IsZero():
		return Planned
	case s.End.IsZero():
		return Running
	}
	return OK
}

// Stage is how far an event has come.
type Stage int

// The stages of an event, in their order.
const (
	Idle     Stage = iota // not fired
	Fired                 // but not shut down
	Stopping              // the shutdown runs
	Stopped               // the shutdown has ended
)

// Stage returns how far the event had come.
func (r *Report) Stage() Stage {
	switch {
	case !r.Ended.IsZero():
		return Stopped
	case !r.Started.IsZero():
		return Stopping
	case !r.Fired.IsZero():
		return Fired
	}
	return Idle
}

// Begin returns the time at which the axis begins: that of the fire.
func (r *Report) Begin() time.Time { return cmp.Or(r.Fired, r.Started, r.Taken) }

// Until returns the time up to which the report knows what happened: that of
// the end, or that at which the snapshot was taken.
func (r *Report) Until() time.Time { return cmp.Or(r.Ended, r.Taken) }

// New returns the timeline of r. Its cost is linear in the size of r, however
// deep the steps are nested.
func New(r Report) *Timeline {
	r.Taken = cmp.Or(r.Taken, r.Ended, r.Started, r.Fired)
	r.Goroutines = max(r.Goroutines, 0)
	t := &Timeline{Report: r}
	t.Reason = text.OneLine(text.Head(strings.TrimPrefix(text.Error(r.Cause), "quit: "), 1000))
	if !r.Deadline.IsZero() {
		from := r.Begin()
		if r.Stage() < Stopping {
			from = r.Taken // the deadline is that of a shutdown that starts now
		}
		t.Limit = max(r.Deadline.Sub(from), 1)
		if t.Limit > 10*time.Millisecond {
			t.Limit = t.Limit.Round(time.Millisecond) // since it began a moment before the fire
		}
	}
	b := builder{Timeline: t, details: make(map[detailKey]int)}
	b.addSteps(r.Steps, 0, path{})
	for _, err := range untold(r.Errs, r.Steps) {
		b.tell(Detail{State: Failed}, path{}, err)
	}
	return t
}

type builder struct {
	*Timeline
	details map[detailKey]int // their indexes
}

// addSteps adds rows for steps and for the steps in them, and the details of
// both.
func (b *builder) addSteps(steps []Step, depth int, in path) {
	last := -1 // the index of the row that the next step may be folded into
	for i := range steps {
		s := &steps[i]
		state := s.State()
		if last < 0 || len(s.Steps) > 0 || !b.Rows[last].alike(s, state) {
			row := Row{Step: s, State: state, Start: s.Start, End: s.End, Depth: depth, in: in}
			b.Rows = append(b.Rows, row)
			last = len(b.Rows) - 1
		}
		row := &b.Rows[last]
		row.Folded++
		if s.Start.Before(row.Start) {
			row.Start = s.Start
		}
		if s.End.After(row.End) {
			row.End = s.End
		}
		row.Tells = b.addDetails(s, state, in) || row.Tells
		if len(s.Steps) > 0 {
			b.addSteps(s.Steps, depth+1, in.with(shortTitle(s.Name, s.Site)))
			last = -1
		}
	}
}

// alike reports whether s, which has no inner steps, differs from the steps of
// the row in nothing but its times and its failure.
func (r *Row) alike(s *Step, state State) bool {
	return r.State == state && r.Name == s.Name && r.Site == s.Site && r.Phase == s.Phase
}

// Times says how many steps the row stands for, if not one.
func (r *Row) Times() string { return times(r.Folded) }

// In names the steps that the row is in, from the outermost.
func (r *Row) In() string { return r.in.String() }

func times(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf("×%d", n)
}

// Title names a step with the place where it was registered, as errors do.
func Title(name, site string) string {
	if site == "" {
		return text.OneLine(name)
	}
	return text.OneLine(name) + " (" + site + ")"
}

// shortTitle is Title for a headline, which need not have all of a long name.
func shortTitle(name, site string) string {
	return Title(text.Clip(name, 120), text.OneLine(site))
}

// path is the steps that a step is in: the outermost and the innermost of them
// if there are many, so that what it costs does not grow with the depth.
type path struct {
	names []string
	left  int // how many are left out, in the middle
}

const pathEnds = 4 // names at each end of a path in which some are left out

func (p path) with(name string) path {
	names := append(make([]string, 0, 2*pathEnds), p.names...)
	if len(names) == 2*pathEnds {
		names = append(names[:pathEnds], names[pathEnds+1:]...)
		p.left++
	}
	return path{append(names, name), p.left}
}

func (p path) String() string {
	if p.left == 0 {
		return strings.Join(p.names, ": ")
	}
	outer, inner := strings.Join(p.names[:pathEnds], ": "), strings.Join(p.names[pathEnds:], ": ")
	return fmt.Sprintf("%s: … %d more …: %s", outer, p.left, inner)
}
