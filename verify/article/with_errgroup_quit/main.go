// Command with_errgroup_quit is command with_errgroup on its way to package
// quit: quit has the signals, the server and the closers, and the group still
// has the worker.
package main

import (
	"context"
	"log"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
	"github.com/gracefulgo/graceful/verify/article/work"
)

func main() {
	q := quit.GetQuitEvent()
	q.Timeout = 10 * time.Second

	db := work.OpenDB()
	q.RegisterCloser(db, quit.AfterDrain())
	cache := work.OpenCache()
	q.RegisterCloser(cache, quit.AfterDrain())

	g, ctx := errgroup.WithContext(q.Context())
	g.Go(func() error { return work.Poll(ctx, db) })
	q.Go(func(context.Context) error {
		<-ctx.Done() // by the first error of the group, or by the fire
		return context.Cause(ctx)
	}, quit.Name("errgroup"))
	// After the last g.Go: the drain waits for the group.
	q.Go(func(context.Context) error { return g.Wait() }, quit.Name("errgroup"))

	if _, err := quithttp.ListenAndServe(q, work.NewServer(db)); err != nil {
		q.Fail(err)
	}
	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}
