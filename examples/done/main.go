// Command done is the same program written twice. A goroutine sends messages
// until it is told to end, either by a closed channel or by a cancelled
// context.
//
//	go run ./examples/done -with=done       # press Ctrl-C after some messages
//	go run ./examples/done -with=context    # the same, and the same output
//
// Both end at the same moment: when the event fires, it closes the channel
// [quit.QuitEvent.Done] and cancels [quit.QuitEvent.Context]. Both then send
// the remaining messages. A goroutine that just returned would lose them.
//
// A context does more: it has a cause and a deadline, and other contexts can be
// derived from it. The programs in examples/context and examples/tasks show
// that. With bare channels, a task that can be ended in two ways has to watch
// two channels.
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
	with := flag.String("with", "context", "tell the goroutine by `context` or done")
	n := flag.Int("n", 10, "`number` of messages")
	every := flag.Duration("every", time.Second, "time between two messages")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	parseFlags("done")
	switch {
	case *with != "context" && *with != "done":
		exit(2, fmt.Errorf("-with is context or done, not %q", *with))
	case *n < 0 || *every <= 0:
		exit(2, fmt.Errorf("-n=%d -every=%v: want no negative number, and some time", *n, *every))
	}

	// Called before there are messages to lose: from now on, a signal starts
	// the shutdown.
	q.NotifySignal()

	messages := make(chan int, *n)
	for i := range *n {
		messages <- i + 1
	}

	// Counted before the go statement, so that the drain waits for it. If a
	// signal has come already, Go would not start it, and the messages would be
	// lost.
	q.AddGoroutine()
	go func() {
		defer q.DoneGoroutine()
		if *with == "done" {
			withDone(q.Done(), messages, *every)
		} else {
			withContext(q.Context(), messages, *every)
		}
	}()

	// WaitSignal returns once the goroutine has ended.
	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
	fmt.Println("main ends")
}

// withDone sends messages until done is closed.
func withDone(done <-chan struct{}, messages <-chan int, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			sendRest(messages)
			return
		case <-ticker.C:
			send(messages)
		}
	}
}

// withContext sends messages until ctx is cancelled.
func withContext(ctx context.Context, messages <-chan int, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done(): // context.Cause(ctx) is the reason
			sendRest(messages)
			return
		case <-ticker.C:
			send(messages)
		}
	}
}

// send sends the next message, if there is one.
func send(messages <-chan int) (sent bool) {
	select {
	case m := <-messages:
		fmt.Println("sent message", m)
		return true
	default:
		return false
	}
}

// sendRest sends the remaining messages. It must be the last receiver, and no
// message may be added any more. Otherwise close the channel and range over it,
// as examples/worker does.
func sendRest(messages <-chan int) {
	fmt.Println("told to end")
	for send(messages) {
	}
}
