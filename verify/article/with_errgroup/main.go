// Command with_errgroup runs a server and a worker with errgroup, and stops
// them with signal.NotifyContext and http.Server.Shutdown.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gracefulgo/graceful/verify/article/work"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	db := work.OpenDB()
	defer db.Close()
	cache := work.OpenCache()
	defer cache.Close()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return work.Poll(ctx, db) })

	srv := work.NewServer(db)
	g.Go(func() error {
		if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stop() // from now on a signal ends the process
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return srv.Shutdown(ctx)
	})
	return g.Wait()
}
