// Command with_quit is the program of with_errgroup, with_run and with_fx with
// package quit alone: a server whose requests use a database, a worker that
// uses it too, and a cache.
package main

import (
	"context"
	"log"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
	"github.com/gracefulgo/graceful/verify/article/work"
)

func main() {
	q := quit.GetQuitEvent()
	q.Timeout = 10 * time.Second // for the whole stop

	db := work.OpenDB()
	q.RegisterCloser(db, quit.AfterDrain()) // last
	cache := work.OpenCache()
	q.RegisterCloser(cache, quit.AfterDrain())

	q.Go(func(ctx context.Context) error { return work.Poll(ctx, db) }, quit.Name("poller"))

	if _, err := quithttp.ListenAndServe(q, work.NewServer(db)); err != nil { // first
		q.Fail(err)
	}
	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}
