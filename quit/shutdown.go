package quit

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Shutdown fires the event, unless it has already fired, and runs the shutdown
// to its end. If the shutdown has already started, Shutdown waits for it. The
// result is nil, or an error with a line for each failure. [errors.Is] and
// [errors.As] find each of the failures. All callers get the same error, even
// after the end.
//
// The shutdown may take [QuitEvent.Timeout], or less if the deadline of ctx is
// earlier. If Timeout is zero and ctx has a deadline, only that deadline
// counts. If ctx is done first, the call returns ctx.Err(), and the shutdown
// goes on. The deadline and the values of ctx count only in the first call. A
// call that fires the event comes before calls that follow from the fire, such
// as that of context.AfterFunc(q.Context(), q.GracefulStop).
//
// Do not pass a ctx that is done, or one that the fire cancels, such as that of
// [os/signal.NotifyContext]. With such a ctx, Shutdown returns ctx.Err() at
// once, and main would end before the work does. The shutdown goes on within
// the event's own Timeout, and a warning names the call site. A nil ctx means
// [context.Background].
//
// A call by a closer for which this shutdown waits, directly or through other
// events, returns nil at once. Shutdown recognizes such a call by its goroutine
// or by its context. So a closer that calls Shutdown in another goroutine, and
// waits for that, must pass its context on.
func (q *QuitEvent) Shutdown(ctx context.Context) error {
	if ctx == nil {
		ctx = context.Background()
	}
	base, now := valuesOf(ctx), time.Now()
	q.limit(base, stepOf(ctx), now, q.deadline(ctx, now))
	q.Fire()
	mistake := ctx.Err()
	if mistake != nil {
		q.sched.relimit(base, now, after(now, q.timeout()))
	}
	q.open()

	if q.ended.HasFired() {
		return q.sched.err
	}
	if mistake != nil {
		if !byHandler() { // else it could go on for ever
			q.log(newWarning(msgDone,
				slog.String("err", errorText(mistake)), slog.String("site", siteOutside())))
		}
		q.awaitLog(ctx) // the process most likely ends next
		return mistake
	}
	by := callers(ctx)
	if slices.ContainsFunc(by, func(s *step) bool { return s.isLog }) {
		return nil
	}
	leave, ok := tryWait(by, &q.node)
	if !ok {
		return nil
	}
	defer leave()
	select {
	case <-q.ended.Done():
	case <-ctx.Done():
		// If ctx limits the shutdown, both end at about the same time.
		timeUp := time.NewTimer(q.sched.grace(base))
		defer timeUp.Stop()
		select {
		case <-q.ended.Done():
		case <-timeUp.C:
			if !q.ended.HasFired() {
				return ctx.Err()
			}
		}
	}
	return q.sched.err
}

// GracefulStop is like [QuitEvent.Shutdown], without a context or a result. It
// is meant for hooks such as [net/http.Server.RegisterOnShutdown]. Failures are
// logged.
func (q *QuitEvent) GracefulStop() { _ = q.Shutdown(context.Background()) }

// shutdownAsStep is Shutdown as a step of the parent, whose context is ctx. It
// waits for the end even after the step's share, since the shutdown has the end
// of the share as its deadline.
func (q *QuitEvent) shutdownAsStep(ctx context.Context) error {
	s, now := stepOf(ctx), time.Now()
	q.limit(valuesOf(ctx), s, now, q.deadlineWithin(s.deadline, now))
	q.Fire()
	// The wait is noted before open begins the steps, which may close a ring of
	// events. So it is always the same event of the ring that does not wait.
	leave, ok := tryWait([]*step{s}, &q.node)
	q.open()
	if !ok {
		s.refused = true
		return nil
	}
	defer leave()
	<-q.ended.Done()
	return q.sched.err
}

// limit sets the limits of the shutdown, unless an earlier call did. by is the
// step of another event that shuts this one down, or nil.
func (q *QuitEvent) limit(base context.Context, by *step, now, deadline time.Time) {
	if q.sched.limit(base, by, now, deadline) && by != nil {
		by.q.sched.adopt(q)
	}
}

// deadline returns the deadline of a shutdown with ctx that begins now. It does
// not use the deadline of a ctx that is done, or a deadline that has passed.
func (q *QuitEvent) deadline(ctx context.Context, now time.Time) time.Time {
	end, given := ctx.Deadline()
	if !given || !end.After(now) || ctx.Err() != nil {
		end = time.Time{}
	}
	return q.deadlineWithin(end, now)
}

