//go:build unix

// Command conc plays the scenarios with sourcegraph/conc: a ContextPool that is
// cancelled by the first error, as its README recommends for such tasks, under
// the context of signal.NotifyContext. It leaves resources to the caller: they
// are closed by defer statements in main.
package main

import (
	"context"
	"errors"
	"net/http"
	"os/signal"

	"github.com/sourcegraph/conc/pool"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

func run(a *scenario.App) (err error) {
	signaled, stop := signal.NotifyContext(context.Background(), a.Signals...)
	defer stop()
	root, cancel := context.WithCancel(signaled)
	defer cancel()
	p := newPool(root) // all its tasks have to be submitted before Wait

	a.Ops = scenario.Ops{
		Stopping: func() bool { return root.Err() != nil },
		Stop:     cancel,
	}

	var open []*scenario.Part
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
		defer cancel()
		err = errors.Join(err, scenario.Close(ctx, open))
	}()
	if err := a.Open(func(part *scenario.Part) {
		if !part.Alone {
			open = append(open, part)
			return
		}
		p.Go(func(ctx context.Context) error {
			<-ctx.Done()
			closing, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return part.Stop(closing)
		})
	}); err != nil {
		return err
	}
	for _, s := range a.Servers {
		ln, err := a.Listen(s)
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: s.Handler}
		p.Go(func(context.Context) error { return scenario.Served(srv.Serve(ln)) })
		p.Go(func(ctx context.Context) error {
			<-ctx.Done()
			shut, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return srv.Shutdown(shut)
		})
	}
	lateCtx, stopLate := context.WithCancel(context.Background())
	defer stopLate()
	late := newPool(lateCtx)
	for _, w := range a.Workers {
		if w.Last {
			late.Go(w.Run)
		} else {
			p.Go(w.Run)
		}
	}
	if inner := a.Group; inner != nil {
		p.Go(func(ctx context.Context) error {
			sub := newPool(ctx)
			for _, w := range inner.Workers {
				sub.Go(w.Run)
			}
			err := sub.Wait()
			closing, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return errors.Join(err, scenario.Close(closing, inner.Parts))
		})
	}
	// A program without workers waits too.
	p.Go(func(ctx context.Context) error { <-ctx.Done(); return nil })
	a.Ready()
	err = scenario.Clean(p.Wait())
	stopLate()
	return errors.Join(err, scenario.Clean(late.Wait()))
}

func newPool(ctx context.Context) *pool.ContextPool {
	return pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
}
