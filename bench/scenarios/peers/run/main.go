//go:build unix

// Command run plays the scenarios with oklog/run. Workers and servers are
// actors, in the forms of its README; a signal is run.SignalHandler. It leaves
// resources to the caller: they are closed by defer statements in main.
package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/oklog/run"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(play) }

func play(a *scenario.App) (err error) {
	var g run.Group
	root, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopping, stopped := context.WithCancel(context.Background())
	defer stopped()
	a.Ops = scenario.Ops{Stop: cancel}

	var open []*scenario.Part
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
		defer cancel()
		err = errors.Join(err, scenario.Close(ctx, open))
	}()
	if err := a.Open(func(p *scenario.Part) { open = append(open, p) }); err != nil {
		return err
	}
	g.Add(run.SignalHandler(root, a.Signals...))
	g.Add(func() error { <-stopping.Done(); return nil }, func(error) { stopped() })
	// Interrupts are called in the order of Add, each when the one before it
	// has returned: so the servers come before the workers.
	for _, s := range a.Servers {
		ln, err := a.Listen(s)
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: s.Handler}
		// The README's "http.Server graceful Shutdown".
		g.Add(func() error {
			return srv.Serve(ln)
		}, func(error) {
			ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			srv.Shutdown(ctx)
		})
	}
	addWorkers(&g, a.Workers)
	if inner := a.Group; inner != nil {
		var sub run.Group
		addWorkers(&sub, inner.Workers)
		done := make(chan struct{})
		sub.Add(func() error { <-done; return nil }, func(error) {})
		g.Add(func() (err error) {
			err = sub.Run()
			ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return errors.Join(err, scenario.Close(ctx, inner.Parts))
		}, func(error) { close(done) })
	}
	a.Ready()
	if err := g.Run(); !errors.Is(err, run.ErrSignal) {
		return scenario.Clean(err)
	}
	return nil
}

// addWorkers adds the README's "context.Context".
func addWorkers(g *run.Group, workers []*scenario.Worker) {
	for _, w := range workers {
		ctx, cancel := context.WithCancel(context.Background())
		g.Add(func() error {
			return w.Run(ctx)
		}, func(error) {
			cancel()
		})
	}
}
