package recipes

import (
	"context"

	"github.com/gracefulgo/graceful/quit"
)

// Pool runs tasks in goroutines of q, and limits how many run at one time.
type Pool struct {
	q     *quit.QuitEvent
	slots chan struct{}
}

// NewPool returns a pool for n tasks at once.
func NewPool(q *quit.QuitEvent, n int) *Pool {
	return &Pool{q: q, slots: make(chan struct{}, n)}
}

// Go waits for a slot and starts the task. If ctx is done or q has fired before
// that, it starts nothing and reports false. An error of the task ends the
// program.
//
// The rule: [quit.QuitEvent.Go] alone decides. If it reports true, the drain
// waits for the task. If it reports false, the task stays with the caller,
// which can give it back. There is no third case. A caller that waits for a
// slot also waits for the fire. The task gets WorkContext, so that it is
// finished after the fire. Its context is cancelled when the time of the drain
// is over; a task that ignores that is named.
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
