package quit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// database is an io.Closer.
type database struct{}

func (*database) save(s string) { fmt.Println("saved", s) }
func (*database) Close() error  { fmt.Println("database closed"); return nil }

func ExampleQuitEvent() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)

	q.RegisterCloser(&database{}, quit.AfterDrain())
	q.RegisterStopFunc(func() { fmt.Println("consumer stopped") })
	q.Go(func(ctx context.Context) error {
		<-ctx.Done()
		fmt.Println("worker ended")
		return nil
	})

	q.Fire()
	q.WaitGoroutines() // only for the order of the output
	fmt.Println("err:", q.Shutdown(context.Background()))
	// Output:
	// worker ended
	// consumer stopped
	// database closed
	// err: <nil>
}

func ExampleQuitEvent_RegisterCloser() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)

	unregister := q.RegisterCloser(&database{}, quit.Name("scratch database"))
	fmt.Println("taken out:", unregister()) // so that the caller can close it now
	fmt.Println("again:", unregister())

	q.RegisterCloser(&database{})
	q.GracefulStop()
	// Output:
	// taken out: true
	// again: false
	// database closed
}

// A closer that hangs is abandoned and named in the error. The others are
// called nonetheless.
func ExampleQuitEvent_Shutdown() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)

	q.RegisterStopFunc(func() { fmt.Println("cache closed") }, quit.Name("cache"))
	q.RegisterStopFunc(func() { select {} },
		quit.Name("consumer"), quit.Timeout(10*time.Millisecond))

	err := q.Shutdown(context.Background())
	fmt.Println("names the consumer:", strings.Contains(err.Error(), "consumer"))
	fmt.Println("out of time:", errors.Is(err, context.DeadlineExceeded))
	// Output:
	// cache closed
	// names the consumer: true
	// out of time: true
}

func ExampleQuitEvent_TryAddGoroutine() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)

	handle := func(message string) {
		if !q.TryAddGoroutine() {
			fmt.Println("turned away:", message)
			return
		}
		go func() {
			defer q.DoneGoroutine()
			fmt.Println("handled:", message)
		}()
	}
	handle("one")
	q.WaitGoroutines()
	q.Fire()
	handle("two")
	// Output:
	// handled: one
	// turned away: two
}

// An error of the func fires the event and is the cause.
func ExampleQuitEvent_Go() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)

	q.Go(func(ctx context.Context) error {
		return errors.New("queue is gone")
	}, quit.Name("consumer"))

	<-q.Done()
	fmt.Println("cause:", q.Cause())
	fmt.Println(q.Shutdown(context.Background()))
	// Output:
	// cause: queue is gone
	// quit: goroutine consumer: queue is gone
}

// Context is cancelled when the event fires. WorkContext lives on for the work
// in flight.
func ExampleQuitEvent_WorkContext() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)

	q.Go(func(ctx context.Context) error {
		<-ctx.Done()
		fmt.Println("Context:", ctx.Err())
		fmt.Println("WorkContext:", q.WorkContext().Err())
		return nil
	})
	q.GracefulStop()
	// Output:
	// Context: context canceled
	// WorkContext: <nil>
}

// A server that can be stopped gracefully or by force. With a gRPC server, the
// functions are its GracefulStop and its Stop.
func ExampleGraceful() {
	stopped := make(chan struct{})
	closer := quit.Graceful(
		func() { // waits for a stream that never ends
			<-stopped
			fmt.Println("stopped")
		},
		func() { // ends the stream
			fmt.Println("forced")
			close(stopped)
		},
	)

	// The shutdown of an event gives each closer such a context.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(closer.Shutdown(ctx))
	// Output:
	// forced
	// stopped
	// forced to stop: context deadline exceeded
}

// A group of workers is an event of its own. It is drained before its parent
// closes the database, which the workers use.
func ExampleQuitEvent_RegisterQuitCloser_group() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)
	db := &database{}
	q.RegisterCloser(db)

	workers := quit.NewQuitEvent()
	workers.Logger = q.Logger
	q.RegisterQuitCloser(workers, quit.Name("workers"))
	workers.Go(func(ctx context.Context) error {
		<-ctx.Done()
		db.save("the last job")
		return nil
	})

	q.GracefulStop()
	// Output:
	// saved the last job
	// database closed
}

// A command-line tool cleans up after Ctrl-C and exits with status 130.
func ExampleSignalError() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)
	exit := func(code int) { fmt.Println("exit", code) } // os.Exit in a program

	q.RegisterStopFunc(func() { fmt.Println("temporary files removed") })
	q.Fail(&quit.SignalError{Signal: os.Interrupt}) // the same as Ctrl-C
	err := q.WaitSignal()

	var sig *quit.SignalError
	switch {
	case err != nil:
		exit(1)
	case errors.As(q.Cause(), &sig):
		exit(sig.ExitCode())
	}
	// Output:
	// temporary files removed
	// exit 130
}

// After NotifySignal, a signal fires the event. Without it, the signal would
// end the process.
func ExampleQuitEvent_NotifySignal() {
	q := quit.NewQuitEvent()
	stop := q.NotifySignal(os.Interrupt, syscall.SIGTERM)
	defer stop()

	fmt.Println("fired:", q.HasFired())
	// Output: fired: false
}

func ExampleEvent() {
	var ready quit.Event
	go ready.Fire()
	<-ready.Done()
	fmt.Println(ready.HasFired(), ready.Fire())
	// Output: true false
}
