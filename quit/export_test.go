package quit

import (
	"context"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
)

// ShortSymbol lets tests call shortSymbol.
var (
	ShortSymbol = shortSymbol
)

// An error that wraps others without end would take seconds in tests otherwise.
func init() { mostWrapped = 1 << 12 }

// Taken returns r as a snapshot taken at the given time, with the failures in
// err.
func (r Report) Taken(at time.Time, err error) Report {
	r.taken, r.err = at, err
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		r.failures = joined.Unwrap()
	} else if err != nil {
		r.failures = []error{err}
	}
	return r
}

// Left returns the time between the snapshot and the deadline.
func (r Report) Left() time.Duration { return r.Deadline.Sub(r.taken) }

// NamedError returns the error of a step.
func NamedError(name, site string, err error) error { return &namedError{name, site, err} }

// ReportWithStacks returns the text that a forced end writes to stderr.
func ReportWithStacks(q *QuitEvent) string {
	return q.report(make(map[*QuitEvent]bool), stacks.All()).String()
}

// waitHooks holds the functions set by OnWait, as *func(*QuitEvent).
var waitHooks sync.Map

func init() {
	onWait = func(q *QuitEvent) {
		waitHooks.Range(func(f, _ any) bool {
			(*f.(*func(*QuitEvent)))(q)
			return true
		})
	}
}

// OnWait makes every WaitSignal call f, until restore is called. That is after
// the signals are handled and before the wait for the fire. Any number of
// functions may be set. They are called from the goroutines of the WaitSignal
// calls.
func OnWait(f func(q *QuitEvent)) (restore func()) {
	waitHooks.Store(&f, nil)
	return func() { waitHooks.Delete(&f) }
}

// stacksHooks holds the functions set by OnStacks, as *func().
var stacksHooks sync.Map

func init() {
	take := allStacks
	allStacks = func() map[string]string {
		stacksHooks.Range(func(f, _ any) bool {
			(*f.(*func()))()
			return true
		})
		return take()
	}
}

// OnStacks makes every look at the stacks of all goroutines call f first, until
// restore is called. f is called from the goroutine that looks.
func OnStacks(f func()) (restore func()) {
	stacksHooks.Store(&f, nil)
	return func() { stacksHooks.Delete(&f) }
}

// SignalTable is a table of signal handlers that receives no signals from the
// system. A test sends it signals with Take.
type SignalTable struct{ t signalTable }

// Handle makes q handle sigs.
func (t *SignalTable) Handle(q *QuitEvent, sigs ...os.Signal) {
	if len(q.listener.handlers) == 0 {
		t.t.active = append(t.t.active, q)
	}
	q.listener.handlers = append(q.listener.handlers, &handler{q: q, sigs: sigs})
}

// Leave does what the end of q's shutdown does.
func (t *SignalTable) Leave(q *QuitEvent) { t.t.leave(q) }

// Take takes a signal and fires the events for which it is the first one. It
// reports whether the signal ends the process.
func (t *SignalTable) Take(s os.Signal, now time.Time) (ends bool) {
	fires, _, ends := t.t.decide(s, now)
	for _, q := range fires {
		q.Fail(&SignalError{s})
	}
	return ends
}

// Receives reports whether the process receives s for any event.
func Receives(s os.Signal) bool {
	signals.mu.Lock()
	defer signals.mu.Unlock()
	return signals.receivers[s] != nil
}

// HasCounted reports whether a goroutine has ever been counted.
func (q *QuitEvent) HasCounted() bool { return q.count.stripes.Load() != nil }

// HoldCounter blocks the first of all adds, and all waits, until release is
// called.
func (q *QuitEvent) HoldCounter() (release func()) {
	q.count.mu.Lock()
	return q.count.mu.Unlock
}

// Watchers returns the number of watchers that wait for a change of q.
func (q *QuitEvent) Watchers() int {
	q.sched.mu.Lock()
	defer q.sched.mu.Unlock()
	return len(q.sched.watchers)
}

// TimersLeft stops the timers that watch the steps, and returns how many were
// set. After the end of the shutdown there should be none.
func (q *QuitEvent) TimersLeft() (n int) {
	for _, s := range q.sched.steps {
		if s.watch.Stop() {
			n++
		}
	}
	return n
}

// HoldPipe blocks q from changing the handling of SIGPIPE until release is
// called.
func (q *QuitEvent) HoldPipe() (release func()) {
	q.pipe.mu.Lock()
	return q.pipe.mu.Unlock
}

// SharedHold counts the events that hold SIGPIPE, as the process does.
type SharedHold struct{ h sharedHold }

// Hold begins or ends the hold of one event, and reports whether it has one.
func (h *SharedHold) Hold(on bool) (held bool) { return h.h.hold(on) }

