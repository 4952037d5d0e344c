package quit

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
)

// phase is where a shutdown is. Each phase but the first and the last has a
// queue of entries; a shutdown is over when all are empty.
type phase int

const (
	phaseIdle       phase = iota // no shutdown has started; its queue is never used
	phaseDelay                   // one entry: the delay
	phaseClosers                 // the closers
	phaseDrain                   // one entry: the drain
	phaseAfterDrain              // the AfterDrain closers
	phaseEnded                   // the shutdown has ended
)

// Shutdown fires the event if that has not happened, and runs the shutdown, or
// waits for the one that runs. It returns nil, or one error with a line for each
// failure, all of which [errors.Is] and [errors.As] reach. All callers get the
// same, also after the end.
//
// The shutdown has [QuitEvent.Timeout], or until the deadline of ctx where that
// is earlier, or until the deadline of ctx alone where Timeout is zero and ctx
// has one. If ctx is done first, this call returns ctx.Err() and the shutdown goes
// on. Of the contexts of several callers, that of the first is the one whose
// deadline and values count: so a call that fires the event is before those that the
// fire leads to, such as by context.AfterFunc(q.Context(), q.GracefulStop), with which an
// event that fails by itself shuts itself down. A nil ctx is taken as [context.Background].
//
// Called by a closer that this very shutdown waits for, directly or through
// other events, it does not wait but returns nil at once. Such a call is known by
// its goroutine or by its context: a closer that calls Shutdown in another
// goroutine and waits for it passes its context on.
func (q *QuitEvent) Shutdown(ctx context.Context) error {
	if ctx == nil {
		ctx = context.Background()
	}
	q.start(ctx)
	if q.ended.HasFired() {
		return q.err
	}
	leave, ok := tryWait(callersOf(ctx), q)
	if !ok {
		return nil
	}
	defer leave()
	select {
	case <-q.ended.Done():
	case <-ctx.Done():
		if !q.ended.HasFired() {
			return ctx.Err()
		}
	}
	return q.err
}

// GracefulStop is Shutdown without a context or an error, for hooks such as
// [net/http.Server.RegisterOnShutdown]. Failures are logged in either case.
func (q *QuitEvent) GracefulStop() { _ = q.Shutdown(context.Background()) }

// start fires the event and starts the shutdown, unless that has happened. The deadline
// is set before the fire: who hears of that and comes with a context of its own is later.
func (q *QuitEvent) start(ctx context.Context) {
	timeout := q.timeout()
	end, given := ctx.Deadline()
	if end.IsZero() {
		end = time.Unix(0, 0) // as long ago as it gets: no time at all means none here
	}
	if given && q.Timeout == 0 {
		timeout = 0
	}
	deadline := after(time.Now(), timeout)
	if given && (deadline.IsZero() || end.Before(deadline)) {
		deadline = end
	}

	q.mu.Lock()
	if q.base == nil {
		q.base, q.deadline = withCloserOf(context.WithoutCancel(ctx), q), deadline
	}
	q.mu.Unlock()
	q.Fire()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.phase != phaseIdle {
		return
	}
	q.phase = phaseDelay
	q.queues[phaseDelay].push(q.builtin(phaseDelay))
	q.queues[phaseDrain].push(q.builtin(phaseDrain))
	go q.loop() // ends when no step is left
}

// builtin returns the entry of a phase that has just one, which is our own.
func (q *QuitEvent) builtin(p phase) *entry {
	if p == phaseDelay {
		return &entry{q: q, closer: ShutdownFunc(q.delay), config: config{name: "delay"}}
	}
	return &entry{q: q, closer: ShutdownFunc(q.drain), config: config{name: "drain"}}
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

// loop runs steps until none is left that may begin. The goroutine that ends a
// step, or abandons it, is the one that goes on, so there is always exactly one
// that looks for more; with Concurrent, each that finds a step sends another to look.
func (q *QuitEvent) loop() {
	defer enterLoop(q)()
	for {
		s, ended := q.next()
		if ended {
			q.conclude()
		}
		if s == nil {
			return
		}
		if q.Concurrent {
			go q.loop() // ends when no step is left
		}
		if !s.run(q.base) {
			return
		}
	}
}

// next begins the next step: of all phases up to the present one, the last
// registered of the first that has any, as soon as no other step is running, or
// at once where it is Concurrent. When all of them are empty and nothing runs, the
// next phase has come. It returns nil if no step may begin, and whether this call
// ended the shutdown.
func (q *QuitEvent) next() (s *step, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.phase != phaseEnded {
		if q.running > 0 && !q.Concurrent {
			return nil, false
		}
		for p := phaseDelay; p <= q.phase; p++ {
			if e := q.queues[p].last; e != nil {
				e.remove()
				s := newStep(e, p, q.deadline)
				q.steps = append(q.steps, s)
				q.running++
				return s, false
			}
		}
		if q.running > 0 {
			return nil, false
		}
		if q.phase++; q.phase == phaseEnded {
			q.err = join(q.failures...)
			return nil, true
		}
	}
	return nil, false
}

// delay is the first step: it announces the shutdown, and waits until Delay has
// passed since the fire.
func (q *QuitEvent) delay(ctx context.Context) error {
	q.log(slog.LevelInfo, "quit: fired", slog.Any("cause", q.Cause()))
	if q.Delay <= 0 {
		return nil
	}
	t := time.NewTimer(time.Until(q.event.at.Add(q.Delay)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}

// errNoTime is the cause of WorkContext's end.
var errNoTime = fmt.Errorf("quit: no time left for work in flight: %w", context.DeadlineExceeded)

// drain is the step that waits for the goroutines. It gives up at the end of its
// share; those that are left have an eighth of it to notice that their
// WorkContext is cancelled, before what they use is closed.
func (q *QuitEvent) drain(ctx context.Context) error {
	start := time.Now()
	left := q.count.wait(ctx.Done())
	switch {
	case left < 0:
		return fmt.Errorf("DoneGoroutine was called %s more than AddGoroutine", plural(-left, "time"))
	case left == 0:
		return nil
	}
	took := time.Since(start)
	err := &stacks.Error{Err: fmt.Errorf("%s left after %v: %w", plural(left, "goroutine"), took.Round(time.Millisecond),
		context.DeadlineExceeded), Stacks: stacks.All()[stacks.ID(q)]}
	q.work.fire(errNoTime)
	last, cancel := context.WithDeadline(context.WithoutCancel(ctx), start.Add(took+took/8))
	defer cancel()
	q.count.wait(last.Done())
	return err
}

// conclude ends the shutdown for those who wait for it.
func (q *QuitEvent) conclude() {
	q.log(slog.LevelInfo, "quit: stopped",
		slog.Duration("took", time.Since(q.event.at).Round(time.Microsecond)), slog.Int("failures", len(q.failures)))
	q.work.fire(errNoTime)
	q.ended.Fire()
}

// runLate calls a closer that was registered after the end, and waits for it.
func (q *QuitEvent) runLate(e *entry, p phase) {
	s := newStep(e, p, after(time.Now(), q.timeout()))
	s.over = make(chan struct{})
	q.mu.Lock()
	q.running++
	q.mu.Unlock()
	defer enterWait(callersOf(context.Background()), q)() // before the closer can ask who waits
	go func() {                                           // ends when the closer returns
		defer enterLoop(q)()
		s.run(q.base)
	}()
	<-s.over
}