// deadlineWithin returns the deadline of a shutdown that begins now and should
// end by end, unless that is zero.
func (q *QuitEvent) deadlineWithin(end, now time.Time) time.Time {
	timeout := q.timeout()
	if end.IsZero() {
		return after(now, timeout)
	}
	// The time left is added to now, so that the deadline has a monotonic clock
	// reading even if end has none. Setting the machine's clock has no effect.
	left := end.Sub(now)
	if q.Timeout != 0 && timeout != 0 {
		left = min(left, timeout)
	}
	return now.Add(left)
}

// timeout returns the limit of the whole shutdown; 0: no limit.
func (q *QuitEvent) timeout() time.Duration {
	if q.Timeout == 0 {
		return DefaultTimeout
	}
	return max(q.Timeout, 0)
}

// after returns the time d after from, or zero if d is zero.
func after(from time.Time, d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return from.Add(d)
}

// open starts the shutdown, unless it has already started. Its callers set the
// deadline before the fire. So a call to Shutdown that follows from the fire
// comes too late to set it.
func (q *QuitEvent) open() {
	<-q.Done() // another call may have begun to fire, and not have finished
	own := map[Phase]*entry{PhaseDrain: q.own(PhaseDrain)}
	if q.Delay > 0 {
		own[PhaseDelay] = q.own(PhaseDelay)
	}
	q.records.noDebug.Store(false) // the level may have changed since the fire
	if q.sched.open(time.Now(), own) {
		go q.loop() // ends when no step may begin
	}
}

// own returns the entry of the delay or the drain.
func (q *QuitEvent) own(p Phase) *entry {
	f, name := q.drain, "drain"
	if p == PhaseDelay {
		f, name = q.delay, "delay"
	}
	return &entry{
		q:      q,
		closer: closer{ShutdownFunc(f), kindQuitCloser},
		config: config{name: name},
	}
}

// loop runs steps until none may begin. Any number of goroutines may call it:
// see schedule.
func (q *QuitEvent) loop() {
	s := q.next()
	if s == nil {
		return // as in most calls after many steps were abandoned
	}
	w, leave := enter(q)
	defer leave()
	for ; s != nil; s = q.next() {
		w.step = s
		s.run(q.sched.base)
	}
}

// next begins the next step, or returns nil if none may begin. After the last
// step it ends the shutdown.
func (q *QuitEvent) next() *step {
	s, more, ended := q.sched.next(time.Now(), q.Concurrent)
	if more {
		go q.loop() // ends when no step may begin
	}
	if ended {
		q.conclude()
	}
	return s
}

