//go:build unix

// Command kratos plays the scenarios with go-kratos: servers are its own HTTP
// servers, workers are transport.Servers. Resources are closed by a deferred
// cleanup in main, last opened first, as in kratos-layout; such a cleanup gets
// no context and returns no error.
package main

import (
	"context"
	"io"
	"log"

	"github.com/go-kratos/kratos/v2"
	kratoslog "github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/transport"
	"github.com/go-kratos/kratos/v2/transport/http"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

func run(a *scenario.App) error {
	a.NoGroup()
	if a.Is("deadline") {
		a.NA("a cleanup gets no context")
	}
	kratoslog.SetLogger(kratoslog.NewStdLogger(io.Discard))
	var servers []transport.Server
	var open []*scenario.Part
	defer func() {
		if err := scenario.Close(context.Background(), open); err != nil {
			log.Print(err)
		}
	}()
	if err := a.Open(func(p *scenario.Part) {
		if p.Alone {
			servers = append(servers, newService(p))
		} else {
			open = append(open, p)
		}
	}); err != nil {
		return err
	}

	opts := []kratos.Option{kratos.StopTimeout(a.Timeout)}
	if len(a.Signals) > 2 { // by default SIGINT, SIGTERM and SIGQUIT
		opts = append(opts, kratos.Signal(a.Signals...))
	}
	for _, s := range a.Servers {
		ln, err := a.Listen(s)
		if err != nil {
			return err
		}
		srv := http.NewServer(http.Listener(ln), http.Timeout(0))
		srv.HandlePrefix("/", s.Handler)
		servers = append(servers, srv)
	}
	for _, w := range a.Workers {
		ws := newWorker(w)
		if w.Last { // its servers are stopped by then
			opts = append(opts, kratos.BeforeStart(func(ctx context.Context) error {
				go ws.Start(ctx)
				return nil
			}), kratos.AfterStop(ws.Stop))
			continue
		}
		servers = append(servers, ws)
	}
	opts = append(opts, kratos.Server(servers...), kratos.AfterStart(func(context.Context) error {
		a.Ready()
		return nil
	}))
	app := kratos.New(opts...)
	a.Ops = scenario.Ops{Stop: func() { app.Stop() }}
	return app.Run()
}

// worker is a transport.Server.
type worker struct {
	*scenario.Worker
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

func newWorker(w *scenario.Worker) *worker {
	ctx, cancel := context.WithCancel(context.Background())
	return &worker{w, ctx, cancel, make(chan struct{})}
}

func (w *worker) Start(context.Context) error {
	defer close(w.done)
	return w.Run(w.ctx)
}

func (w *worker) Stop(ctx context.Context) error {
	w.cancel()
	<-w.done
	return nil
}

// service is a transport.Server for a part.
type service struct {
	part *scenario.Part
	done chan struct{}
}

func newService(p *scenario.Part) *service { return &service{p, make(chan struct{})} }

func (s *service) Start(context.Context) error { <-s.done; return nil }

func (s *service) Stop(ctx context.Context) error {
	defer close(s.done)
	return s.part.Stop(ctx)
}