// EndDelay does what an interrupt during the shutdown does first.
func (q *QuitEvent) EndDelay() bool { return q.endDelay() }

// StopWithPending makes qs handle s, a signal that has arrived but was not
// taken yet. Then it stops the handler of the last of them. The channel stopped
// is closed when that is done. Then end stops the handlers of the others. On
// one processor, the receiver finds both the signal and the stop when it runs.
func StopWithPending(s os.Signal, qs ...*QuitEvent) (stopped <-chan struct{}, end func()) {
	t, r := &signals, newReceiver(s)
	t.mu.Lock()
	if t.receivers == nil {
		t.receivers = make(map[os.Signal]*receiver)
	}
	r.handlers, t.receivers[s] = len(qs), r
	for _, q := range qs {
		t.active = append(t.active, q)
		q.listener.handlers = append(q.listener.handlers, &handler{q: q, sigs: []os.Signal{s}})
	}
	t.mu.Unlock()
	for _, q := range qs {
		q.pipe.handle(1)
	}
	last := len(qs) - 1
	done := make(chan struct{})
	go func() {
		qs[last].listener.handlers[0].stop()
		close(done)
	}()
	runtime.Gosched()
	go t.run(r) // ends when the last handler is stopped
	return done, func() {
		for _, q := range qs[:last] {
			q.listener.handlers[0].stop()
		}
	}
}

// EndWithPending releases the last handler of s while s has arrived but was not
// taken yet. It reports whether s was taken.
func EndWithPending(s os.Signal) (taken bool) {
	t, r := new(signalTable), newReceiver(s)
	close(r.end)
	t.run(r)
	return !t.last.IsZero()
}

// newReceiver returns a receiver of s for one handler, with s pending.
func newReceiver(s os.Signal) *receiver {
	r := &receiver{
		handlers: 1,
		c:        make(chan os.Signal, 16),
		flush:    make(chan chan struct{}),
		end:      make(chan struct{}),
		ended:    make(chan struct{}),
	}
	r.c <- s
	return r
}

// Waits returns the number of waits by q's closers, plus the waits for the end
// of q.
func (q *QuitEvent) Waits() int {
	waits.mu.Lock()
	defer waits.mu.Unlock()
	return q.node.blocked + len(q.node.waiters)
}

// Routines returns the number of routines of Go that are cached.
func (q *QuitEvent) Routines() int {
	if known := q.routines.known.Load(); known != nil {
		return len(*known)
	}
	return 0
}

// HoldRecord acts as a step of q that is about to log its end, until release is
// called.
func (q *QuitEvent) HoldRecord() (release func()) {
	q.records.ending.RLock()
	return q.records.ending.RUnlock
}

// Exists reports whether os/signal can deliver s.
func Exists(s os.Signal) bool { return exists(s) }

// HoldFire begins a fire and blocks it before it can be observed, until release
// is called.
func (q *QuitEvent) HoldFire() (release func()) {
	held, released := make(chan struct{}), make(chan struct{})
	go q.event.once.Do(func() { // returns after the release
		close(held)
		<-released
		q.event.ctx, q.event.cancel = context.WithCancelCause(context.Background())
	})
	<-held
	return func() { close(released) }
}

// BeginFire does the first half of a fire, and announce the second half.
func (e *Event) BeginFire() (announce func()) {
	e.begin()
	return func() { e.announce(context.Canceled) }
}

// NextLook returns the time from an age of a step until the next look at it.
// The time of the step ends at the age last; 0 means never.
func NextLook(age, last time.Duration) time.Duration {
	start := time.Now()
	s := &step{site: 1, start: start}
	if last > 0 {
		s.last = start.Add(last)
	}
	return s.nextLook(start.Add(age))
}

// StandStill makes the timers of all running steps of q and of its nested
// events fire late, as they do if the process stands still for d. It is for a
// bubble of testing/synctest, in which no closer returns in that time.
func (q *QuitEvent) StandStill(d time.Duration) {
	now := time.Now()
	for _, s := range q.running() {
		if s.nextLook(now) < d {
			s.watch.Reset(d)
		}
		if s.child != nil && s.child.sched.startedBy() == s {
			s.child.StandStill(d)
		}
	}
}

// running returns the running steps.
func (q *QuitEvent) running() (steps []*step) {
	q.sched.mu.Lock()
	defer q.sched.mu.Unlock()
	for _, s := range q.sched.steps {
		if s.end.IsZero() {
			steps = append(steps, s)
		}
	}
	return steps
}

// Reserve returns the reserve of q, which has begun to shut down.
func (q *QuitEvent) Reserve() time.Duration {
	q.sched.mu.Lock()
	defer q.sched.mu.Unlock()
	return q.sched.reserve
}

// HasEnded reports whether the shutdown of q has ended.
func (q *QuitEvent) HasEnded() bool { return q.ended.HasFired() }
