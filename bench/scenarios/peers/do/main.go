//go:build unix

// Command do plays the scenarios with samber/do: each part, worker and server
// is a named service with Shutdown(ctx) error. A service invokes the one that
// was opened before it, so that the graph gives the order. The container is
// shut down by ShutdownWithContext with the timeout, since ShutdownOnSignals
// has none.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os/signal"

	"github.com/samber/do/v2"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

// service is a do.ShutdownerWithContextAndError.
type service struct {
	stop func(ctx context.Context) error
}

func (s *service) Shutdown(ctx context.Context) error { return s.stop(ctx) }

var _ do.ShutdownerWithContextAndError = (*service)(nil)

func run(a *scenario.App) error {
	signaled, stop := signal.NotifyContext(context.Background(), a.Signals...)
	defer stop()
	ctx, fail := context.WithCancelCause(signaled)
	defer fail(nil)
	i := do.New()
	a.Ops = scenario.Ops{
		Stop:     func() { fail(nil) },
		Stopping: func() bool { return ctx.Err() != nil },
	}

	// provide adds a service that depends on the one before it.
	before := ""
	in := do.Injector(i)
	provide := func(
		name string, alone bool, start func() error, stop func(context.Context) error,
	) error {
		on := before
		if !alone {
			before = name
		}
		do.ProvideNamed(in, name, func(i do.Injector) (*service, error) {
			if on != "" {
				if _, err := do.InvokeNamed[*service](i, on); err != nil {
					return nil, err
				}
			}
			return &service{stop}, start()
		})
		_, err := do.InvokeNamed[*service](in, name)
		return err
	}

	err := start(a, provide, fail)
	if g := a.Group; g != nil && err == nil { // a scope, which is shut down first
		in, before = i.Scope(g.Name), ""
		err = start(&scenario.App{Parts: g.Parts, Workers: g.Workers}, provide, fail)
	}
	if err != nil {
		fail(err)
	} else {
		a.Ready()
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); err == nil && signaled.Err() == nil {
		err = scenario.Clean(cause)
	}
	within, cancel := context.WithTimeout(context.Background(), a.Timeout)
	defer cancel()
	if report := i.ShutdownWithContext(within); !report.Succeed {
		return fmt.Errorf("%w; %w", report, orNone(err))
	}
	return err
}

func orNone(err error) error {
	if err == nil {
		return fmt.Errorf("stopped by a signal")
	}
	return err
}

type provider func(name string, alone bool, start func() error,
	stop func(context.Context) error) error

func start(a *scenario.App, provide provider, fail func(error)) error {
	// The order is: shared parts, workers that outlive the servers, servers,
	// the rest.
	for _, shared := range []bool{true, false} {
		for _, p := range a.Parts {
			if p.Shared == shared {
				if err := provide(p.Name, p.Alone, p.Open, p.Stop); err != nil {
					return err
				}
			}
		}
		for _, w := range a.Workers {
			if w.Last == shared {
				if err := provideWorker(w, provide, fail); err != nil {
					return err
				}
			}
		}
		if !shared {
			continue
		}
		for n, s := range a.Servers {
			srv := &http.Server{Handler: s.Handler}
			err := provide(fmt.Sprint("http ", n), false, func() error {
				ln, err := a.Listen(s)
				if err == nil {
					go srv.Serve(ln)
				}
				return err
			}, srv.Shutdown)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func provideWorker(w *scenario.Worker, provide provider, fail func(error)) error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	return provide(w.Name, false, func() error {
		go func() {
			err := scenario.Clean(w.Run(ctx))
			if err != nil && ctx.Err() == nil {
				fail(err)
			}
			done <- err
		}()
		return nil
	}, func(stop context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-stop.Done():
			return stop.Err()
		}
	})
}