// delay is the step that waits until Delay has passed since the fire.
func (q *QuitEvent) delay(ctx context.Context) error {
	t := time.NewTimer(time.Until(q.event.at.Add(q.Delay)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-q.hasten.Done():
	case <-ctx.Done():
	}
	return nil
}

// errNoTime is the cause of WorkContext.
var errNoTime = fmt.Errorf("quit: no time left for work in flight: %w", context.DeadlineExceeded)

// drain is the step that waits for the goroutines. It gives up at the end of
// its share: WorkContext is cancelled, and the remaining goroutines have an
// eighth of the share to notice that. Their stacks are taken a moment before
// the end of the share, when they show where the drain is held up. Nothing
// waits for the stacks.
func (q *QuitEvent) drain(ctx context.Context) error {
	s := stepOf(ctx)
	share := s.deadline.Sub(s.start)
	wait := func(until time.Time) (left int64) {
		if s.deadline.IsZero() {
			return q.count.wait(nil)
		}
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
		defer cancel()
		return q.count.wait(ctx.Done())
	}
	if wait(s.deadline.Add(-share/16)) <= 0 {
		return nil // a count below zero is reported at the end
	}
	stuck := make(chan string, 1)
	// Both goroutines end when the stacks are taken.
	go func() { stuck <- s.heldUpBy(allStacks()) }()
	left := wait(s.deadline)
	if left <= 0 {
		return nil
	}
	q.work.fire(errNoTime)
	q.sched.owe()
	go func() { s.named(<-stuck) }()
	took := time.Since(s.start).Round(time.Millisecond)
	err := &overdue{fmt.Sprintf("%s left after %v", plural(left, "goroutine"), took)}
	wait(s.last)
	return err
}

// conclude sets the result and ends the shutdown, which wakes its callers. It
// first waits, as long as there is time, for nested events that were abandoned,
// for the stacks and for the log. A nested shutdown leaves these waits to the
// outermost one, since the log must not use up the share of a step.
func (q *QuitEvent) conclude() {
	now := time.Now()
	by := q.sched.startedBy()
	inner := by != nil && !by.q.sched.hasEnded()
	until := q.sched.until(now)
	if until.IsZero() {
		until = now.Add(patience)
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	await := func(done <-chan struct{}) {
		if done == nil || inner {
			return
		}
		select {
		case <-done:
		case <-ctx.Done():
		}
	}

	// A nested event calls its closers even if its step was abandoned, as
	// happens after the process stood still. The wait for its end is noted like
	// that of a step.
	end := &step{q: q, node: &q.node}
	events := []*QuitEvent{q}
	for i := 0; i < len(events) && !inner; i++ {
		for _, e := range events[i].sched.adopted() {
			if leave, ok := tryWait([]*step{end}, &e.node); ok {
				await(e.ended.Done())
				leave()
			}
			events = append(events, e)
		}
	}
	for _, e := range events {
		await(e.sched.unnamed())
	}
	q.records.ending.Lock() // until the records of all steps are there
	//lint:ignore SA2001 the steps that end hold it
	q.records.ending.Unlock()
	if site := q.waiter.Load(); site != 0 && !q.sched.everUsed() && !q.count.everUsed() {
		// A cause that wraps a signal is not looked for: its Unwrap may block.
		if _, signal := q.Cause().(*SignalError); signal {
			q.logUnused(now, siteName(site))
		}
	}
	failures := q.failures()
	wait := patience // for the methods of an error
	if inner {
		wait /= 100
	}
	q.sched.conclude(now, failures, result(failures, wait))
	q.work.fire(errNoTime)
	q.logStopped(now, len(failures))
	for _, e := range events {
		await(e.records.idle())
		for _, o := range e.sched.calledEvents() {
			await(o.records.idle())
		}
	}
	signals.leave(q)
	q.ended.Fire()
}

// failures returns the failures of a shutdown that has ended.
func (q *QuitEvent) failures() []error {
	errs := slices.Clip(q.sched.outcome())
	if n := q.count.count(); n < 0 {
		err := fmt.Errorf("quit: DoneGoroutine was called %s more than AddGoroutine",
			plural(-n, "time"))
		errs = append(errs, err)
		q.logFailure(err, "", true)
	}
	// A failure that came up from a nested event is among the failures of its
	// step, unless the event was unregistered, was abandoned or waits for q. If
	// q is a step of that event, the result of that event has the failure.
	from, cause := q.parents.cameUp()
	if from != nil && !q.sched.has(from) && !q.within(from) {
		errs = append(errs, cause)
	}
	return errs
}

// within reports whether a step of other shuts q down, perhaps through other
// events.
func (q *QuitEvent) within(other *QuitEvent) bool {
	for {
		s := q.sched.startedBy()
		if s == nil || s.child != q {
			return false
		}
		if q = s.q; q == other {
			return true
		}
	}
}

// patience limits the wait for stacks and for the log at the end of a shutdown
// without a limit, and the wait for the log after the end.
const patience = time.Second

// runLate calls a closer that was registered after the end, and waits for it.
func (q *QuitEvent) runLate(e *entry) {
	share := noLimit
	if t := q.timeout(); t > 0 {
		share = t / 5 * 4
	}
	s := newStep(e, PhaseClosers, time.Now(), share) // no report shows its phase
	s.node, s.done = new(node), make(chan struct{})
	// The node is new, so this wait cannot close a cycle.
	leave, _ := tryWait(callers(context.Background()), s.node)
	defer leave()
	go func() { // ends when the closer returns
		defer walk(s)()
		s.run(q.sched.base)
	}()
	<-s.done
	q.awaitLog(context.Background()) // only the log has a failure
}

// awaitLog waits for the log after the end of the shutdown, for a short time.
// It does not wait if a log handler calls it, or a closer of another event,
// whose time the log must not use up. Then the end of that event's shutdown
// waits. ctx is that of the call, if it has one.
func (q *QuitEvent) awaitLog(ctx context.Context) {
	idle, by := q.records.idle(), callers(ctx)
	if idle == nil {
		return
	}
	if len(by) > 0 {
		for _, s := range by {
			if q.sched.hasEnded() { // else its own end waits
				s.q.sched.called(q)
			}
		}
		return
	}
	timeUp := time.NewTimer(patience)
	defer timeUp.Stop()
	select {
	case <-idle:
	case <-timeUp.C:
	}
}
