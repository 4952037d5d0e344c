package quit_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/gracefulgo/graceful/quit"
)

// store is a database.
type store struct{}

func (s *store) save(ctx context.Context, order string) error {
	fmt.Println("saved", order)
	return ctx.Err()
}

func (s *store) Close() error {
	fmt.Println("database closed")
	return nil
}

// A program with a database and a worker that uses it. After Ctrl-C, the worker
// finishes the order at hand, and then the database is closed.
func Example() {
	q := quit.GetQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler) // instead of slog.Default()

	db := new(store)
	q.RegisterCloser(db, quit.AfterDrain()) // closed once the worker has ended

	orders := make(chan string)
	q.Go(func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done(): // a signal: take no more orders
				return nil
			case order := <-orders:
				// WorkContext is alive while the shutdown waits for the worker.
				if err := db.save(q.WorkContext(), order); err != nil {
					return err // shuts the program down
				}
			}
		}
	}, quit.Name("worker"))

	go func() { // the users
		orders <- "a book"
		orders <- "a lamp"
		q.Fail(&quit.SignalError{Signal: os.Interrupt}) // the same as Ctrl-C
	}()

	if err := quit.WaitSignal(); err != nil { // SIGINT, SIGTERM, or a failure above
		log.Fatal(err)
	}
	fmt.Println("all is saved")
	// Output:
	// saved a book
	// saved a lamp
	// database closed
	// all is saved
}
