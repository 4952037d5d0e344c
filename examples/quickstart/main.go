// Command quickstart is the program at the top of the README, with stand-ins for
// the database and for what is done with it.
//
//	go run ./examples/quickstart    # then press Ctrl-C
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	db, err := openDB()
	if err != nil {
		log.Fatal(err)
	}
	q.RegisterCloser(db, quit.AfterDrain()) // closed last: the workers use it

	q.Go(func(ctx context.Context) error { return work(ctx, db) }) // awaited

	srv := &http.Server{Addr: ":8080", Handler: handler(db), ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	if _, err := quithttp.ListenAndServe(q, srv); err != nil { // stopped first, and breaks no connection
		q.Fail(err) // what has been started is stopped
	}

	if err := quit.WaitSignal(); err != nil { // SIGINT, SIGTERM, or a failure above
		log.Fatal(err)
	}
}

type database struct{}

func openDB() (*database, error) { return new(database), nil }

func (*database) Close() error {
	fmt.Println("database closed")
	return nil
}

func work(ctx context.Context, _ *database) error {
	<-ctx.Done()
	fmt.Println("worker ended")
	return nil
}

func handler(*database) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
}
