// Package timeline prepares a report of package quit for drawing. Steps become
// rows, and each failure is described once. The text for a terminal, the status
// page and the JSON are made from it.
package timeline

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/gracefulgo/graceful/internal/text"
)

// Report is a copy of a quit.Report. Package quit imports this package, so this
// package cannot import quit.
type Report struct {
	Cause                                  error
	Fired, Started, Deadline, Ended, Taken time.Time
	Goroutines                             int
	Errs                                   []error // all failures, including those of the steps
	Steps                                  []Step

	// PanicStack returns the stack of the panic in an error, or "".
	PanicStack func(error) string
}

// Step is a copy of a quit.Step.
type Step struct {
	Name, Site, Phase    string
	Start, Deadline, End time.Time
	Detail               string
	Err                  error
	Abandoned            bool
	Stacks               string
	Steps                []Step
}

// of converts a quit.Report. It is set by Bind.
var of func(report any) Report

// Bind sets the function with which Of converts a report. T is quit.Report.
func Bind[T any](convert func(T) Report) struct{} {
	of = func(report any) Report { return convert(report.(T)) }
	return struct{}{}
}

// Of returns the timeline of a quit.Report.
func Of(report any) *Timeline { return New(of(report)) }

// Timeline is a report prepared for drawing.
type Timeline struct {
	Report
	Reason   string        // the cause, on one line
	Limit    time.Duration // of the shutdown; 0: none
	Rows     []Row
	Details  []Detail // too long for the rows, in the order of the rows
	Failures int      // counts each failure that Details folds
}

// Row is a step, or several adjacent steps that are alike.
type Row struct {
	*Step      // the first of them
	State      State
	Waits      string    // the reason why a running step has not ended, if known
	Start, End time.Time // of all of them
	Depth      int       // number of steps around it
	Folded     int       // number of steps in it
	Tells      bool      // it has Details
	in         path
}

// Detail is a failure, several equal failures, or a step that still runs or has
// stacks.
type Detail struct {
	State  State         // of the step; Failed for a failure outside the steps
	Title  string        // names of the step and the steps around it; "" for the event
	Text   string        // lines of the error, or Row.Waits; may be ""
	Stacks string        // lines
	Since  time.Time     // start of the step; zero for a failure outside the steps
	Share  time.Duration // time that the step may use; 0: no limit
	Count  int
}

// State is the state of a step.
type State int

// The states of a step.
const (
	Planned State = iota
	Running
	OK
	Failed
	Abandoned
)

// Marker returns the sign for a state, which needs no colour.
func (s State) Marker() string { return [...]string{"·", "▸", "✓", "✗", "✗"}[s] }

// String returns the word for a state.
func (s State) String() string {
	return [...]string{"planned", "running", "ok", "FAILED", "ABANDONED"}[s]
}

// State returns the state of the step.
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

// Stage is the stage of an event.
type Stage int

// The stages of an event, in order.
const (
	Idle     Stage = iota // not fired
	Fired                 // and not shut down
	Stopping              // the shutdown runs
	Stopped               // the shutdown has ended
)

// Stage returns the stage of the event.
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

// Begin returns the start of the time axis, which is the time of the fire.
func (r *Report) Begin() time.Time { return cmp.Or(r.Fired, r.Started, r.Taken) }

// Until returns the last moment that the report covers: the end of the
// shutdown, or the time of the snapshot.
func (r *Report) Until() time.Time { return cmp.Or(r.Ended, r.Taken) }

// New returns the timeline of r. The cost is linear in the size of r, even for
// deeply nested steps.
func New(r Report) *Timeline {
	r.Taken = cmp.Or(r.Taken, r.Ended, r.Started, r.Fired)
	r.Goroutines = max(r.Goroutines, 0)
	t := &Timeline{Report: r}
	t.Reason = text.OneLine(text.Head(strings.TrimPrefix(text.Error(r.Cause), "quit: "), 1000))
	if !r.Deadline.IsZero() {
		from := r.Begin()
		if r.Stage() < Stopping {
			from = r.Taken // the deadline assumes a shutdown that starts now
		}
		t.Limit = max(r.Deadline.Sub(from), 1)
		if t.Limit > 10*time.Millisecond {
			t.Limit = t.Limit.Round(time.Millisecond) // it began just before the fire
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
	details map[detailKey]int // index in Details
}

// addSteps adds rows and details for steps and their inner steps.
func (b *builder) addSteps(steps []Step, depth int, in path) {
	last := -1 // index of the row into which the next step may be folded
	for i := range steps {
		s := &steps[i]
		state := s.State()
		if last < 0 || len(s.Steps) > 0 || !b.Rows[last].alike(s, state) {
			b.Rows = append(b.Rows, Row{
				Step:  s,
				State: state,
				Waits: b.waits(s, depth),
				Start: s.Start,
				End:   s.End,
				Depth: depth,
				in:    in,
			})
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
		row.Tells = b.addDetails(s, state, row.Waits, in) || row.Tells
		if len(s.Steps) > 0 {
			b.addSteps(s.Steps, depth+1, in.with(shortTitle(s.Name, s.Site)))
			last = -1
		}
	}
}

// waits returns the reason why a running step has not ended, or "". The drain
// of the event itself waits for the counted goroutines.
func (r *Report) waits(s *Step, depth int) string {
	switch {
	case s.State() != Running:
		return ""
	case s.Detail == "" && depth == 0 && s.Phase == "drain" && r.Goroutines > 0:
		return text.Plural(r.Goroutines, "goroutine") + " counted"
	}
	return text.OneLine(s.Detail)
}

// Share returns the time that the step may use, from its start. 0 means no
// limit.
func (s *Step) Share() time.Duration {
	if s.Deadline.IsZero() {
		return 0
	}
	return max(s.Deadline.Sub(s.Start), 1)
}

// alike reports whether s, which has no inner steps, may be folded into the
// row. It may if they differ only in their times and failures.
func (r *Row) alike(s *Step, state State) bool {
	return r.State == state && r.Name == s.Name && r.Site == s.Site && r.Phase == s.Phase
}

// Times returns the number of steps in the row as "×3", and "" for one.
func (r *Row) Times() string { return times(r.Folded) }

// In returns the names of the steps around the row, the outermost first.
func (r *Row) In() string { return r.in.String() }

func times(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf("×%d", n)
}

// Title returns the name and site of a step, in the form that errors have.
func Title(name, site string) string {
	if site == "" {
		return text.OneLine(name)
	}
	return text.OneLine(name) + " (" + site + ")"
}

// shortTitle is like Title, but cuts a long name.
func shortTitle(name, site string) string {
	return Title(text.Clip(name, 120), text.OneLine(site))
}

// path lists the steps around a step. A long path keeps the outermost and the
// innermost steps only, so its cost does not grow with the depth.
type path struct {
	names []string
	left  int // number of names left out in the middle
}

const pathEnds = 4 // names at each end of a long path

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
