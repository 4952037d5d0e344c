//go:build unix

// Command closer plays the scenarios with xlab/closer: Bind for each resource,
// Checked for functions that may fail, and Hold at the end of main, as in its
// README and example. Its cleanups get no context; they give themselves one
// with the timeout.
package main

import (
	"context"
	"log"
	"net/http"

	"github.com/xlab/closer"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

func run(a *scenario.App) error {
	a.Rerun()
	a.NoGroup()
	if a.Is("deadline") {
		a.NA("a cleanup gets no context")
	}
	bind := func(stop func(context.Context) error) {
		closer.Bind(func() {
			ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			if err := stop(ctx); err != nil {
				log.Print(err)
			}
		})
	}
	a.Ops = scenario.Ops{
		Add:  func(p *scenario.Part) func() { bind(p.Stop); return nil },
		Stop: closer.Close,
	}
	// The last one bound is called first. So the order is: shared parts,
	// workers that outlive the servers, servers, the rest.
	open := func(shared bool) {
		for _, p := range a.Parts {
			if p.Shared == shared {
				if err := p.Open(); err != nil {
					closer.Fatalln(err)
				}
				bind(p.Stop)
			}
		}
	}
	open(true)
	work(a, bind, true)
	for _, s := range a.Servers {
		srv := &http.Server{Handler: s.Handler}
		ln, err := a.Listen(s)
		if err != nil {
			closer.Fatalln(err)
		}
		bind(srv.Shutdown)
		go closer.Checked(func() error { return scenario.Served(srv.Serve(ln)) }, true)
	}
	open(false)
	work(a, bind, false)
	a.Ready()
	closer.Hold()
	return nil
}

func work(a *scenario.App, bind func(func(context.Context) error), last bool) {
	for _, w := range a.Workers {
		if w.Last != last {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		bind(func(stop context.Context) error {
			cancel()
			select {
			case <-done:
				return nil
			case <-stop.Done():
				return stop.Err()
			}
		})
		go closer.Checked(func() error {
			defer close(done)
			return scenario.Clean(w.Run(ctx))
		}, true)
	}
}
