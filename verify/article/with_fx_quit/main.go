// Command with_fx_quit is command with_fx on its way to package quit: fx builds
// everything, quit has the signals, the worker and the server, and the hooks of
// fx still close the rest.
package main

import (
	"context"
	"log"
	"time"

	"go.uber.org/fx"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
	"github.com/gracefulgo/graceful/verify/article/work"
)

func main() {
	q := quit.GetQuitEvent()
	q.Timeout = 10 * time.Second

	app := fx.New(
		fx.Supply(q),
		fx.Provide(newDB, newCache),
		fx.Invoke(startPoller, startServer),
	)
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	// The hooks that are left are one closer, called when the rest has ended.
	q.RegisterQuitCloser(quit.ShutdownFunc(app.Stop), quit.AfterDrain(), quit.Name("fx"))
	if err := app.Start(ctx); err != nil {
		q.Fail(err)
	}
	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
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

func startPoller(lc fx.Lifecycle, q *quit.QuitEvent, db *work.DB, _ *work.Cache) {
	lc.Append(fx.StartHook(func() {
		q.Go(func(ctx context.Context) error { return work.Poll(ctx, db) }, quit.Name("poller"))
	}))
}

func startServer(lc fx.Lifecycle, q *quit.QuitEvent, db *work.DB) {
	lc.Append(fx.StartHook(func() error {
		_, err := quithttp.ListenAndServe(q, work.NewServer(db))
		return err
	}))
}
