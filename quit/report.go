package quit

import (
	"cmp"
	"slices"
	"time"
	"weak"

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

	event   weak.Pointer[QuitEvent] // for Changed: a report that is kept does not keep the event
	version uint64                  // of the event, and of those in it
}

// Step is one step of a shutdown: a closer, the delay or the drain.
type Step struct {
	Name, Site string // Site is dir/file.go:line, and "" for what was not registered
	Phase      Phase
	Start      time.Time // zero before
	Deadline   time.Time // the end of its share of the time; zero before, and if there is no limit
	End        time.Time // zero before
	Detail     string    // what the step waits for, while it runs, if its closer can tell: "3 busy connections"
	Err        error     // what counts as a failure, without the name and site of the step
	Abandoned  bool      // it did not return in its share of the time, and then was not waited for
	Stacks     string    // of the goroutines that held up a step that was abandoned or given up
	Steps      []Step    // of the event that is closed in this step
}

// String returns the name of the phase: "delay", "closers", "drain" or "after drain".
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
			Detail:    s.Detail,
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
	visit(err, func(e error) bool {
		p, ok := e.(*PanicError)
		if ok {
			stack = string(p.Stack)
		}
		return ok
	})
	return stack
}

// Report returns a snapshot, at any time, with the steps of the events that are
// registered with this one. An event that is registered more than once, or with
// itself through others, is shown once.
func (q *QuitEvent) Report() Report { return q.report(make(map[*QuitEvent]bool), nil) }

// report is Report without the steps of events that were seen before, and with
// their stacks, of all, for the steps that still run.
func (q *QuitEvent) report(seen map[*QuitEvent]bool, all map[string]string) Report {
	seen[q] = true
	now := time.Now()
	r, raws := q.sched.report(now)
	// The cause comes after the steps: they begin after the fire, so a report
	// that has begun steps has the cause.
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
			w.Stacks = w.running.heldUpBy(all)
		}
		r.Steps = append(r.Steps, w.Step)
	}
	return r
}

// raw is a step whose name, site and inner steps are looked up once the lock is
// free.
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
	return raw{Step: Step{Phase: p}, name: e.name, closer: e.closer, site: e.site, child: e.closer.child()}
}

// ownRaws returns the steps of our own that a shutdown would have.
func (q *QuitEvent) ownRaws() []raw {
	raws := []raw{rawOf(q.own(PhaseDrain), PhaseDrain)}
	if q.Delay > 0 {
		raws = append(raws, rawOf(q.own(PhaseDelay), PhaseDelay))
	}
	return raws
}

// report returns the state as a report: the steps that have begun, and those
// that wait, in the order in which they would begin.
func (s *schedule) report(now time.Time) (r Report, raws []raw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r = Report{Started: s.started, Deadline: s.deadline, Ended: s.ended,
		version: s.version, failures: slices.Clone(s.failures)}
	if r.err = s.err; s.ended.IsZero() {
		r.err = join(s.failures...)
	}
	for _, st := range s.steps {
		w := raw{name: st.title, site: st.site, child: st.child, Step: Step{Phase: st.phase, Start: st.start,
			Deadline: st.deadline, End: st.end, Err: st.err, Abandoned: st.abandoned, Stacks: st.stacks}}
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
