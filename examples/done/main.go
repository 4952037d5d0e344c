// Command done is the same program twice. A goroutine sends messages until it
// is told to end: by a channel that is closed, or by a context that is
// cancelled.
//
//	go run ./examples/done -with=done       # press Ctrl-C after some messages
//	go run ./examples/done -with=context    # the same, and the same output
//
// Both end at the same moment: the fire of the event closes the channel
// [quit.QuitEvent.Done], and cancels [quit.QuitEvent.Context]. And both send
// the messages that still wait, since a goroutine that just returns loses them.
//
// A context does more: it has a cause and a deadline, and others are derived
// from it. The programs in examples/context and examples/tasks show that. With
// bare channels, a task that two others can end has to know both of their
// channels.
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

	// Before there are messages to lose: a signal does not end the program.
	q.NotifySignal()

	messages := make(chan int, *n)
	for i := range *n {
		messages <- i + 1
	}

	// Counted before the go statement, so that it is awaited. Go would not
	// start it if a signal has come, and the messages would be lost.
	q.AddGoroutine()
	go func() {
		defer q.DoneGoroutine()
		if *with == "done" {
			withDone(q.Done(), messages, *every)
		} else {
			withContext(q.Context(), messages, *every)
		}
	}()

	// It returns when the goroutine has ended.
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
		case <-ctx.Done(): // and context.Cause(ctx) says why
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

// sendRest sends the messages that wait. It must be the last receiver, and no
// message may be added any longer: else close the channel, and range over it,
// as examples/worker does.
func sendRest(messages <-chan int) {
	fmt.Println("told to end")
	for send(messages) {
	}
}
