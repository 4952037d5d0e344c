package quit

import (
	"context"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
)

// What tests need of the inside.
var (
	ShortSymbol = shortSymbol
)

// An error that wraps others without end takes seconds in tests otherwise.
func init() { mostWrapped = 1 << 12 }

// Taken returns r as a snapshot taken at that time, with err as what failed so
// far.
func (r Report) Taken(at time.Time, err error) Report {
	r.taken, r.err = at, err
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		r.failures = joined.Unwrap()
	} else if err != nil {
		r.failures = []error{err}
	}
	return r
}

// Left returns the time from when r was taken to its deadline.
func (r Report) Left() time.Duration { return r.Deadline.Sub(r.taken) }

// NamedError returns the error of a step.
func NamedError(name, site string, err error) error { return &namedError{name, site, err} }

// ReportWithStacks is what a forced end writes.
func ReportWithStacks(q *QuitEvent) string {
	return q.report(make(map[*QuitEvent]bool), stacks.All()).String()
}

// waitHooks are the functions of OnWait in effect: of type *func(*QuitEvent).
var waitHooks sync.Map

func init() {
	onWait = func(q *QuitEvent) {
		waitHooks.Range(func(f, _ any) bool {
			(*f.(*func(*QuitEvent)))(q)
			return true
		})
	}
}

// OnWait has f called by every WaitSignal until restore is called: once the
// signals are handled, and before the wait for the fire. Any number of
// functions may be in effect, and f is called from the goroutines of the
// WaitSignal calls.
func OnWait(f func(q *QuitEvent)) (restore func()) {
	waitHooks.Store(&f, nil)
	return func() { waitHooks.Delete(&f) }
}

// stacksHooks are the functions of OnStacks in effect: of type *func().
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

// OnStacks has f called whenever the stacks of all goroutines are to be taken,
// before they are, until restore is called. f is called from the goroutines
// that want them.
func OnStacks(f func()) (restore func()) {
	stacksHooks.Store(&f, nil)
	return func() { stacksHooks.Delete(&f) }
}

// SignalTable is a table of handlers of its own, for signals that a test makes.
type SignalTable struct{ t signalTable }

// Handle has q handle sigs, of which none is taken from the system.
func (t *SignalTable) Handle(q *QuitEvent, sigs ...os.Signal) {
	if len(q.listener.handlers) == 0 {
		t.t.active = append(t.t.active, q)
	}
	q.listener.handlers = append(q.listener.handlers, &handler{q: q, sigs: sigs})
}

// Leave is the end of q's shutdown.
func (t *SignalTable) Leave(q *QuitEvent) { t.t.leave(q) }

// Take takes a signal, fires those events for which it is the first one, and
// reports whether it ends the process.
func (t *SignalTable) Take(s os.Signal, now time.Time) (ends bool) {
	fires, _, ends := t.t.decide(s, now)
	for _, q := range fires {
		q.Fail(&SignalError{s})
	}
	return ends
}

// HasCounted reports whether a goroutine has been counted, even if it is
// discounted by now.
func (q *QuitEvent) HasCounted() bool { return q.count.stripes.Load() != nil }

// HoldCounter keeps the first of all adds, and all waits, from what they do
// until release.
func (q *QuitEvent) HoldCounter() (release func()) {
	q.count.mu.Lock()
	return q.count.mu.Unlock
}

// Watchers returns how many watchers wait for a change of q.
func (q *QuitEvent) Watchers() int {
	q.sched.mu.Lock()
	defer q.sched.mu.Unlock()
	return len(q.sched.watchers)
}

// TimersLeft returns how many of the timers that look at the steps are set.
// After the end there are none.
func (q *QuitEvent) TimersLeft() (n int) {
	for _, s := range q.sched.steps {
		if s.watch.Stop() {
			n++
		}
	}
	return n
}

// HoldPipe keeps q from changing what happens to SIGPIPE until release.
func (q *QuitEvent) HoldPipe() (release func()) {
	q.pipe.mu.Lock()
	return q.pipe.mu.Unlock
}

// StopWithPending has qs handle s, which has come and was not taken yet, and
// stops that for the last of them. stopped is closed when that is done, and
// then end stops it for the others. On one processor the receiver finds both to
// do.
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
	go t.run(r) // ends with the last handler
	return done, func() {
		for _, q := range qs[:last] {
			q.listener.handlers[0].stop()
		}
	}
}

// EndWithPending has the last handler of s released when s has come and was not
// taken yet. It reports whether s was taken.
func EndWithPending(s os.Signal) (taken bool) {
	t, r := new(signalTable), newReceiver(s)
	close(r.end)
	t.run(r)
	return !t.last.IsZero()
}

// newReceiver returns a receiver of s that one handler lists and that has got
// it.
func newReceiver(s os.Signal) *receiver {
	r := &receiver{handlers: 1, c: make(chan os.Signal, 16), flush: make(chan chan struct{}),
		end: make(chan struct{}), ended: make(chan struct{})}
	r.c <- s
	return r
}

// Waits returns how many waits there are of q's closers and for the end of q.
func (q *QuitEvent) Waits() int {
	waits.mu.Lock()
	defer waits.mu.Unlock()
	return q.node.blocked + len(q.node.waiters)
}

// Routines returns how many routines of Go are cached.
func (q *QuitEvent) Routines() int {
	if known := q.routines.known.Load(); known != nil {
		return len(*known)
	}
	return 0
}

// HoldRecord is a step of q that is about to log its end, until release.
func (q *QuitEvent) HoldRecord() (release func()) {
	q.records.ending.RLock()
	return q.records.ending.RUnlock
}

// Exists reports whether os/signal can deliver s.
func Exists(s os.Signal) bool { return exists(s) }

// HoldFire has a fire that begins wait, before anybody can see it, until release
// is called.
func (q *QuitEvent) HoldFire() (release func()) {
	held, released := make(chan struct{}), make(chan struct{})
	go q.event.once.Do(func() { // ends at release
		close(held)
		<-released
		q.event.ctx, q.event.cancel = context.WithCancelCause(context.Background())
	})
	<-held
	return func() { close(released) }
}
