//go:build unix && heavy

// Command manager plays the scenarios with the manager of controller-runtime:
// workers and servers are Runnables, with a GracefulShutdownTimeout. It leaves
// resources to the caller: they are closed by defer statements in main. No API
// server is asked for anything.
//
// It takes minutes to build, and so is left out without the tag heavy.
package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

func run(a *scenario.App) (err error) {
	a.Rerun() // SetupSignalHandler panics when it is called twice
	a.NoHangup()
	a.NoGroup()
	log.SetLogger(logr.Discard())
	signaled := signals.SetupSignalHandler()
	ctx, cancel := context.WithCancel(signaled)
	defer cancel()
	mgr, err := manager.New(&rest.Config{Host: "http://127.0.0.1:1"}, manager.Options{
		Metrics:                 metrics.Options{BindAddress: "0"},
		GracefulShutdownTimeout: &a.Timeout,
	})
	if err != nil {
		return err
	}
	a.Ops = scenario.Ops{
		Go: func(name string, f func(context.Context) error) bool {
			return mgr.Add(manager.RunnableFunc(f)) == nil
		},
		Stopping: func() bool { return ctx.Err() != nil },
		Stop:     cancel,
	}
	var open []*scenario.Part
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
		defer cancel()
		err = errors.Join(err, scenario.Close(ctx, open))
	}()
	if err := a.Open(func(p *scenario.Part) { open = append(open, p) }); err != nil {
		return err
	}
	for _, s := range a.Servers {
		ln, err := a.Listen(s)
		if err != nil {
			return err
		}
		// Shut down before other runnables, which is what workers need that
		// take what it lets in.
		if err := mgr.Add(&manager.Server{
			Name: "http", Server: &http.Server{Handler: s.Handler}, Listener: ln, ShutdownTimeout: &a.Timeout,
		}); err != nil {
			return err
		}
	}
	for _, w := range a.Workers {
		if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
			return scenario.Clean(w.Run(ctx))
		})); err != nil {
			return err
		}
	}
	a.Ready()
	return mgr.Start(ctx)
}
