package quit

import (
	"slices"
	"time"

	"github.com/gracefulgo/graceful/internal/timeline"
)

// Report is a snapshot of an event: before the fire, the plan; during the
// shutdown, its progress; after it, what happened. It is a value: it does not
// change, holds no lock, and outlives its event.
type Report struct {
	Cause      error     // why it fired; nil before the fire
	Fired      time.Time // zero before the fire
	Started    time.Time // of the shutdown, which may be later than the fire; zero before
	Deadline   time.Time // of the shutdown; before it has started, as if it did so now; zero: no limit
	Ended      time.Time // of the shutdown; zero before
	Goroutines int       // counted now
	Steps      []Step    // begun, in that order, and then those planned, in theirs

	taken    time.Time // when the snapshot was taken
	err      error     // what failed so far
	failures []error   // that err is made of
}

// Step is one step of a shutdown: a closer, the delay or the drain.
type Step struct {
	Name, Site string // Site is dir/file.go:line, and "" for what was not registered
	Phase      Phase
	Start      time.Time // zero before
	Deadline   time.Time // the end of its share of the time; zero before, and if there is no limit
	End        time.Time // zero before
	Err        error     // what counts as a failure, without the name and site of the step
	Abandoned  bool      // it did not return in its share of the time, and then was not waited for
	Stacks     string    // of the goroutines that held up a step that was abandoned or given up
	Steps      []Step    // of the event that is closed in this step
}

// Phase is the part of a shutdown that a step belongs to.
type Phase int

// The phases, in their order.
const (
	PhaseDelay      = Phase(phaseDelay)
	PhaseClosers    = Phase(phaseClosers)
	PhaseDrain      = Phase(phaseDrain)
	PhaseAfterDrain = Phase(phaseAfterDrain)
)

// String returns the name of the phase: "delay", "closers", "drain" or "after
// drain".
func (p Phase) String() string {
	switch p {
	case PhaseDelay:
		return "delay"
	case PhaseClosers:
		return "closers"
	case PhaseDrain:
		return "drain"
	case PhaseAfterDrain:
		return "after drain"
	}
	return "none"
}

// MarshalText returns the name of the phase.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Err returns what [QuitEvent.Shutdown] returned, and nil before the shutdown
// has ended.
func (r Report) Err() error {
	if r.Ended.IsZero() {
		return nil
	}
	return r.err
}

// String draws the report as a timeline for a terminal of 80 columns: a line a
// step with its name, site, time taken, a bar on the common time axis, and the
// outcome. Steps that are alike are folded into one line. What failed or hangs
// is marked in the first column, and told below, once, with its stacks. A text
// of an error that is very long is cut.
func (r Report) String() string { return timeline.New(r.timeline()).String() }

// MarshalJSON returns all of the report, with errors as their texts. It does
// not fail. Steps that are nested a thousand deep are only counted, an error is
// cut if it is long and only repeats those of inner steps, and a time that JSON
// cannot have is replaced by the nearest that it can.
func (r Report) MarshalJSON() ([]byte, error) {
	t := r.timeline()
	return t.JSON()
}

// MarshalJSON returns all of the step, with its error as a text, as in a
// report.
func (s Step) MarshalJSON() ([]byte, error) {
	t := timelineSteps([]Step{s})
	return t[0].JSON()
}

// timeline returns the report as package timeline has it, which draws it.
func (r Report) timeline() timeline.Report {
	return timeline.Report{
		Cause:      r.Cause,
		Fired:      r.Fired,
		Started:    r.Started,
		Deadline:   r.Deadline,
		Ended:      r.Ended,
		Taken:      r.taken,
		Goroutines: r.Goroutines,
		Errs:       r.failures,
		Steps:      timelineSteps(r.Steps),
		PanicStack: panicStack,
	}
}

