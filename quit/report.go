package quit

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"weak"
)

// Report is a snapshot of an event: before the fire, the plan; during the
// shutdown, its progress; after it, what happened. It is a value: it does not change,
// holds no lock, and outlives its event.
type Report struct {
	Cause      error     // why it fired; nil before the fire
	Fired      time.Time // zero before the fire
	Started    time.Time // of the shutdown; zero before
	Deadline   time.Time // of the shutdown; before it has started, as if it did so now; zero: no limit
	Ended      time.Time // of the shutdown; zero before
	Goroutines int       // counted now
	Steps      []Step    // begun, in that order, and then those planned, in theirs

	taken time.Time // when the snapshot was taken
	err   error     // what failed so far

	failures int // in err

	event   weak.Pointer[QuitEvent] // for Changed: a report that is kept does not keep the event
	version uint64                  // of the event, and of those in it
}

// Step is one step of a shutdown: a closer, the delay or the drain.
type Step struct {
	Name, Site string // Site is dir/file.go:line, and "" for what was not registered
	Phase      Phase
	Start      time.Time // zero before
	Deadline   time.Time // the end of its share, when its context expires; zero: before, or no limit
	End        time.Time // zero before
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

// Err returns what [QuitEvent.Shutdown] returned, and nil before the shutdown has ended.
func (r Report) Err() error {
	if r.Ended.IsZero() {
		return nil
	}
	return r.err
}

// MarshalJSON returns all of the report, with errors as their texts.
func (r Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Cause      string    `json:"cause,omitempty"`
		Fired      time.Time `json:"fired,omitzero"`
		Deadline   time.Time `json:"deadline,omitzero"`
		Ended      time.Time `json:"ended,omitzero"`
		Taken      time.Time `json:"taken,omitzero"`
		Goroutines int       `json:"goroutines"`
		Failures   []string  `json:"failures,omitempty"`
		Steps      []Step    `json:"steps"`
	}{errorText(r.Cause), r.Fired, r.Deadline, r.Ended, r.taken, r.Goroutines, failureLines(r.err), r.Steps})
}

// MarshalJSON returns all of the step, with its error as a text.
func (s Step) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name      string    `json:"name"`
		Site      string    `json:"site,omitempty"`
		Phase     Phase     `json:"phase"`
		Start     time.Time `json:"start,omitzero"`
		End       time.Time `json:"end,omitzero"`
		Err       string    `json:"err,omitempty"`
		Abandoned bool      `json:"abandoned,omitempty"`
		Stacks    string    `json:"stacks,omitempty"`
		Steps     []Step    `json:"steps,omitempty"`
	}{s.Name, s.Site, s.Phase, s.Start, s.End, errorText(s.Err), s.Abandoned, s.Stacks, s.Steps})
}

// failureLines returns the lines of what Shutdown returns.
func failureLines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(strings.TrimRight(errorText(err), "\n"), "\n")
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
	// The cause comes after the steps: they begin after the fire, so a report that
	// has begun steps has the cause.
	if r.Cause = q.Cause(); r.Cause != nil {
		r.Fired = q.event.at
	}
	r.Goroutines = int(max(q.count.count(), 0))
	r.taken, r.event = now, weak.Make(q)
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
			r.version += inner.version
		}
		if w.running != nil {
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
	running *step // or nil
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

// report returns the state as a report: the steps that have begun, and those that
// wait, in the order in which they would begin.
func (s *schedule) report(now time.Time) (r Report, raws []raw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r = Report{Started: s.started, Deadline: s.deadline, Ended: s.ended, version: s.version, failures: len(s.failures)}
	if r.err = s.err; s.ended.IsZero() {
		r.err = join(s.failures...)
	}
	for _, st := range s.steps {
		w := raw{name: st.title, site: st.site, child: st.child, Step: Step{Phase: st.phase, Start: st.start,
			Deadline: st.deadline, End: st.end, Err: st.err, Abandoned: st.abandoned, Stacks: st.stacks}}
		if st.end.IsZero() {
			w.running = st
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
