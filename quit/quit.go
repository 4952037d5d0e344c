package quit

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// DefaultTimeout limits the whole shutdown if [QuitEvent.Timeout] is zero. It
// is a few seconds less than the 30 seconds that Kubernetes and ECS allow.
const DefaultTimeout = 25 * time.Second

// QuitEvent is an [Event] with a registry of closers and a counter of
// goroutines. The zero value is ready to use. The exported fields must be set
// before first use, and a QuitEvent must not be copied after first use. Its
// methods may be called at any time, from any number of goroutines, and more
// than once.
//
// The event fires once: on a call to Fire or Fail, on a failure in Go, on a
// signal, or when a shutdown begins. The fire only announces the shutdown.
// There is one shutdown. The first call to Shutdown, GracefulStop or WaitSignal
// starts it, and all later calls wait for it. Its phases are delay, closers,
// drain and after drain. After it has ended, nothing changes any more. A closer
// that is registered then is called at once.
type QuitEvent struct {
	// Timeout limits the whole shutdown, Delay included. Zero means
	// DefaultTimeout; a negative value means no limit. The option Timeout
	// limits a single closer.
	Timeout time.Duration

	// Delay is the time between the fire and the first closer, so that load
	// balancers can notice. It is limited to the share of a step.
	Delay time.Duration

	// If Concurrent is set, the closers of a phase are called all at once,
	// instead of one at a time in reverse order.
	Concurrent bool

	// Logger receives the log of the event; nil means slog.Default(). A handler
	// that is slow, blocks or panics does not hold up any closer.
	Logger *slog.Logger

	event  Event    // the fire; its context is Context
	work   Event    // fires when work in flight has no time left; its context is WorkContext
	hasten Event    // fires when the delay is to end early
	ended  Event    // fires when the shutdown has ended
	count  counter  // of goroutines
	sched  schedule // the closers and the shutdown
	node   node     // the steps that wait for the shutdown

	parents  parents      // the events that this one is registered with
	records  records      // of the log
	listener listener     // of signals
	pipe     pipeHold     // keeps SIGPIPE away
	routines routineCache // of Go

	// waiter is the place where WaitSignal was first called before the fire, or
	// 0. It is atomic: the first call sets it, and nothing else depends on it.
	waiter atomic.Uintptr
}

var (
	process QuitEvent                 // used until SetQuitEvent
	current atomic.Pointer[QuitEvent] // set by SetQuitEvent; atomic, as its only guard
)

// GetQuitEvent returns the event of the process.
func GetQuitEvent() *QuitEvent {
	if q := current.Load(); q != nil {
		return q
	}
	return &process
}

// SetQuitEvent makes q the event of the process, as [slog.SetDefault] does with
// a logger. Closers that were registered with the old event stay there.
// SetQuitEvent may be called at any time, from any goroutine. It panics if q is
// nil.
func SetQuitEvent(q *QuitEvent) {
	if q == nil {
		panic("quit: SetQuitEvent(nil)")
	}
	current.Store(q)
}

// NewQuitEvent returns a new event, for a test or for a part of a program that
// is shut down on its own.
func NewQuitEvent() *QuitEvent { return new(QuitEvent) }

// Fire fires the event with [context.Canceled] as the cause, and reports
// whether this call did so. Fire only announces the shutdown: it never blocks
// and never calls a closer. To run the shutdown, call [QuitEvent.Shutdown], or
// wait in [QuitEvent.WaitSignal]. The documentation of [Event] describes how
// Fire synchronizes goroutines.
func (q *QuitEvent) Fire() bool { return q.fire(context.Canceled) }

func (q *QuitEvent) fire(cause error) bool { return q.fireAfter(cause, func() {}) }

// fireAfter is fire. If this call fires, it calls note before others see the
// fire.
func (q *QuitEvent) fireAfter(cause error, note func()) bool {
	if q.event.fired.Load() { // the fire under way does the rest
		return false
	}
	q.pipe.fire()
	if !q.event.begin() {
		return false
	}
	note()
	q.logFired(cause) // before others see the fire and log its consequences
	q.event.announce(cause)
	q.sched.fired()
	return true
}

// Fail fires the event with err as the cause, and reports whether this call did
// so. Shutdown reports err even if the event had already fired. After the
// shutdown has ended, err is only logged.
//
// Fail(nil) is the same as Fire. A [*SignalError], alone or wrapped, counts as
// a signal and not as a failure. This is useful in tests, and in programs that
// receive a signal themselves.
func (q *QuitEvent) Fail(err error) bool {
	if err == nil {
		return q.Fire()
	}
	if isSignal(err) {
		return q.fire(err)
	}
	return q.fail(err, err, "")
}

// fail records and logs a failure, and fires with the cause. goroutine is the
// name of the goroutine that failed, or "".
func (q *QuitEvent) fail(failure, cause error, goroutine string) bool {
	counts := q.sched.fail(failure) // first: a shutdown that the fire starts may end at once
	q.logFailure(cause, goroutine, counts)
	fired := q.fireAll(cause)
	if !counts {
		q.awaitLog(context.Background()) // only the log has it
	}
	return fired
}

// HasFired reports whether the event has fired. It always agrees with Done,
// Context and Cause: if it is true, Done is closed, Context is cancelled and
// Cause is set, and the other way round. Before the fire it is one atomic load.
func (q *QuitEvent) HasFired() bool { return q.event.HasFired() }

// Done returns the channel that the fire closes. It is always the same channel.
func (q *QuitEvent) Done() <-chan struct{} { return q.event.Done() }

// Cause returns the cause of the fire, and nil before the fire. It is a
// [*SignalError] for a signal, the error given to Fail or returned in Go for a
// failure, and [context.Canceled] otherwise. It never changes after the fire.
func (q *QuitEvent) Cause() error { return q.event.cause() }

// Context returns the context that the fire cancels. Its cause, as returned by
// [context.Cause], is [QuitEvent.Cause], and its Done channel is
// [QuitEvent.Done]. Use it for anything that should end at the fire. For work
// in flight, use [QuitEvent.WorkContext].
func (q *QuitEvent) Context() context.Context { return q.event.context() }

// WorkContext returns the context for work in flight. The fire does not cancel
// it. It is cancelled when the time for such work has run out, at the end of
// the drain's share, or else at the end of the shutdown. The error that is its
// cause says so, and is a [context.DeadlineExceeded]. After that, counted
// goroutines have another eighth of the drain's share to end before the
// AfterDrain closers are called.
func (q *QuitEvent) WorkContext() context.Context { return q.work.context() }
