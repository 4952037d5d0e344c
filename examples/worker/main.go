// Command worker shows the three kinds of loops of a worker:
//
//   - One asks for the next piece of work as long as [quit.QuitEvent.HasFired]
//     is false. Its queue keeps the orders that it does not take.
//   - One waits in a select for the next tick, together with
//     [quit.QuitEvent.Done], and makes a report at each tick. It sends the
//     reports to a channel, and closes the channel when it ends.
//   - One receives from that channel until it is closed and empty. A select on
//     Done would lose the reports that wait in the channel.
//
// To try it:
//
//	go run ./examples/worker                       # Ctrl-C: all is finished
//	go run ./examples/worker -work=1m -timeout=5s  # or given up after 4 s
//
// After Ctrl-C or SIGTERM no order is taken from the queue, except one that a
// worker is just taking. The signal does not interrupt orders and reports in
// hand; the workers finish them. If time runs out, they are interrupted. Then
// the program names each unfinished one, and its exit status is 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	orders := flag.Int("orders", 1000, "`number` of orders in the queue at the start")
	work := flag.Duration("work", time.Second, "time that a piece of work takes")
	every := flag.Duration("every", 3*time.Second, "time between two reports")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	parseFlags("worker")
	if *orders < 0 || *every <= 0 {
		exit(2, fmt.Errorf("-orders=%d -every=%v: want no negative number, and some time",
			*orders, *every))
	}
	w := &worker{q: q, queue: newQueue(*orders), reports: make(chan string, maxWaiting),
		work: *work, every: *every}

	// Before the first worker starts: from then on, Ctrl-C and SIGTERM do not
	// kill the process.
	q.NotifySignal()

	// Go starts nothing after the fire. So the receiver is started before the
	// sender: without a receiver, there is no sender either.
	q.Go(func(context.Context) error { w.workOff(); return nil }, quit.Name("reporter"))

	// Counted by hand. AddGoroutine comes before the go statement. In the
	// goroutine it might come too late, after the drain has ended.
	q.AddGoroutine()
	go func() {
		defer q.DoneGoroutine()
		if err := w.poll(); err != nil {
			q.Fail(err) // WaitSignal returns it
		}
	}()

	q.AddGoroutine()
	go func() {
		defer q.DoneGoroutine()
		w.tick()
	}()

	// Go does all of the above. It catches panics too, and names a goroutine
	// that blocks the shutdown, with its stack, in the log.
	q.Go(func(context.Context) error { return w.poll() }, quit.Name("poller"))

	// WaitSignal returns when the workers have ended.
	err := q.WaitSignal()

	fmt.Println("orders left in the queue:", len(w.queue))
	if err != nil {
		exit(1, err)
	}
}

const maxWaiting = 2 // reports

type worker struct {
	q           *quit.QuitEvent
	queue       queue
	reports     chan string // closed by tick, the only sender
	work, every time.Duration
}

// poll is the loop of a worker that asks for the next piece of work.
func (w *worker) poll() error {
	for !w.q.HasFired() {
		order, ok := w.queue.next()
		if !ok {
			continue // next has waited a little
		}
		fmt.Println("took", order)
		if err := w.do(order); err != nil {
			return err
		}
	}
	return nil
}

// tick is the loop of a worker that is told when there is work, here by a
// timer. If there is no room for a report, it waits, even after the fire.
func (w *worker) tick() {
	defer close(w.reports) // workOff ends after the last report
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for n := 1; !w.q.HasFired(); n++ {
		select {
		case <-w.q.Done():
		case <-ticker.C:
			report := fmt.Sprint("report ", n)
			fmt.Println("took", report)
			w.reports <- report
		}
	}
}

// workOff is the loop of a worker that receives from a channel. Unlike the
// queue, the channel is lost with the process, so workOff leaves nothing in it.
func (w *worker) workOff() {
	for report := range w.reports {
		if err := w.do(report); err != nil {
			w.q.Fail(err) // and goes on: tick may wait for room
		}
	}
}

// do stands for anything that takes time. It passes WorkContext on, which
// outlives the signal until time runs out. The signal would cancel Context.
func (w *worker) do(what string) error {
	ctx := w.q.WorkContext()
	select {
	case <-time.After(w.work):
		fmt.Println("finished", what)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s was not finished: %w", what, context.Cause(ctx))
	}
}

// queue stands for a message queue, which keeps the messages that nobody takes.
type queue chan string

func newQueue(orders int) queue {
	q := make(queue, orders)
	for n := range orders {
		q <- fmt.Sprint("order ", n+1)
	}
	return q
}

// next waits for an order, but not for long: the loop can end only between two
// calls, so each may delay the shutdown.
func (q queue) next() (order string, ok bool) {
	select {
	case order = <-q:
		return order, true
	case <-time.After(50 * time.Millisecond):
		return "", false
	}
}
