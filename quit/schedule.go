package quit

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Phase is the part of a shutdown that a step belongs to.
type Phase int

// The phases of a shutdown, in order.
const (
	phaseIdle       Phase = iota // no shutdown has started
	PhaseDelay                   // the delay, one step
	PhaseClosers                 // the closers without the option AfterDrain
	PhaseDrain                   // the drain, one step
	PhaseAfterDrain              // the closers with the option AfterDrain
)

const phaseEnded = PhaseAfterDrain + 1 // the shutdown has ended

// schedule is the state of an event's shutdown: the closers that wait, the
// steps that run, the failures, and the time that is left. It makes every
// change of that state. It is pure: it runs no user code, starts no goroutine,
// logs nothing and is told the time. So a test can try all its histories.
//
// A goroutine that ends a step, by returning from it or by abandoning it, then
// calls next. So does a goroutine that opens the shutdown, or that adds a
// closer that may begin at once. The result of next depends only on the entries
// that wait and the steps that run. So no goroutine owns the shutdown, and a
// call to next too many is harmless. If entries wait and no step runs, some
// goroutine is about to call next.
//
// Invariants, with mu free:
//   - An entry is in one stack, or has become one step, or was removed.
//   - running is the number of steps that have neither returned nor been
//     abandoned.
//   - A step of a phase begins only when no earlier phase has an entry left.
//   - One step runs at a time, unless the event is Concurrent or hurries.
//   - phase only grows. Once it is phaseEnded, steps, failures and err are
//     final.
type schedule struct {
	mu sync.Mutex // guards the fields below; a leaf: no lock is taken under it

	phase    Phase
	waiting  [phaseEnded]stack // by phase
	running  int
	used     bool    // a closer was registered
	steps    []*step // begun, in that order
	failures []error // in the order in which they happened

	// Set by the first call to limit:
	base     context.Context // of all steps
	by       *step           // the parent's step that shuts this event down, or nil
	began    time.Time       // the start of the time that is shared out
	deadline time.Time       // D; zero: no limit
	reserve  time.Duration   // R; kept back until the rest has been used up

	hurry time.Time // the end of the reserve; zero until only the reserve is left

	started time.Time // the time of open
	ended   time.Time // the end of the last step; set by conclude
	err     error     // the result; set by conclude

	nameless []*step // abandoned steps whose stacks no goroutine takes yet

	owed  int           // steps whose stacks have not been taken
	clear chan struct{} // closed when owed falls to zero; nil if nobody waits

	inner   []*QuitEvent // events that the steps shut down
	callees []*QuitEvent // events that the steps called after these had ended

	version  uint64   // the number of changes
	watchers []*watch // told of the next change; nil if nobody watches
	latest   *watch   // of this event and its nested events, or nil
}

// add puts e on the stack of its phase. late reports whether the shutdown has
// already ended. look reports whether e may begin while other steps run, so
// that the caller has to call next. If no step runs, another goroutine is about
// to call it.
func (s *schedule) add(e *entry, concurrent bool) (late, look bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == phaseEnded {
		return true, false
	}
	phase := PhaseClosers
	if e.afterDrain {
		phase = PhaseAfterDrain
	}
	s.waiting[phase].push(e)
	s.used = true
	s.touch()
	return false, s.phase != phaseIdle && s.allAtOnce(concurrent)
}

// remove takes e out, and reports whether it was still waiting.
func (s *schedule) remove(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.in == nil {
		return false
	}
	e.in.remove(e)
	e.clear()
	s.touch()
	return true
}

// fail adds a failure that does not belong to a step. It reports whether the
// failure counts, which it does until the shutdown has ended.
func (s *schedule) fail(err error) (counts bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == phaseEnded {
		return false
	}
	s.failures = append(s.failures, err)
	s.touch()
	return true
}

// fired notes that the event has fired, and tells the watchers.
func (s *schedule) fired() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touch()
}

// limit sets the context and the deadline of the shutdown, unless an earlier
// call did, and reports whether it did so. A zero deadline means no limit.
func (s *schedule) limit(base context.Context, by *step, now, deadline time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base != nil {
		return false
	}
	s.base, s.by = base, by
	s.limitTo(now, deadline)
	return true
}

// relimit replaces a mistaken deadline, unless the shutdown has started or base
// belongs to another caller.
func (s *schedule) relimit(base context.Context, now, deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base == base && s.phase == phaseIdle {
		s.limitTo(now, deadline)
	}
}

func (s *schedule) limitTo(now, deadline time.Time) {
	s.began, s.deadline, s.reserve = now, deadline, 0
	if !deadline.IsZero() {
		s.reserve = min(max(deadline.Sub(now)/10, time.Millisecond), time.Second)
	}
}

