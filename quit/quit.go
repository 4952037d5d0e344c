package quit

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// DefaultTimeout is the time of a whole shutdown where [QuitEvent.Timeout] is
// zero: inside the 30 seconds that Kubernetes and ECS give, with some to spare.
const DefaultTimeout = 25 * time.Second

// QuitEvent is an [Event] with a registry of closers and a counter of
// goroutines. The zero value is ready to use. Set the exported fields before it
// is used, and do not copy it after. Its methods may be called from any number
// of goroutines, at any time, and more than once.
//
// It is idle while closers are registered and goroutines are counted. One fire
// ends that: by Fire, Fail, an error in Go, a signal, or a shutdown. The fire
// only announces. The one shutdown that follows belongs to the first of
// Shutdown, GracefulStop and WaitSignal to be called; all others wait for it.
// It goes through the phases delay, closers, drain and after drain. Once it has
// ended, nothing changes anymore, and a closer that is registered is called at
// once.
type QuitEvent struct {
	// Timeout is the time of a whole shutdown, Delay included.
	// Zero means DefaultTimeout, negative no limit.
	Timeout time.Duration

	// Delay is the time between the fire and the first closer, for load
	// balancers to notice. It gets no more than the share of any other step.
	Delay time.Duration

	// Concurrent says that the closers of a phase are called all at once,
	// and not one by one in reverse order.
	Concurrent bool

	// Logger is where the event logs to; nil means slog.Default(). A handler
	// that is slow, blocks or panics does not hold up any closer.
	Logger *slog.Logger

	event  Event    // the fire; its context is Context
	work   Event    // fires when no time is left for work in flight; its context is WorkContext
	hasten Event    // fires when the delay is to end early
	ended  Event    // fires when the shutdown has ended, for those who wait for it
	count  counter  // of goroutines
	sched  schedule // the closers and the shutdown
	node   node     // what waits for the shutdown

	parents  parents      // the events that this one is registered with
	records  records      // of the log
	listener listener     // of signals
	pipe     pipeHold     // keeps SIGPIPE away
	routines routineCache // of Go

	// waiter is where WaitSignal was first called before the fire; 0: nowhere.
	// It is atomic since only one word decides which call was first.
	waiter atomic.Uintptr
}

var (
	process QuitEvent                 // used until SetQuitEvent
	current atomic.Pointer[QuitEvent] // set by SetQuitEvent; a single word, so nothing else to guard
)

// GetQuitEvent returns the process's own event.
func GetQuitEvent() *QuitEvent {
	if q := current.Load(); q != nil {
		return q
	}
	return &process
}

// SetQuitEvent makes q the process's own event, as [slog.SetDefault] does with a
// logger. What was registered with the old one stays there. It may be called at any
// time, from any goroutine; it panics if q is nil.
func SetQuitEvent(q *QuitEvent) {
	if q == nil {
		panic("quit: SetQuitEvent(nil)")
	}
	current.Store(q)
}

// NewQuitEvent returns a new event, for a part of a program that is closed on
// its own, or for a test.
func NewQuitEvent() *QuitEvent { return new(QuitEvent) }

// Fire fires the event, with [context.Canceled] as the cause, and reports
// whether this call did so. It never blocks and never calls a closer: it only
// announces. See [Event] for what is synchronized with what.
func (q *QuitEvent) Fire() bool { return q.fire(context.Canceled) }

func (q *QuitEvent) fire(cause error) bool {
	if q.event.fired.Load() { // the fire under way does all that follows
		return false
	}
	q.pipe.fire()
	if !q.event.begin() {
		return false
	}
	q.logFired(cause) // before others see the fire, and log what follows from it
	q.event.announce(cause)
	q.sched.fired()
	return true
}

// Fail fires the event with err as the cause and reports whether this call did
// so. Shutdown reports err even if the event had already fired. After the
// shutdown has ended, err is only logged.
//
// Fail(nil) is Fire. A [*SignalError], alone or wrapped, is a signal and not a
// failure: for tests, and for programs that take a signal themselves.
func (q *QuitEvent) Fail(err error) bool {
	if err == nil {
		return q.Fire()
	}
	if isSignal(err) {
		return q.fire(err)
	}
	return q.fail(err, err, "")
}

// fail records and logs a failure, and fires with the cause. The failure is
// that of the goroutine with the given name, unless that is "".
func (q *QuitEvent) fail(failure, cause error, goroutine string) bool {
	counts := q.sched.fail(failure) // first: a shutdown that the fire starts may end at once
	q.logFailure(cause, goroutine, counts)
	fired := q.fireAll(cause)
	if !counts {
		q.awaitLog() // which is all that tells of it
	}
	return fired
}

// HasFired reports whether the event has fired. When it is true, Done is
// closed, Context is cancelled and Cause is set; when any of them is seen, it
// is true. Before the fire it is one atomic load.
func (q *QuitEvent) HasFired() bool { return q.event.HasFired() }

// Done returns the channel that the fire closes. It is always the same channel.
func (q *QuitEvent) Done() <-chan struct{} { return q.event.Done() }

// Cause returns why the event fired, and nil before the fire: a [*SignalError]
// for a signal; the error given to Fail or returned in Go; otherwise
// [context.Canceled]. The first fire sets it for good.
func (q *QuitEvent) Cause() error { return q.event.cause() }

// Context returns the context that the fire cancels. [context.Cause] of it
// is [QuitEvent.Cause], and its Done channel is [QuitEvent.Done]. It is for what
// should end at the fire, and so not for work in flight: see WorkContext.
func (q *QuitEvent) Context() context.Context { return q.event.context() }

// WorkContext returns the context for work in flight. The fire does not cancel
// it. It is cancelled when time for such work has run out: at the end of the
// drain's share of the time, or when the shutdown has ended, even if that was
// in time. Its cause then says so, and is [context.DeadlineExceeded]. Counted
// goroutines that end once it is cancelled are still awaited for a while, an
// eighth of the drain's share, before the AfterDrain closers are called.
func (q *QuitEvent) WorkContext() context.Context { return q.work.context() }
