//go:build unix && heavy

// Command manager plays the scenarios with the manager of controller-runtime:
// workers and servers are Runnables, with a GracefulShutdownTimeout. It leaves
// resources to the caller: they are closed by defer statements in main. No API
// server is contacted.
//
// It takes minutes to build, and so is left out without the tag heavy.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/go-logr/logr/funcr"
	"golang.org/x/sync/errgroup"
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
	log.SetLogger(funcr.New(func(prefix, args string) {
		fmt.Fprintln(os.Stderr, prefix, args)
	}, funcr.Options{}))
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
	if err := a.Open(func(p *scenario.Part) {
		if !p.Alone {
			open = append(open, p)
			return
		}
		mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
			<-ctx.Done()
			closing, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return p.Stop(closing)
		}))
	}); err != nil {
		return err
	}
	for _, s := range a.Servers {
		ln, err := a.Listen(s)
		if err != nil {
			return err
		}
		if err := mgr.Add(&manager.Server{
			Name: "http", Server: &http.Server{Handler: s.Handler}, Listener: ln,
			ShutdownTimeout: &a.Timeout,
		}); err != nil {
			return err
		}
	}
	// Other Runnables end before servers do: the workers that must outlive
	// these have a group of their own.
	lateCtx, stopLate := context.WithCancel(context.Background())
	defer stopLate()
	late, lateCtx := errgroup.WithContext(lateCtx)
	for _, w := range a.Workers {
		if w.Last {
			late.Go(func() error { return w.Run(lateCtx) })
			continue
		}
		if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
			return scenario.Clean(w.Run(ctx))
		})); err != nil {
			return err
		}
	}
	a.Ready()
	err = mgr.Start(ctx)
	stopLate()
	return errors.Join(err, scenario.Clean(late.Wait()))
}
