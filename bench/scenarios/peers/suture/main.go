//go:build unix

// Command suture plays the scenarios with thejerf/suture: workers and servers
// are services of a supervisor with a Timeout, which runs until the context of
// signal.NotifyContext is done. It leaves resources to the caller: they are
// closed by defer statements in main. It restarts a service that fails, unless
// the error is ErrTerminateSupervisorTree, which ends the program.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os/signal"
	"time"

	"github.com/thejerf/suture/v4"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

func run(a *scenario.App) (err error) {
	if a.Is("worker-panics") {
		a.NA("a service that panics is started anew")
	}
	signaled, stop := signal.NotifyContext(context.Background(), a.Signals...)
	defer stop()
	ctx, cancel := context.WithCancel(signaled)
	defer cancel()
	sup := suture.New("app", suture.Spec{Timeout: a.Timeout})

	a.Ops = scenario.Ops{
		Go: func(name string, f func(context.Context) error) bool {
			sup.Add(&service{name, func(ctx context.Context) error {
				if err := f(ctx); err != nil {
					return err
				}
				return suture.ErrDoNotRestart
			}})
			return true
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
		sup.Add(&service{p.Name, func(ctx context.Context) error {
			<-ctx.Done()
			closing, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return p.Stop(closing)
		}})
	}); err != nil {
		return err
	}
	for _, s := range a.Servers {
		ln, err := a.Listen(s)
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: s.Handler}
		sup.Add(&service{"http", func(ctx context.Context) error {
			failed := make(chan error, 1)
			go func() { failed <- srv.Serve(ln) }()
			select {
			case err := <-failed:
				return terminate(err)
			case <-ctx.Done():
			}
			// The supervisor's own timeout is a.Timeout too.
			shut, cancel := context.WithTimeout(context.Background(),
				a.Timeout-100*time.Millisecond)
			defer cancel()
			return srv.Shutdown(shut)
		}})
	}
	late := suture.New("late", suture.Spec{Timeout: a.Timeout})
	for _, w := range a.Workers {
		if w.Last {
			late.Add(&service{w.Name, w.Run})
		} else {
			sup.Add(&service{w.Name, w.Run})
		}
	}
	if inner := a.Group; inner != nil {
		sub := suture.New(inner.Name, suture.Spec{Timeout: a.Timeout})
		for _, w := range inner.Workers {
			sub.Add(&service{w.Name, w.Run})
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			err = errors.Join(err, scenario.Close(ctx, inner.Parts))
		}()
		sup.Add(sub)
	}
	lateCtx, stopLate := context.WithCancel(context.Background())
	defer stopLate()
	lateDone := late.ServeBackground(lateCtx)

	a.Ready()
	err = scenario.Clean(sup.Serve(ctx))
	stopLate()
	<-lateDone
	if report, _ := sup.UnstoppedServiceReport(); len(report) > 0 {
		for _, s := range report {
			log.Print("not stopped: ", s.Name)
		}
	}
	return err
}

// service is a suture.Service that ends the tree if it fails before it is told
// to end.
type service struct {
	name string
	run  func(ctx context.Context) error
}

func (s *service) String() string { return s.name }

func (s *service) Serve(ctx context.Context) error {
	err := s.run(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, suture.ErrDoNotRestart) {
		return terminate(err)
	}
	return err
}

func terminate(err error) error {
	return fmt.Errorf("%w: %w", suture.ErrTerminateSupervisorTree, err)
}
