package quit

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Shutdown fires the event if that has not happened, and runs the shutdown, or
// waits for the one that runs. It returns nil, or one error with a line for each
// failure, all of which [errors.Is] and [errors.As] reach. All callers get the
// same error, even after the end.
//
// The shutdown has [QuitEvent.Timeout], or until the deadline of ctx if that is
// earlier, or until the deadline of ctx alone if Timeout is zero. If ctx is
// done first, this call returns ctx.Err() and the shutdown goes on. The first
// caller's ctx is the one whose deadline and values count. The call that fires
// the event is before those that the fire leads to, such as by
// context.AfterFunc(q.Context(), q.GracefulStop).
//
// Do not call Shutdown with a ctx that is done already, or that the fire
// cancels, such as the one of [os/signal.NotifyContext]. It returns ctx.Err()
// at once, and main ends before the work does. The shutdown then has the
// event's own Timeout, and a warning names the call. A nil ctx is taken as
// [context.Background].
//
// Called by a closer that this very shutdown waits for, directly or through
// other events, it does not wait but returns nil at once. Such a call is known by
// its goroutine or by its context: a closer that calls Shutdown in another
// goroutine and waits for it passes its context on.
func (q *QuitEvent) Shutdown(ctx context.Context) error {
	if ctx == nil {
		ctx = context.Background()
	}
	base, now := valuesOf(ctx), time.Now()
	q.sched.limit(base, stepOf(ctx), now, q.deadline(ctx, now))
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
		q.warn(msgDone, slog.String("err", errorText(mistake)), slog.String("site", siteOutside()))
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
		// If it is ctx that limits the shutdown, both end at the same time.
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

// GracefulStop is Shutdown without a context or an error, for hooks such as
// [net/http.Server.RegisterOnShutdown]. Failures are logged in either case.
func (q *QuitEvent) GracefulStop() { _ = q.Shutdown(context.Background()) }

// shutdownAsStep is Shutdown as a step of another event, which has ctx. It
// waits for the end even after the step's share, of which it is told in
// advance.
func (q *QuitEvent) shutdownAsStep(ctx context.Context) error {
	s, now := stepOf(ctx), time.Now()
	q.sched.limit(valuesOf(ctx), s, now, q.deadlineWithin(s.deadline, now))
	q.Fire()
	// The wait is there before the steps begin that may close a ring of events
	// with it, so it is always the same one of the ring that does not wait.
	leave, ok := tryWait([]*step{s}, &q.node)
	q.open()
	if !ok {
		return nil
	}
	defer leave()
	<-q.ended.Done()
	return q.sched.err
}

// deadline returns the deadline of a shutdown with ctx that begins now. The
// deadline of a ctx that is done, or one that has passed, is none.
func (q *QuitEvent) deadline(ctx context.Context, now time.Time) time.Time {
	end, given := ctx.Deadline()
	if !given || !end.After(now) || ctx.Err() != nil {
		end = time.Time{}
	}
	return q.deadlineWithin(end, now)
}

// deadlineWithin returns the deadline of a shutdown that begins now and should
// end by end; zero: no such limit.
func (q *QuitEvent) deadlineWithin(end, now time.Time) time.Time {
	timeout := q.timeout()
	if end.IsZero() {
		return after(now, timeout)
	}
	// The time left is added to now, so that the deadline has a monotonic clock
	// even if end has none: setting the machine's clock changes nothing.
	left := end.Sub(now)
	if q.Timeout != 0 && timeout != 0 {
		left = min(left, timeout)
	}
	return now.Add(left)
}

// timeout returns the time of the whole shutdown; 0: no limit.
func (q *QuitEvent) timeout() time.Duration {
	if q.Timeout == 0 {
		return DefaultTimeout
	}
	return max(q.Timeout, 0)
}

// after returns the time d after from, or none if d is zero.
func after(from time.Time, d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return from.Add(d)
}

// open starts the shutdown, unless that has happened. The deadline is set
// before the fire: whoever hears of the fire and comes with a context of its
// own is later.
func (q *QuitEvent) open() {
	<-q.Done() // another call may have begun to fire, and not be done with it
	own := map[Phase]*entry{PhaseDrain: q.own(PhaseDrain)}
	if q.Delay > 0 {
		own[PhaseDelay] = q.own(PhaseDelay)
	}
	q.records.noDebug.Store(false) // the level may have changed since the fire
	if q.sched.open(time.Now(), own) {
		go q.loop() // ends when no step may begin
	}
}

// own returns the entry of the one step of a phase that is our own.
func (q *QuitEvent) own(p Phase) *entry {
	if p == PhaseDelay {
		return &entry{q: q, closer: closer{ShutdownFunc(q.delay), kindQuitCloser}, config: config{name: "delay"}}
	}
	return &entry{q: q, closer: closer{ShutdownFunc(q.drain), kindQuitCloser}, config: config{name: "drain"}}
}

// loop runs steps until none may begin. See schedule for why any number of
// goroutines may call it.
func (q *QuitEvent) loop() {
	s := q.next()
	if s == nil {
		return // as it is for most of a crowd that was abandoned
	}
	w, leave := enter(q)
	defer leave()
	for ; s != nil; s = q.next() {
		w.step = s
		s.run(q.sched.base)
	}
}

// next begins the next step, or returns nil if none may begin. It ends the
// shutdown if that was the last one.
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

// errNoTime is the cause of WorkContext's end.
var errNoTime = fmt.Errorf("quit: no time left for work in flight: %w", context.DeadlineExceeded)

// drain is the step that waits for the goroutines. At the end of its share it
// gives up: WorkContext ends, and those that are left have an eighth of the
// share to notice that. Their stacks are taken a moment before, when they still
// are where they held up the drain, and nothing waits for that.
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
		return nil // a count below zero is told at the end
	}
	stuck := make(chan string, 1)
	go func() { stuck <- s.heldUpBy(allStacks()) }() // ends when the stacks are taken, as does the next
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

