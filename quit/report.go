package quit

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Report is a snapshot of an event: before the fire, the plan; during the
// shutdown, its progress; after it, what happened. It is a value: it does not change,
// holds no lock, and outlives its event.
type Report struct {
	Cause      error     // why it fired; nil before the fire
	Fired      time.Time // zero before the fire
	Deadline   time.Time // of the shutdown; before it has started, as if it did so now; zero: no limit
	Ended      time.Time // of the shutdown; zero before
	Goroutines int       // counted now
	Steps      []Step    // begun, in that order, and then those planned, in theirs

	taken time.Time // when the snapshot was taken
	err   error     // what failed so far

	failures int // in err
}

// Step is one step of a shutdown: a closer, the delay or the drain.
type Step struct {
	Name, Site string // Site is dir/file.go:line, and "" for what was not registered
	Phase      Phase
	Start, End time.Time // zero before
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

// errorText returns the text of err, or "" for nil. It is fmt's, which survives
// an Error method that panics, as that of a typed nil does.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprint(err)
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
	r.failures = len(q.failures)
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