// open starts the shutdown. own has the entries of the delay and the drain, by
// phase. It reports whether this call did so, and then the caller has to call
// next.
func (s *schedule) open(now time.Time, own map[Phase]*entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != phaseIdle {
		return false
	}
	s.phase, s.started = PhaseDelay, now
	for p, e := range own {
		s.waiting[p].push(e)
	}
	s.touch()
	return true
}

// next begins the next step, if one may begin now. That is the last registered
// entry of the earliest phase with an entry, up to the present phase. If there
// is no entry and no step runs, the next phase begins. more reports whether
// another step may begin at once, and ended whether this call ended the
// shutdown.
func (s *schedule) next(now time.Time, concurrent bool) (begun *step, more, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == phaseIdle || s.phase == phaseEnded {
		return nil, false, false
	}
	for {
		s.lookAtTime(now)
		if s.running > 0 && !s.allAtOnce(concurrent) {
			return nil, false, false
		}
		if e, p := s.top(); e != nil {
			begun = s.begin(e, p, now)
			e, _ = s.top()
			return begun, e != nil && s.allAtOnce(concurrent), false
		}
		if s.running > 0 {
			return nil, false, false
		}
		if s.phase++; s.phase == phaseEnded {
			return nil, false, true
		}
	}
}

// top returns the next entry and its phase.
func (s *schedule) top() (*entry, Phase) {
	for p := PhaseDelay; p <= s.phase; p++ {
		if e := s.waiting[p].last; e != nil {
			return e, p
		}
	}
	return nil, 0
}

// allAtOnce reports whether a step may begin while others run.
func (s *schedule) allAtOnce(concurrent bool) bool { return concurrent || !s.hurry.IsZero() }

// lookAtTime sets hurry if only the reserve is left. That is so if less than a
// hundredth of the time before the reserve is left, or so little that a step
// would have a larger share in the reserve. If less than the whole reserve is
// left, because the process stood still, the reserve begins now.
func (s *schedule) lookAtTime(now time.Time) {
	if s.deadline.IsZero() || !s.hurry.IsZero() {
		return
	}
	free := s.deadline.Add(-s.reserve) // the end of the time before the reserve
	if free.Sub(now) >= max(free.Sub(s.began)/100, s.reserve/2) {
		return
	}
	s.hurry = s.deadline
	if at := now.Add(s.reserve); at.After(s.hurry) {
		s.hurry = at
	}
}

// begin makes e a step of phase p.
func (s *schedule) begin(e *entry, p Phase, now time.Time) *step {
	e.in.remove(e)
	st := newStep(e, p, now, s.share(e, p, now))
	s.steps = append(s.steps, st)
	s.running++
	s.touch()
	return st
}

// share returns the time that the step of e may take, or noLimit. A step is
// abandoned after its share and an eighth of it, so it takes no more than 9/10
// of the time left. In the reserve the steps of a phase begin together. The
// closers before the drain have one half, or all of it if no AfterDrain closer
// waits. In any case a closer has at least 2/5 of the reserve.
func (s *schedule) share(e *entry, p Phase, now time.Time) time.Duration {
	switch {
	case s.deadline.IsZero():
		return noLimit
	case s.hurry.IsZero():
		return s.deadline.Add(-s.reserve).Sub(now) / 5 * 4
	case e.site == 0: // the delay and the drain are given up
		return 0
	}
	left := s.hurry.Sub(now)
	if s.phase < PhaseAfterDrain && s.waiting[PhaseAfterDrain].last != nil {
		left /= 2
	}
	return max(left/5*4, s.reserve/5*2)
}

// overtime returns how much longer a step may run that shuts down an event, and
// whose time is over. The event has the longest reserve, but only as long as
// the steps after it keep their time in this one's.
func (s *schedule) overtime(now time.Time) time.Duration {
	const longest = time.Second
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deadline.IsZero() || s.phase == phaseEnded {
		return longest
	}
	s.lookAtTime(now)
	end, kept := s.deadline.Add(-s.reserve), s.reserve/10
	if !s.hurry.IsZero() {
		if end = s.hurry; end.Before(now) { // the process stood still in the reserve
			end = now.Add(s.reserve)
		}
		if s.phase < PhaseAfterDrain && s.waiting[PhaseAfterDrain].last != nil {
			kept = s.reserve / 20 * 11 // one half, and what share leaves of the other
		}
	}
	return max(min(longest, end.Sub(now)-kept), 0)
}

// fault adds a failure of st, which may go on running. stacks are the stacks
// that explain the failure, or "".
func (s *schedule) fault(st *step, err error, stacks string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addFault(st, err) && stacks != "" {
		st.stacks = stacks
	}
}

