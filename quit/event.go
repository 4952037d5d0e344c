package quit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Event is a one-time event: it fires once and stays fired.
// The zero value is ready to use; an Event must not be copied after first use.
// All methods may be called at any time from any number of goroutines.
//
// In the terms of the Go memory model, what comes before Fire in the goroutine
// whose Fire returned true is synchronized before the return of any receive
// from Done and of any HasFired that returned true.
type Event struct {
	// fired is set by the one Fire that wins, and only then is ctx cancelled.
	// An observer who finds it set waits for the cancellation, which follows at
	// once and depends on nobody; an observer who finds ctx cancelled finds
	// fired set, for it was set before. So nobody sees one without the other.
	fired atomic.Bool

	once   sync.Once // makes ctx and cancel
	ctx    context.Context
	cancel context.CancelCauseFunc

	at time.Time // of the fire; written before ctx is cancelled, read after
}

// NewEvent returns a new Event that has not fired.
func NewEvent() *Event { return new(Event) }

// Fire fires the event and reports whether this call did so: it is true for
// exactly one call. It never blocks.
func (e *Event) Fire() bool { return e.fire(context.Canceled) }

// HasFired reports whether the event has fired. When it is true, Done is closed,
// and when Done is closed, it is true. Before the fire it is one atomic load.
func (e *Event) HasFired() bool { return e.fired.Load() && e.settled() }

// Done returns the channel that the fire closes. It is always the same channel.
func (e *Event) Done() <-chan struct{} { return e.context().Done() }

// context returns the context that the fire cancels. Its Done channel is the
// event's own: with one channel there is no order between two to get wrong.
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

// begin is the first half of a fire: it decides who fires.
func (e *Event) begin() bool {
	if !e.fired.CompareAndSwap(false, true) {
		return false
	}
	e.at = time.Now()
	return true
}

// announce is the second half: others see the fire. It follows begin at once.
func (e *Event) announce(cause error) {
	e.context()
	e.cancel(cause)
}

// settled waits out the moment between the two halves of a fire.
func (e *Event) settled() bool {
	<-e.Done()
	return true
}

// cause returns what the event was fired with, or nil before the fire.
func (e *Event) cause() error {
	if !e.HasFired() {
		return nil
	}
	return context.Cause(e.context())
}
