package recipes

import (
	"context"

	"github.com/gracefulgo/graceful/quit"
)

// Pool runs tasks in goroutines of q, at most so many at once as it has slots.
type Pool struct {
	q     *quit.QuitEvent
	slots chan struct{}
}

// NewPool returns a pool for n tasks at once.
func NewPool(q *quit.QuitEvent, n int) *Pool {
	return &Pool{q: q, slots: make(chan struct{}, n)}
}

// Go waits for a slot and starts the task. It reports false, and starts
// nothing, if ctx is done or q has fired before. An error of the task ends the
// program.
//
// The rule: [quit.QuitEvent.Go] alone decides. If it says true, the drain waits
// for the task; if false, the task is still the caller's, to be given back.
// There is no moment in between. Whoever waits for a slot waits for the fire
// too. The task gets WorkContext, so that it is finished after the fire. It is
// cancelled when the time of the drain is over; tasks that go on are named.
func (p *Pool) Go(ctx context.Context, task func(ctx context.Context) error) bool {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	case <-p.q.Done():
		return false
	}
	return p.q.Go(func(context.Context) error { // if not, nobody needs the slot any longer
		defer func() { <-p.slots }()
		return task(p.q.WorkContext())
	}, quit.Name("task"))
}
