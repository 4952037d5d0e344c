//go:build unix

// Command fx plays the scenarios with go.uber.org/fx: hooks on the Lifecycle,
// in the form of its tutorial, and App.Run with a StopTimeout.
package main

import (
	"context"
	"log"
	"net/http"

	"go.uber.org/fx"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

func run(a *scenario.App) error {
	a.NoHangup()
	app := fx.New(
		fx.StopTimeout(a.Timeout),
		fx.Invoke(func(lc fx.Lifecycle, sh fx.Shutdowner) {
			a.Ops = scenario.Ops{Stop: func() { sh.Shutdown() }}
			// Hooks are stopped in reverse order. So the order is: shared
			// parts, workers that outlive the servers, servers, the rest.
			for _, p := range a.Parts {
				if p.Shared {
					addPart(lc, p)
				}
			}
			addWorkers(lc, sh, a.Workers, true)
			for _, s := range a.Servers {
				addServer(lc, a, s)
			}
			for _, p := range a.Parts {
				if !p.Shared {
					addPart(lc, p)
				}
			}
			if g := a.Group; g != nil { // a module has no lifecycle of its own
				for _, p := range g.Parts {
					addPart(lc, p)
				}
				addWorkers(lc, sh, g.Workers, false)
			}
			addWorkers(lc, sh, a.Workers, false)
			lc.Append(fx.StartHook(a.Ready))
		}),
	)
	app.Run() // ends the process with status 1 after a failure
	return nil
}

func addPart(lc fx.Lifecycle, p *scenario.Part) {
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error { return p.Open() },
		OnStop:  p.Stop,
	})
}

// theWorker appends the hook of the worker that hangs. In a program each
// component has a constructor of its own, and fx logs its name.
func theWorker(lc fx.Lifecycle, h fx.Hook) { lc.Append(h) }

func addServer(lc fx.Lifecycle, a *scenario.App, s *scenario.Server) {
	srv := &http.Server{Handler: s.Handler}
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			ln, err := a.Listen(s)
			if err != nil {
				return err
			}
			go srv.Serve(ln)
			return nil
		},
		OnStop: srv.Shutdown,
	})
}

func addWorkers(lc fx.Lifecycle, sh fx.Shutdowner, workers []*scenario.Worker, last bool) {
	for _, w := range workers {
		if w.Last != last {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		hook := fx.Hook{
			OnStart: func(context.Context) error {
				go func() {
					err := scenario.Clean(w.Run(ctx))
					if err != nil {
						log.Print(err)
						sh.Shutdown(fx.ExitCode(1))
					}
					done <- err
				}()
				return nil
			},
			OnStop: func(stop context.Context) error {
				cancel()
				select {
				case err := <-done:
					return err
				case <-stop.Done():
					return stop.Err()
				}
			},
		}
		if w.Name == "the-worker" {
			theWorker(lc, hook)
		} else {
			lc.Append(hook)
		}
	}
}
