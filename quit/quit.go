package quit

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultTimeout is the time of a whole shutdown where [QuitEvent.Timeout] is
// zero: inside the 30 seconds that Kubernetes and ECS give, with some to spare.
const DefaultTimeout = 25 * time.Second

// QuitEvent is an [Event] with a registry of closers and a counter of
// goroutines. The zero value is ready to use; the exported fields are set before it
// is used; it must not be copied after. Its methods may be called from any number of
// goroutines, at any time, and more than once.
//
// Its life: it is idle while closers are registered and goroutines are counted.
// One fire ends that: by Fire, Fail, an error in Go, a signal, or a shutdown. The
// fire only announces. The one shutdown that follows belongs to the first of
// Shutdown, GracefulStop and WaitSignal to be called; all others wait for it. It goes
// through the phases delay, closers, drain and after drain, which are queues of
// steps. Once it has ended, nothing changes anymore, and what is registered still
// is called at once.
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

	// Logger is where the event logs to; nil means slog.Default(). The shutdown
	// waits for its handler, so one that blocks holds it up.
	Logger *slog.Logger

	event     Event                       // the fire; its context is Context
	work      Event                       // fires when there is no time left for work in flight; its context is WorkContext
	ended     Event                       // fires when the shutdown has ended
	count     counter                     // of goroutines
	pipe      pipeHold                    // keeps SIGPIPE away
	signalled atomic.Pointer[firstSignal] // set once, by the handler that comes first

	routines atomic.Pointer[map[uintptr]*routine] // by the code of their func; a map is never changed, only replaced

	mu       sync.Mutex // guards the fields below; no user code runs and no lock is taken under it
	queues   [phaseEnded]queue
	phase    phase           // only grows
	running  int             // steps that have begun and neither returned nor were abandoned
	steps    []*step         // all that have begun, in that order
	failures []error         // in the order they happened; not added to once the shutdown has ended
	base     context.Context // of all steps; set by the first to shut down, before the fire, as is deadline
	deadline time.Time       // zero: none

	err error // of the shutdown; written, with mu held, before ended fires, and read after that or with mu held
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
	if !q.event.fired.Load() { // else it is held, or will be by the fire under way
		q.pipe.fire()
	}
	return q.event.fire(cause)
}

// Fail fires the event with err as the cause and reports whether this call did
// so. err is in what Shutdown returns, also where the event had fired before; only
// after the shutdown has ended is it merely logged.
//
// Fail(nil) is Fire. A [*SignalError], alone or wrapped, is a signal and not a
// failure: for tests, and for programs that take a signal themselves.
func (q *QuitEvent) Fail(err error) bool {
	if err == nil {
		return q.Fire()
	}
	return q.fail(err, err)
}

// fail records failure, unless the cause is a signal, and fires with the cause.
func (q *QuitEvent) fail(failure, cause error) bool {
	if isSignal(cause) {
		return q.fire(cause)
	}
	q.mu.Lock()
	late := q.phase == phaseEnded
	if !late {
		q.failures = append(q.failures, failure)
	}
	q.mu.Unlock()
	if late {
		q.log(slog.LevelError, "quit: failure after the shutdown", slog.Any("err", failure))
	}
	return q.fire(cause)
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

// WorkContext returns the context for work in flight, which is cancelled not by
// the fire but when time for such work has run out: at the end of the drain's
// share of the time, or when the shutdown has ended, also if that was in time. Its
// cause then says so, and is [context.DeadlineExceeded]. Counted goroutines that end once it is cancelled
// are still awaited for a while, an eighth of the drain's share, before the
// AfterDrain closers are called.
func (q *QuitEvent) WorkContext() context.Context { return q.work.context() }

// logger returns where q logs to. To call it is to run user code: no lock is held.
func (q *QuitEvent) logger() *slog.Logger {
	if q.Logger != nil {
		return q.Logger
	}
	return slog.Default()
}

// logs reports whether something of that level would be logged.
func (q *QuitEvent) logs(level slog.Level) bool {
	return q.logger().Enabled(context.Background(), level)
}

func (q *QuitEvent) log(level slog.Level, msg string, attrs ...slog.Attr) {
	q.logger().LogAttrs(context.Background(), level, msg, attrs...)
}

func (q *QuitEvent) warn(msg string, attrs ...slog.Attr) { q.log(slog.LevelWarn, msg, attrs...) }
