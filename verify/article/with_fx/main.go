// Command with_fx builds and runs a server and a worker with fx, and stops them
// with the OnStop hooks of its Lifecycle.
package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"time"

	"go.uber.org/fx"

	"github.com/gracefulgo/graceful/verify/article/work"
)

func main() {
	fx.New(
		fx.StopTimeout(10*time.Second), // for the whole stop
		fx.Provide(newDB, newCache),
		fx.Invoke(startPoller, startServer),
	).Run()
}

func newDB(lc fx.Lifecycle) *work.DB {
	db := work.OpenDB()
	lc.Append(fx.StopHook(db.Close))
	return db
}

func newCache(lc fx.Lifecycle, _ *work.DB) *work.Cache {
	cache := work.OpenCache()
	lc.Append(fx.StopHook(cache.Close))
	return cache
}

func startPoller(lc fx.Lifecycle, end fx.Shutdowner, db *work.DB, _ *work.Cache) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			go func() {
				defer close(ended)
				if err := work.Poll(ctx, db); err != nil {
					log.Print(err)
					end.Shutdown(fx.ExitCode(1))
				}
			}()
			return nil
		},
		OnStop: func(context.Context) error {
			cancel()
			<-ended
			return nil
		},
	})
}

func startServer(lc fx.Lifecycle, end fx.Shutdowner, db *work.DB) {
	srv := work.NewServer(db)
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			ln, err := net.Listen("tcp", srv.Addr)
			if err != nil {
				return err
			}
			go func() {
				if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
					log.Print(err)
					end.Shutdown(fx.ExitCode(1))
				}
			}()
			return nil
		},
		OnStop: srv.Shutdown,
	})
}
