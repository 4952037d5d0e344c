package quit

import (
	"context"
	"fmt"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
)

// step is one step of a shutdown: a closer that is called, the delay or the
// drain. Errors, logs and reports are made from it.
type step struct {
	q      *QuitEvent
	title  string
	site   uintptr // of the registration; 0 for the delay and the drain
	phase  Phase
	child  *QuitEvent // the closer, if it is an event; else nil
	isLog  bool       // not a step: it stands for a call to the log handler
	owner  string     // of the goroutines that the closer waits for; "" if it cannot tell
	ignore *ignore

	start    time.Time
	deadline time.Time // the end of the share, when the context expires; zero: no limit
	last     time.Time // an eighth of the share later, the end of the step's time; zero: never

	overtime time.Duration // after last; used by look alone

	node    *node         // held up by the step: its event's, or its own if it is late
	closer  closer        // used and cleared by the goroutine that calls it, as is ignore
	refused bool          // child could not be waited for; used by that goroutine, too
	watch   *time.Timer   // calls look; stopped when the step is over
	done    chan struct{} // of a late step: closed when it is over; else nil

	// over is set, with the schedule's mu held, when the step has returned or
	// was abandoned. It is atomic for readers without mu, which only need to
	// know whether the step still counts. A slightly outdated answer does them
	// no harm.
	over atomic.Bool

	// Guarded by the schedule's mu:
	end       time.Time     // zero while the step runs
	detail    func() string // Owner.Detail; nil if there is none, or the step is over
	abandoned bool
	told      bool   // the step has returned the result of child, before the end
	err       error  // all failures, joined
	stacks    string // of the goroutines that held the step up
}

// noLimit is the share of a step that may take as long as it needs.
const noLimit time.Duration = -1

// newStep makes a step of e that begins now. The timeout of e limits its share.
func newStep(e *entry, p Phase, now time.Time, share time.Duration) *step {
	s := &step{
		q:      e.q,
		title:  e.title(),
		site:   e.site,
		phase:  p,
		child:  e.closer.child(),
		ignore: e.ignore,
		start:  now,
		node:   &e.q.node,
		closer: e.closer,
	}
	if o, ok := e.closer.value.(stacks.Owner); ok {
		s.owner, s.detail = string(o.Owner()), o.Detail
	}
	e.clear()
	if e.timeout > 0 && (share == noLimit || e.timeout < share) {
		share = e.timeout
	}
	if share != noLimit {
		s.deadline = now.Add(share)
		s.last = s.deadline.Add(share / 8)
	}
	return s
}

// late reports whether the closer was registered after the end of the shutdown.
func (s *step) late() bool { return s.done != nil }

// stepContext is the context of a step, without its labels and its deadline.
type stepContext struct {
	context.Context // never cancelled; has the values of the shutdown's context
	step            *step
}

type stepKey struct{}

func (c stepContext) Value(key any) any {
	if key == (stepKey{}) {
		return c.step
	}
	return c.Context.Value(key)
}

// stepOf returns the step to whose closer ctx was passed, or nil.
func stepOf(ctx context.Context) *step {
	s, _ := safeValue(ctx, stepKey{}).(*step)
	return s
}

// run calls the closer. When run returns, the caller calls next.
func (s *step) run(base context.Context) {
	if s.site == 0 {
		// The delay and the drain call no user code, and the Value method of
		// base may block.
		base = context.Background()
	}
	// The timer is created stopped, and started once look can find it. This
	// comes first, since the Value method of base is user code.
	const never = 1<<63 - 1
	s.watch = time.AfterFunc(never, s.look)
	s.watch.Reset(s.nextLook(s.start))

	s.q.logBegins(s)
	err, exited := errGoexit, true
	defer func() {
		s.ignore = nil // so that an ended event does not keep the funcs of IgnoreFunc
		if _, name := s.finish(err, false); name != nil {
			go nameAll(name) // ends when the stacks are taken
		}
		if exited { // after Goexit, this goroutine ends here
			go s.q.loop() // ends when no step may begin
		}
	}()
	err = caught(func() error {
		ctx := stacks.Label(stepContext{base, s}, s.title, stacks.ID(s))
		pprof.SetGoroutineLabels(ctx)
		if !s.deadline.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, s.deadline)
			defer cancel()
		}
		return s.call(ctx)
	})
	err = caught(func() error { return s.ignore.counts(err) }) // may call Goexit, too
	exited = false
}

// call calls the closer. If the closer has a Close method too, and its Shutdown
// failed after its context was done, call calls Close.
func (s *step) call(ctx context.Context) error {
	c := s.closer
	s.closer = closer{}
	err := c.shutdown(ctx)
	told := ""
	if e, ok := err.(*stacks.Error); ok {
		err, told = e.Err, e.Stacks
	}
	forcible, forced := c.forcible()
	forced = forced && err != nil && ctx.Err() != nil
	if !forced && told == "" {
		return err
	}
	s.fault(s.ignore.counts(err), told) // it counts even if Close never returns
	if !forced {
		return nil
	}
	return forcible.Close()
}

