//go:build unix

// Command hand plays the scenarios by hand: signal.NotifyContext, errgroup and
// http.Server.Shutdown. A part is closed by a defer statement in main, which is
// written when it is opened; all share one context with the timeout.
package main

import (
	"context"
	"errors"
	"net/http"
	"os/signal"

	"golang.org/x/sync/errgroup"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

func run(a *scenario.App) (err error) {
	// As in the example of signal.NotifyContext, with a deferred stop.
	signaled, stop := signal.NotifyContext(context.Background(), a.Signals...)
	defer stop()
	root, cancel := context.WithCancel(signaled)
	defer cancel()
	g, ctx := errgroup.WithContext(root)

	a.Ops = scenario.Ops{
		Go: func(name string, f func(context.Context) error) bool {
			g.Go(func() error { return f(ctx) })
			return true
		},
		Stopping: func() bool { return ctx.Err() != nil },
		Stop:     cancel,
	}

	var open []*scenario.Part
	defer func() { // the time counts from here
		ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
		defer cancel()
		err = errors.Join(err, scenario.Close(ctx, open))
	}()
	if err := a.Open(func(p *scenario.Part) {
		if !p.Alone {
			open = append(open, p)
			return
		}
		g.Go(func() error {
			<-ctx.Done()
			closing, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return p.Stop(closing)
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
		g.Go(func() error { return scenario.Served(srv.Serve(ln)) })
		g.Go(func() error { return shutdown(ctx, a, srv) })
	}
	// The workers that must outlive the servers have a group of their own.
	late, stopLate := context.WithCancel(context.Background())
	defer stopLate()
	lateGroup, late := errgroup.WithContext(late)
	for _, w := range a.Workers {
		if w.Last {
			lateGroup.Go(func() error { return w.Run(late) })
		} else {
			g.Go(func() error { return w.Run(ctx) })
		}
	}
	if inner := a.Group; inner != nil {
		g.Go(func() (err error) {
			g, ctx := errgroup.WithContext(ctx)
			for _, w := range inner.Workers {
				g.Go(func() error { return w.Run(ctx) })
			}
			<-ctx.Done()
			err = g.Wait()
			closing, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return errors.Join(err, scenario.Close(closing, inner.Parts))
		})
	}
	g.Go(func() error { <-ctx.Done(); return nil }) // a program without workers waits too
	a.Ready()
	err = scenario.Clean(g.Wait())
	stopLate()
	return errors.Join(err, scenario.Clean(lateGroup.Wait()))
}

func shutdown(ctx context.Context, a *scenario.App, srv *http.Server) error {
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
	defer cancel()
	return srv.Shutdown(ctx)
}
