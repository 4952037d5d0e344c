package quit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Event is a one-time event: it fires once and stays fired. The zero value is
// ready to use. An Event must not be copied after first use. Its methods may be
// called at any time, from any number of goroutines.
//
// In the terminology of the Go memory model, the call to Fire that returns true
// is synchronized before the return of any receive from Done, and before the
// return of any call to HasFired that returns true.
type Event struct {
	// fired is set by the one Fire that returns true, before ctx is cancelled.
	// An observer that finds fired set waits for the cancellation, which
	// follows at once and depends on nothing else. An observer that finds ctx
	// cancelled finds fired set. So no observer sees one without the other.
	fired atomic.Bool

	once   sync.Once // makes ctx and cancel
	ctx    context.Context
	cancel context.CancelCauseFunc

	at time.Time // of the fire; written before ctx is cancelled, read after
}

// NewEvent returns a new Event that has not fired.
func NewEvent() *Event { return new(Event) }

// Fire fires the event and reports whether this call did so, which is true for
// exactly one call. It never blocks.
func (e *Event) Fire() bool { return e.fire(context.Canceled) }

// HasFired reports whether the event has fired, that is, whether Done is
// closed. Before the fire it is one atomic load.
func (e *Event) HasFired() bool { return e.fired.Load() && e.settled() }

// Done returns the channel that the fire closes. It is always the same channel.
func (e *Event) Done() <-chan struct{} { return e.context().Done() }

// context returns the context that the fire cancels. Its Done channel is also
// the event's: two channels would have to be closed in some order.
func (e *Event) context() context.Context {
	e.once.Do(func() { e.ctx, e.cancel = context.WithCancelCause(context.Background()) })
	return e.ctx
}

func (e *Event) fire(cause error) bool {
	if !e.begin() {
		return false
	}
	e.announce(cause)
	return true
}

// begin is the first half of a fire. It reports whether this call fires.
func (e *Event) begin() bool {
	if !e.fired.CompareAndSwap(false, true) {
		return false
	}
	e.at = time.Now()
	return true
}

// announce is the second half, and follows begin at once. It makes the fire
// visible.
func (e *Event) announce(cause error) {
	e.context()
	e.cancel(cause)
}

// settled waits for the second half of a fire whose first half has happened.
func (e *Event) settled() bool {
	<-e.Done()
	return true
}

// cause returns the cause of the fire, or nil before the fire.
func (e *Event) cause() error {
	if !e.HasFired() {
		return nil
	}
	return context.Cause(e.context())
}
