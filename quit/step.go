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
// drain. Errors, logs and reports are made of it.
type step struct {
	q      *QuitEvent
	title  string
	site   uintptr // where the closer was registered; 0: a step of our own
	phase  Phase
	child  *QuitEvent // the event that is the closer, or nil
	isLog  bool       // it is no step, but hands over log records: see handOver
	owner  string     // of the goroutines that the closer waits for, if it knows them
	ignore *ignore

	start    time.Time
	deadline time.Time // the end of its share, when its context expires; zero: no limit
	last     time.Time // the end of its time, an eighth of its share later; zero: never

	node   *node         // what it holds up: its event, or itself if it is late
	closer closer        // used and cleared by the goroutine that calls it, as is ignore
	watch  *time.Timer   // calls look; stopped when the step is over
	done   chan struct{} // of a late step: closed when it is over; else nil

	// over is set, with the schedule's mu held, when the step has returned or
	// was abandoned. It is atomic for those who only want to know whether the
	// step still counts, for whom an answer that is just out of date is as
	// good.
	over atomic.Bool

	// Guarded by the schedule's mu:
	end       time.Time     // zero while the step runs
	detail    func() string // tells what the closer waits for; nil if it cannot, or the step is over
	abandoned bool
	err       error  // all that failed, joined
	stacks    string // of the goroutines that held it up
}

// noLimit is the share of a step that may take as long as it needs.
const noLimit time.Duration = -1

// newStep makes e a step that begins now. Its share is cut to its own timeout.
func newStep(e *entry, p Phase, now time.Time, share time.Duration) *step {
	s := &step{q: e.q, title: e.title(), site: e.site, phase: p, child: e.closer.child(), ignore: e.ignore,
		start: now, closer: e.closer, node: &e.q.node}
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

// stepContext is the context of a step, but for its labels and its deadline.
type stepContext struct {
	context.Context // with the values of the shutdown's, which is never cancelled
	step            *step
}

type stepKey struct{}

func (c stepContext) Value(key any) any {
	if key == (stepKey{}) {
		return c.step
	}
	return c.Context.Value(key)
}

// stepOf returns the step whose closer was given ctx, or nil.
func stepOf(ctx context.Context) *step {
	s, _ := safeValue(ctx, stepKey{}).(*step)
	return s
}

// run calls the closer. When it has returned, the caller asks for the next
// step.
func (s *step) run(base context.Context) {
	if s.site == 0 { // it calls no code of the user, and so must not ask for values, which may block
		base = context.Background()
	}
	// The timer is made stopped and then started, so that look finds it. It
	// comes first, since the values of base are the user's.
	const never = 1<<63 - 1
	s.watch = time.AfterFunc(never, s.look)
	s.watch.Reset(s.nextLook(s.start))

	s.q.logBegins(s)
	err, exited := errGoexit, true
	defer func() {
		s.ignore = nil // an ended event does not keep the funcs given to IgnoreFunc
		if _, name := s.finish(err, false); name != nil {
			go nameAll(name) // ends when the stacks are taken
		}
		if exited { // this goroutine ends here, and cannot go on
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
	err = caught(func() error { return s.ignore.counts(err) }) // which may be Goexit, too
	exited = false
}

// call calls the closer, and forces one that could not shut down in its time.
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

// fault records a failure of the step, which may go on running.
func (s *step) fault(err error, stacks string) {
	if err != nil {
		s.q.sched.fault(s, err, stacks)
		s.q.logFault(s, err, stacks)
	}
}

// finish ends the step, by its return or by being abandoned, and reports
// whether this call did so. The caller should take the stacks of the steps
// name.
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
		close(s.done) // now that the log has the record for which runLate waits
	}
	return first, name
}

// look is called while the step runs. It warns if the step takes long, ever
// rarer, and abandons it when its time is over.
func (s *step) look() {
	now := time.Now()
	if s.hasLast() && !now.Before(s.last) {
		if s.child == nil || s.child.sched.startedBy() != s {
			s.abandon()
			return
		}
		// The event ends by itself, and has its own reserve for that. It had no
		// chance to before, since the process stood still.
		go s.q.loop() // ends when no step may begin: what is left of this shutdown has to, by now
	}
	s.watch.Reset(s.nextLook(now))
	if s.over.Load() { // finish stops the timer after it has set over
		s.watch.Stop()
		return
	}
	if s.phase != PhaseDelay && now.Sub(s.start) >= firstWarning { // the delay is meant to take its time
		s.q.logRunning(s, now)
	}
}

// hasLast reports whether the step is abandoned at the end of its time, unless it
// shuts down an event. The delay and the drain end by themselves.
func (s *step) hasLast() bool { return !s.last.IsZero() && s.site != 0 }

// abandon ends the step, unless it has just returned. The next one begins
// first. Then the goroutines that hang are found: what the end of the context
// has woken has had an eighth of the share to end by now, so these are the ones
// that really hang.
func (s *step) abandon() {
	err := error(&overdue{fmt.Sprintf("abandoned after %v", s.last.Sub(s.start).Round(time.Millisecond))})
	ended, name := s.finish(err, true)
	if !ended {
		return
	}
	if !s.late() {
		go s.q.loop() // ends when no step may begin
	}
	nameAll(name)
}

// nameAll finds the goroutines that hold up the steps, by one look for all.
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

// named sets and logs the stacks of the goroutines that hold up the step, which
// the schedule says are owed. They are logged first: the shutdown may end as
// soon as none are owed, and the last record is then in the log.
func (s *step) named(stacks string) {
	if stacks != "" {
		s.q.logStacks(s, stacks)
	}
	s.q.sched.named(s, stacks)
}

// heldUpBy returns, of all stacks, those of the goroutines that hold up the
// step: its own, which are in the closer, and those that the closer waits for.
func (s *step) heldUpBy(all map[string]string) string {
	if s.phase == PhaseDrain {
		return all[stacks.ID(s.q)]
	}
	return all[s.owner] + all[stacks.ID(s)]
}

// nextLook returns the time from now until the next look: at 5 s, 10 s, 20 s
// and so on after the start, and at the end of the step's time.
func (s *step) nextLook(now time.Time) time.Duration {
	age := now.Sub(s.start)
	next := firstWarning
	for next <= age && next < 1<<61 {
		next *= 2
	}
	if s.hasLast() && now.Before(s.last) {
		next = min(next, s.last.Sub(s.start))
	}
	return next - age
}

// firstWarning is the age of a step at which it is first warned of.
const firstWarning = 5 * time.Second

// siteText returns where the closer was registered; "" if it is not a closer's.
func (s *step) siteText() string { return siteText(s.site) }

// title returns the entry's name: the one it was given, or the default.
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