func timelineSteps(steps []Step) []timeline.Step {
	if len(steps) == 0 {
		return nil
	}
	all := make([]timeline.Step, 0, len(steps))
	for _, s := range steps {
		all = append(all, timeline.Step{
			Name:      s.Name,
			Site:      s.Site,
			Phase:     s.Phase.String(),
			Start:     s.Start,
			Deadline:  s.Deadline,
			End:       s.End,
			Err:       s.Err,
			Abandoned: s.Abandoned,
			Stacks:    s.Stacks,
			Steps:     timelineSteps(s.Steps),
		})
	}
	return all
}

// The status page is drawn from the same timeline, with what only this package
// knows of a report.
var _ = timeline.Bind(Report.timeline)

// panicStack returns the stack of the panic that err is of, or "".
func panicStack(err error) (stack string) {
	defer func() { recover() }() // the methods of err are not ours
	most := 1000                 // an Unwrap may return its own error again
	if p := findPanic(err, &most); p != nil {
		return string(p.Stack)
	}
	return ""
}

// findPanic is errors.As, for so many errors at most.
func findPanic(err error, most *int) *PanicError {
	for ; *most > 0; *most-- {
		switch e := err.(type) {
		case *PanicError:
			return e
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				if p := findPanic(err, most); p != nil {
					return p
				}
			}
			return nil
		default:
			return nil
		}
	}
	return nil
}

// Report returns a snapshot, at any time, with the steps of the events that are
// registered with this one. An event that is registered more than once, or with
// itself through others, is shown once.
func (q *QuitEvent) Report() Report { return q.report(make(map[*QuitEvent]bool), nil) }

// report is Report without the steps of events that were seen before, and with
// their stacks, of all, for the steps that still run.
func (q *QuitEvent) report(seen map[*QuitEvent]bool, all map[string]string) Report {
	seen[q] = true
	r := Report{Cause: q.Cause(), Goroutines: int(max(q.count.count(), 0))}
	if r.Cause != nil {
		r.Fired = q.event.at
	}
	if q.ended.HasFired() {
		r.Ended = q.ended.at
	}
	r.taken = time.Now()

	q.mu.Lock()
	r.Deadline = q.deadline
	if q.phase == phaseIdle {
		r.Deadline = after(r.taken, q.timeout())
	}
	r.failures = slices.Clone(q.failures)
	if len(q.steps) > 0 {
		r.Started = q.steps[0].start
	}
	if r.err = q.err; q.phase != phaseEnded {
		r.err = join(q.failures...)
	}
	type raw struct { // a step whose name, site and inner steps are looked up once the lock is free
		*entry
		Step
		running *step // or nil
	}
	var raws []raw
	for _, s := range q.steps {
		r := raw{entry: s.entry, Step: Step{Phase: Phase(s.phase), Start: s.start, End: s.end, Abandoned: s.abandoned, Stacks: s.stacks}}
		if s.end.IsZero() {
			r.running = s
		}
		if s.share > 0 {
			r.Deadline = s.start.Add(s.share)
		}
		if named, ok := s.err.(*namedError); ok {
			r.Err = named.err
		}
		raws = append(raws, r)
	}
	for p := phaseDelay; p < phaseEnded; p++ {
		if q.phase == phaseIdle && (p == phaseDelay || p == phaseDrain) {
			raws = append(raws, raw{entry: q.builtin(p), Step: Step{Phase: Phase(p)}})
		}
		for e := q.queues[p].last; e != nil; e = e.prev {
			raws = append(raws, raw{entry: e, Step: Step{Phase: Phase(p)}})
		}
	}
	q.mu.Unlock()

	for _, w := range raws {
		if w.Phase == PhaseDelay && q.Delay <= 0 && w.Err == nil {
			continue // it only announces the shutdown
		}
		w.Name, w.Site = w.title(), w.siteText()
		if child, ok := w.closer.(*QuitEvent); ok && child != nil && !seen[child] {
			w.Steps = child.report(seen, all).Steps
		}
		if w.running != nil {
			w.Stacks = w.running.heldUpBy(all)
		}
		r.Steps = append(r.Steps, w.Step)
	}
	return r
}
