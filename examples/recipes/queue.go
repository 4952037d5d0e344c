package recipes

import (
	"context"
	"fmt"
	"sync"

	"github.com/gracefulgo/graceful/quit"
)

// Queue is between the handlers of a server, which accept jobs, and the workers
// that do them. Each job that Add has accepted is done, or is in the error of
// the shutdown. (If the process is killed, waiting jobs are lost. A job that
// must survive that has to be in a database.)
//
// The rule: the channel is closed after the last handler has ended and before
// the drain, and the workers range over it. So call StartQueue before
// quithttp.ListenAndServe: closers registered later are called earlier. A
// worker that selects on Done instead would leave the waiting jobs in the
// channel.
type Queue struct {
	jobs chan string

	mu     sync.Mutex // guards closed, and keeps a send away from a closed channel
	closed bool
}

// StartQueue starts n workers, each of which calls do for one job at a time. An
// error of do breaks the promise of Add and so ends the program, but the other
// jobs are still done. To give up a job without that, log it and return nil.
//
// At the end of the drain's time the context of do is cancelled, and do should
// return its cause: then the error names each job that was not done. Jobs for
// which no worker is left, since do hangs or has panicked, are counted.
func StartQueue(q *quit.QuitEvent, size, n int,
	do func(ctx context.Context, job string) error) *Queue {
	queue := &Queue{jobs: make(chan string, size)}
	q.RegisterQuitCloser(quit.ShutdownFunc(queue.left), quit.AfterDrain(), quit.Name("jobs left"))
	q.RegisterStopFunc(queue.close, quit.Name("queue"))
	for range n {
		q.Go(func(context.Context) error {
			for job := range queue.jobs { // ends when the channel is closed and empty
				if err := do(q.WorkContext(), job); err != nil { // not cut off by the fire
					q.Fail(fmt.Errorf("job %q was not done: %w", job, err))
				}
			}
			return nil
		}, quit.Name("worker"))
	}
	return queue
}

// Add reports whether it has accepted the job. Answer 202 if so, and 503 if
// not. It does not accept a job if the queue is full or closed: a handler that
// the server no longer waits for can still call it.
func (queue *Queue) Add(job string) bool {
	queue.mu.Lock()
	defer queue.mu.Unlock()
	if queue.closed {
		return false
	}
	select {
	case queue.jobs <- job:
		return true
	default:
		return false
	}
}

func (queue *Queue) close() {
	queue.mu.Lock()
	defer queue.mu.Unlock()
	if !queue.closed {
		queue.closed = true
		close(queue.jobs)
	}
}

// left is called after the drain.
func (queue *Queue) left(context.Context) error {
	if n := len(queue.jobs); n > 0 {
		return fmt.Errorf("jobs that were accepted and not done: %d", n)
	}
	return nil
}
