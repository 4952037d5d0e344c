package quit

import (
	"cmp"
	"slices"
	"time"
	"weak"

	"github.com/gracefulgo/graceful/internal/timeline"
)

// Report is a snapshot of an event: the plan before the fire, the progress
// during the shutdown, and the outcome after it. A Report is a value that does
// not change. It holds no lock, and outlives its event. Before the shutdown has
// started, Deadline is that of a shutdown that starts at the time of the
// report.
type Report struct {
	Cause      error     // the cause of the fire; nil before it
	Fired      time.Time // the time of the fire; zero before it
	Started    time.Time // the start of the shutdown, at the fire or later; zero before it
	Deadline   time.Time // the deadline of the shutdown; zero if there is no limit
	Ended      time.Time // the end of the shutdown; zero before it
	Goroutines int       // the number of counted goroutines
	Steps      []Step    // the steps that have begun, then the planned steps, each in order

	taken    time.Time // when the snapshot was taken
	err      error     // the result of Shutdown; nil until it has ended
	failures []error   // all so far

	event   weak.Pointer[QuitEvent] // for Changed; a report does not keep its event alive
	version uint64                  // of the event and its nested events
}

// Step is one step of a shutdown: a closer, the delay or the drain.
type Step struct {
	Name, Site string // Site is dir/file.go:line; "" for the delay and the drain
	Phase      Phase
	Start      time.Time // zero until the step begins
	Deadline   time.Time // the end of the share; zero until the step begins, or for no limit
	End        time.Time // zero until the step is over
	Detail     string    // progress that a running closer reports, such as "3 busy connections"
	Err        error     // the failures, without the name and site of the step
	Abandoned  bool      // the step did not return in time, and was no longer waited for
	Stacks     string    // of the goroutines that held up an abandoned step or the drain
	Steps      []Step    // of the event that is shut down in this step
}

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

// Err returns the result of [QuitEvent.Shutdown]. It is nil until the shutdown
// has ended.
func (r Report) Err() error { return r.err }

// String draws the report as a timeline for a terminal of 80 columns. The line
// of a step has its name, its site, the time taken, a bar on the common time
// axis, and the outcome. Steps that are alike are folded into one line. A step
// that has failed or hangs is marked in the first column, and described once
// below, with its stacks. The text of a very long error is cut.
func (r Report) String() string { return timeline.New(r.timeline()).String() }

// MarshalJSON returns all of the report, with errors as texts. It never fails.
// Steps that are nested a thousand deep are only counted. A long error that
// only repeats the errors of inner steps is cut. A time that JSON cannot
// represent is replaced by the nearest one that it can.
func (r Report) MarshalJSON() ([]byte, error) {
	t := r.timeline()
	return t.JSON()
}

// MarshalJSON returns all of the step, in the form that it has in the JSON of a
// report.
func (s Step) MarshalJSON() ([]byte, error) {
	t := timelineSteps([]Step{s})
	return t[0].JSON()
}

// timeline returns the report in the form that package timeline draws.
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
	all := make([]timeline.Step, 0, len(steps))
	for _, s := range steps {
		all = append(all, timeline.Step{
			Name:      s.Name,
			Site:      s.Site,
			Phase:     s.Phase.String(),
			Start:     s.Start,
			Deadline:  s.Deadline,
			End:       s.End,
			Detail:    s.Detail,
			Err:       s.Err,
			Abandoned: s.Abandoned,
			Stacks:    s.Stacks,
			Steps:     timelineSteps(s.Steps),
		})
	}
	return all
}

// Package quithttp draws its status page from the same timeline. Only this
// package can make a timeline from a report.
var _ = timeline.Bind(Report.timeline)

// panicStack returns the stack of a panic in err, or "".
func panicStack(err error) (stack string) {
	visit(err, func(e error) bool {
		p, ok := e.(*PanicError)
		if ok {
			stack = string(p.Stack)
		}
		return ok
	})
	return stack
}

// Report returns a snapshot of the event, with the steps of its nested events.
// It may be called at any time. An event that is registered more than once, or
// with itself through others, is shown once.
func (q *QuitEvent) Report() Report { return q.report(make(map[*QuitEvent]bool), nil) }

// report is Report without the steps of the events in seen. Steps that still
// run get their stacks from all.
func (q *QuitEvent) report(seen map[*QuitEvent]bool, all map[string]string) Report {
	seen[q] = true
	now := time.Now()
	r, raws := q.sched.report(now)
	// The cause is read after the steps. Steps begin after the fire, so a
	// report with a begun step has a cause.
	if r.Cause = q.Cause(); r.Cause != nil {
		r.Fired = q.event.at
	}
	r.Goroutines = int(max(q.count.count(), 0))
	r.taken, r.event, r.version = now, weak.Make(q), q.mix(0, r.version)
	if r.Started.IsZero() {
		r.Deadline = after(now, q.timeout())
		raws = append(raws, q.ownRaws()...)
		slices.SortStableFunc(raws, func(a, b raw) int { return cmp.Compare(a.Phase, b.Phase) })
	}
	for _, w := range raws {
		w.Name, w.Site = w.title(), siteText(w.site)
		if w.child != nil && !seen[w.child] {
			inner := w.child.report(seen, all)
			w.Steps = inner.Steps
			r.version = w.child.mix(r.version, inner.version)
		}
		if w.running != nil {
			if w.detail != nil {
				w.Detail = w.detail()
			}
			if stacks := w.running.heldUpBy(all); stacks != "" { // else those of its failure stay
				w.Stacks = stacks
			}
		}
		r.Steps = append(r.Steps, w.Step)
	}
	return r
}

// raw is a step whose name, site and inner steps are looked up after the
// schedule's mu is unlocked.
type raw struct {
	Step
	name    string // "": the closer's default
	closer  closer
	site    uintptr
	child   *QuitEvent
	running *step         // or nil
	detail  func() string // of the running step
}

func (w *raw) title() string {
	if w.name != "" {
		return w.name
	}
	return w.closer.name()
}

// rawOf returns the raw step of an entry that waits for phase p.
func rawOf(e *entry, p Phase) raw {
	return raw{
		Step:   Step{Phase: p},
		name:   e.name,
		closer: e.closer,
		site:   e.site,
		child:  e.closer.child(),
	}
}

// ownRaws returns the drain, and the delay if there is one, as planned steps.
func (q *QuitEvent) ownRaws() []raw {
	raws := []raw{rawOf(q.own(PhaseDrain), PhaseDrain)}
	if q.Delay > 0 {
		raws = append(raws, rawOf(q.own(PhaseDelay), PhaseDelay))
	}
	return raws
}

// report returns the state as a report. The raw steps are those that have
// begun, and then those that wait, in the order in which they would begin.
func (s *schedule) report(now time.Time) (r Report, raws []raw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r = Report{
		Started:  s.started,
		Deadline: s.deadline,
		Ended:    s.ended,
		version:  s.version,
		failures: slices.Clone(s.failures),
		err:      s.err,
	}
	for _, st := range s.steps {
		w := raw{name: st.title, site: st.site, child: st.child, Step: Step{
			Phase:     st.phase,
			Start:     st.start,
			Deadline:  st.deadline,
			End:       st.end,
			Err:       st.err,
			Abandoned: st.abandoned,
			Stacks:    st.stacks,
		}}
		if st.end.IsZero() {
			w.running, w.detail = st, st.detail
		}
		raws = append(raws, w)
	}
	for p := PhaseDelay; p < phaseEnded; p++ {
		for e := s.waiting[p].last; e != nil; e = e.prev {
			raws = append(raws, rawOf(e, p))
		}
	}
	return r, raws
}