// addFault adds a failure of st, unless the shutdown has ended. It is called
// with mu held.
func (s *schedule) addFault(st *step, err error) bool {
	if s.phase == phaseEnded {
		return false
	}
	st.err = join(st.err, err)
	s.failures = append(s.failures, &namedError{st.title, st.siteText(), err})
	s.touch()
	return true
}

// finish ends st, which has returned err or is abandoned with err as the
// reason. first reports whether this call ended the step. A step that has
// returned cannot be abandoned. A step that was abandoned may still return,
// which adds its error but does not end the step again.
//
// name has the abandoned steps whose stacks the caller should now take. In the
// reserve, in which many steps may be abandoned at once, the stacks are taken
// together, once no other step runs.
func (s *schedule) finish(
	st *step, now time.Time, err error, abandoned bool,
) (first bool, name []*step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first = !st.over.Load(); abandoned && !first {
		return false, nil
	}
	if err != nil {
		s.addFault(st, err)
	}
	if !abandoned && s.phase != phaseEnded {
		st.told = !st.refused
	}
	if !first {
		return false, nil
	}
	st.end, st.abandoned, st.detail = now, abandoned, nil
	st.over.Store(true)
	if abandoned {
		s.owed++
		s.nameless = append(s.nameless, st)
	}
	if !st.late() { // a late step is in no report
		s.running--
		s.touch()
	}
	if s.hurry.IsZero() || s.running == 0 {
		name, s.nameless = s.nameless, nil
	}
	return true, name
}

// owe notes that the stacks of a step are being taken, until named is called.
// For an abandoned step, finish does so.
func (s *schedule) owe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed++
}

// named sets the stacks of st.
func (s *schedule) named(st *step, stacks string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stacks != "" { // else those of its failure stay
		st.stacks = stacks
	}
	if !st.late() {
		s.touch()
	}
	if s.owed--; s.owed == 0 && s.clear != nil {
		close(s.clear)
		s.clear = nil
	}
}

// unnamed returns a channel that is closed once no stacks are owed, or nil if
// none are owed now.
func (s *schedule) unnamed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owed > 0 && s.clear == nil {
		s.clear = make(chan struct{})
	}
	return s.clear
}

// conclude sets the result and the failures in it. It is called once, by the
// goroutine for which next reported the end of the shutdown.
func (s *schedule) conclude(at time.Time, failures []error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.failures, s.err = at, failures, err
	s.touch()
}

// hasEnded reports whether the last step is over.
func (s *schedule) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == phaseEnded
}

// everUsed reports whether a closer was ever registered.
func (s *schedule) everUsed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// outcome returns the failures of a shutdown that has ended.
func (s *schedule) outcome() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failures
}

// has reports whether the result has the failures of child that count, at the
// end of the shutdown. It has them if a step that waited for child has
// returned.
func (s *schedule) has(child *QuitEvent) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.steps, func(st *step) bool {
		return st.child == child && st.told
	})
}

// startedBy returns the step of the parent that shuts this event down, or nil.
func (s *schedule) startedBy() *step {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by
}

// delaying reports whether the delay runs.
func (s *schedule) delaying() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == PhaseDelay && s.running > 0
}

// until returns the time by which a shutdown that ends now should return, a
// little before its deadline. It returns zero if there is no limit.
func (s *schedule) until(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	end, little := s.deadline, s.reserve/20
	if end.IsZero() {
		return end
	}
	if !s.hurry.IsZero() {
		end = s.hurry
	}
	if end = end.Add(-little); end.Before(now.Add(little)) {
		return now.Add(little)
	}
	return end
}

// grace returns how long Shutdown may wait after its ctx is done. It is not
// zero if base, and so ctx, set the limit: then the shutdown is about to end.
func (s *schedule) grace(base context.Context) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base != base || s.deadline.IsZero() {
		return 0
	}
	return max(s.reserve, 10*time.Millisecond)
}

// adopt notes that a step of this event shuts q down. The outermost shutdown
// waits for the end, the log and the stacks of q.
func (s *schedule) adopt(q *QuitEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == phaseEnded {
		return
	}
	s.inner = append(s.inner, q)
}

// adopted returns the adopted events.
func (s *schedule) adopted() []*QuitEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inner
}

// called notes that a step of this event has called q, which has ended. The
// outermost shutdown waits for the log of q.
func (s *schedule) called(q *QuitEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.callees, q) {
		s.callees = append(s.callees, q)
	}
}

// calledEvents returns the events for which called was called.
func (s *schedule) calledEvents() []*QuitEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.callees
}

// touch notes a change. It is called with mu held.
func (s *schedule) touch() {
	s.version++
	if s.watchers != nil {
		for _, w := range s.watchers {
			w.tell()
		}
		s.watchers = nil
	}
}
