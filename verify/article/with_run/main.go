// Command with_run runs a server and a worker with a run.Group, and stops them
// with its SignalHandler and http.Server.Shutdown.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"syscall"
	"time"

	"github.com/oklog/run"

	"github.com/gracefulgo/graceful/verify/article/work"
)

func main() {
	if err := start(); !errors.Is(err, run.ErrSignal) {
		log.Fatal(err)
	}
}

func start() error {
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

	srv := work.NewServer(db)
	g.Add(func() error {
		return srv.ListenAndServe()
	}, func(error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		srv.Shutdown(ctx)
	})

	g.Add(run.SignalHandler(context.Background(), os.Interrupt, syscall.SIGTERM))
	return g.Run()
}
