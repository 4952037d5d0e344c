// Command with_run_quit is command with_run on its way to package quit: quit
// has the signals and the server, and the group still has the worker.
package main

import (
	"context"
	"log"
	"time"

	"github.com/oklog/run"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
	"github.com/gracefulgo/graceful/verify/article/work"
)

func main() {
	if err := start(); err != nil {
		log.Fatal(err)
	}
}

func start() error {
	q := quit.GetQuitEvent()
	q.Timeout = 10 * time.Second

	db := work.OpenDB()
	defer db.Close()
	cache := work.OpenCache()
	defer cache.Close()

	var g run.Group

	ctx, cancel := context.WithCancel(context.Background())
	g.Add(func() error {
		return work.Poll(ctx, db)
	}, func(error) {
		cancel()
	})

	if _, err := quithttp.ListenAndServe(q, work.NewServer(db)); err != nil {
		q.Fail(err)
	}

	// In the place of run.SignalHandler. It returns when q has stopped, and the
	// other actors are interrupted then.
	g.Add(func() error { return quit.WaitSignal() }, func(error) { q.Fire() })
	return g.Run()
}
