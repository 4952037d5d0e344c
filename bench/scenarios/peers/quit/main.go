//go:build unix

// Command quit plays the scenarios with package quit, as its README says.
package main

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() { scenario.Main(run) }

func run(a *scenario.App) error {
	q := quit.NewQuitEvent()
	q.Timeout = a.Timeout
	defer q.NotifySignal(a.Signals...)() // a signal during the start is not lost

	a.Ops = scenario.Ops{
		Add: func(p *scenario.Part) func() {
			unregister := register(q, p)
			return func() { unregister() }
		},
		Go: func(name string, f func(context.Context) error) bool {
			return q.Go(f, quit.Name(name))
		},
		Stopping: q.HasFired,
		Stop:     q.GracefulStop,
		Work:     q.WorkContext,
		Got: func() os.Signal {
			var sig *quit.SignalError
			if errors.As(q.Cause(), &sig) {
				return sig.Signal
			}
			return nil
		},
	}
	beside := quit.NewQuitEvent() // a group that is closed at once
	beside.Concurrent = true
	q.RegisterQuitCloser(beside, quit.Name("beside"))
	if err := a.Open(func(p *scenario.Part) {
		if p.Alone {
			register(beside, p)
		} else {
			register(q, p)
		}
	}); err != nil {
		q.Fail(err) // the open parts are closed
		return q.WaitSignal(a.Signals...)
	}
	if g := a.Group; g != nil {
		child := quit.NewQuitEvent()
		q.RegisterQuitCloser(child, quit.Name(g.Name))
		for _, p := range g.Parts {
			register(child, p)
		}
		start(child, g.Workers)
	}

	var first, last []*scenario.Worker
	for _, w := range a.Workers {
		if w.Last {
			last = append(last, w)
		} else {
			first = append(first, w)
		}
	}
	start(q, first)
	if len(last) > 0 {
		// Registered before the servers, so the workers are told to end when
		// the servers are shut down.
		workers := quit.NewQuitEvent()
		q.RegisterQuitCloser(workers, quit.Name("workers"))
		start(workers, last)
	}

	for _, s := range a.Servers {
		srv := &http.Server{Addr: s.Addr, Handler: s.Handler}
		if srv.Handler != nil {
			srv.Handler = quithttp.Track(q, s.Handler) // awaits hijacked connections too
		}
		if addr, err := quithttp.ListenAndServe(q, srv); err != nil {
			q.Fail(err)
		} else {
			a.Listening(addr)
		}
	}
	a.Ready()
	return q.WaitSignal(a.Signals...)
}

func register(q *quit.QuitEvent, p *scenario.Part) (unregister func() bool) {
	opts := []quit.Option{quit.Name(p.Name)}
	if p.Shared {
		opts = append(opts, quit.AfterDrain())
	}
	return q.RegisterQuitCloser(quit.ShutdownFunc(p.Stop), opts...)
}

func start(q *quit.QuitEvent, workers []*scenario.Worker) {
	for _, w := range workers {
		q.Go(w.Run, quit.Name(w.Name))
	}
}
