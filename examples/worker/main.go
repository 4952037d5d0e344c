// Command worker has three workers, in the two kinds of loop there are: one asks
// for the next piece of work as long as [quit.QuitEvent.HasFired] is false, the other waits for
// it in a select, together with [quit.QuitEvent.Done].
//
//	go run ./examples/worker                         # press Ctrl-C: the work in hand is finished
//	go run ./examples/worker -work=1m -timeout=5s    # press Ctrl-C: after 4 of the 5 s, it is given up
//
// After Ctrl-C or SIGTERM no worker takes anything new, but for what one is about to
// take in that very moment. What they have taken is finished: the signal does not
// cut it off. Running out of time does, and then the program names what was not finished,
// and its exit status is 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	orders := flag.Int("orders", 1000, "`number` of orders in the queue at the start")
	work := flag.Duration("work", time.Second, "time that a piece of work takes")
	every := flag.Duration("every", 3*time.Second, "time between two reports")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		exit(2, fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	case *orders < 0 || *every <= 0:
		exit(2, fmt.Errorf("-orders=%d -every=%v: want no negative number, and some time", *orders, *every))
	}
	w := &worker{q: q, queue: newQueue(*orders), work: *work, every: *every}

	// Before the first worker starts: from then on, neither Ctrl-C nor SIGTERM ends the
	// program halfway.
	q.NotifySignal()

	// Counted by hand. AddGoroutine comes before the go statement: in the goroutine, it
	// might come after the drain has found nobody to wait for.
	q.AddGoroutine()
	go func() {
		defer q.DoneGoroutine()
		if err := w.poll(); err != nil {
			q.Fail(err) // it is in what WaitSignal returns
		}
	}()

	q.AddGoroutine()
	go func() {
		defer q.DoneGoroutine()
		if err := w.tick(); err != nil {
			q.Fail(err)
		}
	}()

	// Go does all of that. It catches panics too, and who holds up the stop has a name
	// and a stack in the log.
	q.Go(func(context.Context) error { return w.poll() }, quit.Name("poller"))

	// It returns when the workers have ended.
	err := q.WaitSignal()

	fmt.Println("orders left in the queue:", len(w.queue))
	if err != nil {
		exit(1, err)
	}
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "worker:", err)
	os.Exit(status)
}

type worker struct {
	q           *quit.QuitEvent
	queue       queue
	work, every time.Duration
}

// poll is the loop of a worker that asks for the next piece of work, and does it.
func (w *worker) poll() error {
	for !w.q.HasFired() {
		order, ok := w.queue.next()
		if !ok {
			continue // next has waited a little
		}
		if err := w.do(order); err != nil {
			return err
		}
	}
	return nil
}

// tick is the loop of a worker that is told when there is something to do: by a
// timer here, or by any other channel.
func (w *worker) tick() error {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-w.q.Done():
			return nil
		case <-ticker.C:
			if err := w.do(fmt.Sprint("report ", n)); err != nil {
				return err
			}
		}
	}
}

// do stands for all that takes its time. It passes WorkContext on, which lives
// through the stop until time runs out; Context would be cancelled by the signal.
func (w *worker) do(what string) error {
	ctx := w.q.WorkContext()
	fmt.Println("took", what)
	select {
	case <-time.After(w.work):
		fmt.Println("finished", what)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s was not finished: %w", what, context.Cause(ctx))
	}
}

// queue stands for a message queue, where what nobody takes is kept.
type queue chan string

func newQueue(orders int) queue {
	q := make(queue, orders)
	for n := range orders {
		q <- fmt.Sprint("order ", n+1)
	}
	return q
}

// next waits for an order, but not long: a loop that asks can end only between two
// waits, so each may hold up the stop.
func (q queue) next() (order string, ok bool) {
	select {
	case order = <-q:
		return order, true
	case <-time.After(50 * time.Millisecond):
		return "", false
	}
}
