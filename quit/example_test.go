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

// database stands for something with a Close method.
type database struct{}

func (*database) Close() error { fmt.Println("database closed"); return nil }
func (*database) save(s string) {
	fmt.Println("saved", s)
}

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
	fmt.Println("taken out:", unregister()) // it was closed by hand, say
	fmt.Println("again:", unregister())

	q.RegisterCloser(&database{})
	q.GracefulStop()
	// Output:
	// taken out: true
	// again: false
	// database closed
}

func ExampleQuitEvent_Shutdown() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)

	q.RegisterStopFunc(func() { fmt.Println("and yet this is called") }, quit.Name("cache"))
	q.RegisterStopFunc(func() { select {} }, quit.Name("consumer"), quit.Timeout(10*time.Millisecond))

	err := q.Shutdown(context.Background())
	fmt.Println(errors.Is(err, context.DeadlineExceeded), strings.Contains(err.Error(), "consumer"))
	// Output:
	// and yet this is called
	// true true
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

func ExampleQuitEvent_Go() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)

	q.Go(func(ctx context.Context) error {
		return errors.New("queue is gone") // fires: nothing works without it
	}, quit.Name("consumer"))

	<-q.Done()
	fmt.Println("cause:", q.Cause())
	fmt.Println(q.Shutdown(context.Background()))
	// Output:
	// cause: queue is gone
	// quit: goroutine consumer: queue is gone
}

func ExampleQuitEvent_WorkContext() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)

	q.Go(func(ctx context.Context) error {
		<-ctx.Done()            // no new work from here on,
		work := q.WorkContext() // but what is in flight may go on
		fmt.Println("fired:", ctx.Err() != nil, "- work cancelled:", work.Err() != nil)
		return nil
	})
	q.GracefulStop()
	// Output: fired: true - work cancelled: false
}

// For a gRPC server: q.RegisterQuitCloser(quit.Graceful(s.GracefulStop, s.Stop)).
func ExampleGraceful() {
	stopped := make(chan struct{})
	closer := quit.Graceful(
		func() { <-stopped; fmt.Println("stopped") },     // waits for a stream that never ends
		func() { fmt.Println("forced"); close(stopped) }) // cuts it off

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond) // its share of the shutdown
	defer cancel()
	fmt.Println(closer.Shutdown(ctx))
	// Output:
	// forced
	// stopped
	// forced to stop: context deadline exceeded
}

// A group of workers is an event of its own: they are drained before the parent
// closes what they use.
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

// A command-line tool exits with 130 after Ctrl-C, and cleans up before.
func ExampleSignalError() {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)
	exit := func(code int) { fmt.Println("exit", code) } // os.Exit

	q.RegisterStopFunc(func() { fmt.Println("temporary files removed") })
	q.Fail(&quit.SignalError{Signal: os.Interrupt}) // what Ctrl-C does
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