// fault records and logs a failure of the step, which may go on running.
func (s *step) fault(err error, stacks string) {
	if err != nil {
		s.q.sched.fault(s, err, stacks)
		s.q.logFault(s, err, stacks)
	}
}

// finish ends the step, which has returned or is abandoned, and reports whether
// this call did so. The caller should take the stacks of the steps in name.
func (s *step) finish(err error, abandoned bool) (first bool, name []*step) {
	s.q.records.ending.RLock()
	defer s.q.records.ending.RUnlock()
	now := time.Now()
	first, name = s.q.sched.finish(s, now, err, abandoned)
	if abandoned && !first {
		return false, nil // it returned just in time
	}
	if first {
		s.watch.Stop()
	}
	s.q.logEnd(s, now, err, abandoned, first)
	if first && s.late() {
		close(s.done) // after logEnd: runLate then waits for the log
	}
	return first, name
}

// look is called by the timer of a running step. It logs that the step still
// runs, less and less often, and abandons the step when its time is over.
func (s *step) look() {
	now := time.Now()
	timeUp := s.hasLast() && !now.Before(s.last.Add(s.overtime))
	if timeUp {
		if !s.extend(now) {
			s.abandon()
			return
		}
		go s.q.loop() // ends when no step may begin
	}
	s.watch.Reset(s.nextLook(now))
	if s.over.Load() { // finish may have stopped the timer before the Reset
		s.watch.Stop()
		return
	}
	if s.phase != PhaseDelay && !timeUp { // a delay is meant to take long
		s.q.logRunning(s, now)
	}
}

// extend gives overtime to a step that shuts down an event, and reports whether
// it does, which is once at most. An event ends in time by itself, unless the
// process stood still or its closers register ever more closers. In overtime it
// calls its closers in its own reserve. The remaining steps of this shutdown
// begin meanwhile, if only the reserve is left.
func (s *step) extend(now time.Time) bool {
	if s.overtime > 0 || s.child == nil || s.child.sched.startedBy() != s {
		return false
	}
	more := s.q.sched.overtime(now)
	s.overtime = now.Sub(s.last) + more
	return more > 0
}

// hasLast reports whether the step is abandoned when its time is over. The
// delay and the drain are not, since they return by themselves.
func (s *step) hasLast() bool { return !s.last.IsZero() && s.site != 0 }

// abandon ends the step, unless it has just returned. It begins the next step
// before it looks for the goroutines that hang. Goroutines that the end of the
// context has woken have had an eighth of the share to end, so those that are
// left really hang.
func (s *step) abandon() {
	after := s.last.Sub(s.start).Round(time.Millisecond)
	ended, name := s.finish(&overdue{fmt.Sprintf("abandoned after %v", after)}, true)
	if !ended {
		return
	}
	if !s.late() {
		go s.q.loop() // ends when no step may begin
	}
	nameAll(name)
}

// nameAll finds the goroutines that hold up the steps. It takes the stacks once
// for all steps.
func nameAll(steps []*step) {
	if len(steps) == 0 {
		return
	}
	all := allStacks()
	for _, s := range steps {
		s.named(s.heldUpBy(all))
	}
}

// allStacks is stacks.All. A test replaces it.
var allStacks = stacks.All

// named logs and sets the stacks of the goroutines that hold up the step, which
// are owed. They are logged first, since the shutdown may end as soon as none
// are owed.
func (s *step) named(stacks string) {
	if stacks != "" {
		s.q.logStacks(s, stacks)
	}
	s.q.sched.named(s, stacks)
}

// heldUpBy returns the stacks of the goroutines that hold up the step: the
// goroutines in its closer, and those that the closer waits for. all has all
// stacks.
func (s *step) heldUpBy(all map[string]string) string {
	if s.phase == PhaseDrain {
		return all[stacks.ID(s.q)]
	}
	return all[s.owner] + all[stacks.ID(s)]
}

// nextLook returns the time from now until the next look. That is at 5 s, 10 s,
// 20 s and so on after the start, and at the end of the step's time.
func (s *step) nextLook(now time.Time) time.Duration {
	age := now.Sub(s.start)
	next := firstWarning
	for next <= age && next < 1<<61 {
		next *= 2
	}
	if last := s.last.Add(s.overtime); s.hasLast() && now.Before(last) {
		next = min(next, last.Sub(s.start))
	}
	return next - age
}

// firstWarning is the age of a step at the first warning that it still runs.
const firstWarning = 5 * time.Second

// siteText returns the site of the registration, or "" for the delay and the
// drain.
func (s *step) siteText() string { return siteText(s.site) }

// title returns the name of the entry: the one given by Name, or the default.
func (e *entry) title() string {
	if e.name != "" {
		return e.name
	}
	return e.closer.name()
}

func siteText(pc uintptr) string {
	if pc == 0 {
		return ""
	}
	return siteName(pc)
}
