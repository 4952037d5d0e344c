//go:build unix

// Command run plays the scenarios with oklog/run. Workers and servers are
// actors, in the forms of its README; a signal is run.SignalHandler. It leaves
// resources to the caller: they are closed by defer statements in main.
package main

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/oklog/run"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(play) }

func play(a *scenario.App) (err error) {
	var g run.Group
	root, cancel := context.WithCancel(context.Background())
	defer cancel()
	var got os.Signal
	a.Ops = scenario.Ops{Stop: cancel, Got: func() os.Signal { return got }}

	var open []*scenario.Part
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
		defer cancel()
		err = errors.Join(err, scenario.Close(ctx, open))
	}()
	if err := a.Open(func(p *scenario.Part) {
		if !p.Alone {
			open = append(open, p)
			return
		}
		told := make(chan struct{})
		g.Add(func() error {
			<-told
			ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return p.Stop(ctx)
		}, func(error) { close(told) })
	}); err != nil {
		return err
	}
	g.Add(run.SignalHandler(root, a.Signals...))
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
		ctx, cancel := context.WithCancel(context.Background())
		sub.Add(func() error { <-ctx.Done(); return nil }, func(error) { cancel() })
		g.Add(func() (err error) {
			err = sub.Run()
			ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return errors.Join(err, scenario.Close(ctx, inner.Parts))
		}, func(error) { cancel() })
	}
	a.Ready()
	err = g.Run()
	if sig := new(run.SignalError); errors.As(err, &sig) {
		got = sig.Signal
		return nil
	}
	return scenario.Clean(err)
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