// conclude ends the shutdown for those who wait for it: with its result, once
// all stacks have been taken and the log has been handed over, for as long as
// there is time. A shutdown that is a step of another one leaves that to it:
// the log must take no share of a step.
func (q *QuitEvent) conclude() {
	now := time.Now()
	by := q.sched.startedBy()
	inner := by != nil && by.q.sched.adopt(q)
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

	events := []*QuitEvent{q}
	for i := 0; i < len(events) && !inner; i++ {
		events = append(events, events[i].sched.adopted()...)
	}
	for _, e := range events {
		await(e.sched.unnamed())
	}
	q.records.ending.Lock() // until the records of all steps are there
	//lint:ignore SA2001 those that end hold it
	q.records.ending.Unlock()
	if site := q.waiter.Load(); site != 0 && isSignal(q.Cause()) &&
		!q.sched.hadClosers() && !q.count.everUsed() {
		q.logUnused(siteName(site))
	}
	failures := q.failures(inner)
	wait := patience // for the methods of an error
	if inner {
		wait /= 100
	}
	q.sched.conclude(now, failures, result(failures, wait))
	q.work.fire(errNoTime)
	q.logStopped(now, len(failures))
	for _, e := range events {
		await(e.records.idle())
	}
	signals.leave(q)
	q.ended.Fire()
}

// failures returns what has failed in a shutdown that has ended, as a step of
// another one or by itself.
func (q *QuitEvent) failures(inner bool) []error {
	errs := slices.Clip(q.sched.outcome())
	if n := q.count.count(); n < 0 {
		err := fmt.Errorf("quit: DoneGoroutine was called %s more than AddGoroutine", plural(-n, "time"))
		errs = append(errs, err)
		q.logFailure(err, "", true)
	}
	// The failure that has come up from an event in this one is among those of
	// its step, unless the event was unregistered or abandoned since.
	if cause := q.parents.cameUp(); cause != nil && !inner && !slices.ContainsFunc(errs, func(err error) bool {
		found, _ := visit(err, func(e error) bool { return same(e, cause) })
		return found
	}) {
		errs = append(errs, cause)
	}
	return errs
}

// patience is how long a shutdown without a limit waits at its end for stacks
// and for the log, and a failure after the end for the log.
const patience = time.Second

// runLate calls a closer that was registered after the end, and waits for it.
func (q *QuitEvent) runLate(e *entry) {
	share := noLimit
	if t := q.timeout(); t > 0 {
		share = t / 5 * 4
	}
	s := newStep(e, PhaseClosers, time.Now(), share) // no report tells of its phase
	s.node, s.done = new(node), make(chan struct{})
	// It is a new node, so there is no circle yet that this wait could close.
	leave, _ := tryWait(callers(context.Background()), s.node)
	defer leave()
	go func() { // ends when the closer returns
		defer walk(s)()
		s.run(q.sched.base)
	}()
	<-s.done
	q.awaitLog() // it is all that tells of a failure
}

// awaitLog waits for the log after the end of the shutdown, but not for long,
// and not if it is a log handler that calls.
func (q *QuitEvent) awaitLog() {
	idle := q.records.idle()
	if idle == nil || byHandler() {
		return
	}
	timeUp := time.NewTimer(patience)
	defer timeUp.Stop()
	select {
	case <-idle:
	case <-timeUp.C:
	}
}
