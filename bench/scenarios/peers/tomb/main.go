//go:build unix

// Command tomb plays the scenarios with gopkg.in/tomb.v2: all goroutines are
// the tomb's. It leaves resources to the caller: they are closed by defer
// statements in main.
package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"

	"gopkg.in/tomb.v2"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

func run(a *scenario.App) (err error) {
	var t, late tomb.Tomb
	sigs := make(chan os.Signal, 1)
	var got os.Signal
	signal.Notify(sigs, a.Signals...)
	defer signal.Stop(sigs)

	a.Ops = scenario.Ops{
		Go: func(name string, f func(context.Context) error) bool {
			if !t.Alive() {
				return false
			}
			t.Go(func() error { return f(t.Context(context.Background())) })
			return true
		},
		Stopping: func() bool { return !t.Alive() },
		Stop:     func() { t.Kill(nil) },
		Got:      func() os.Signal { return got },
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
		t.Go(func() error {
			<-t.Dying()
			closing, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return p.Stop(closing)
		})
	}); err != nil {
		return err
	}
	t.Go(func() error {
		select {
		case got = <-sigs:
			t.Kill(nil)
		case <-t.Dying():
		}
		return nil
	})
	for _, s := range a.Servers {
		ln, err := a.Listen(s)
		if err != nil {
			t.Kill(err)
			break
		}
		srv := &http.Server{Handler: s.Handler}
		t.Go(func() error { return scenario.Served(srv.Serve(ln)) })
		t.Go(func() error {
			<-t.Dying()
			ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return srv.Shutdown(ctx)
		})
	}
	lates := 0
	for _, w := range a.Workers {
		if w.Last {
			lates++
			start(&late, w)
		} else {
			start(&t, w)
		}
	}
	if inner := a.Group; inner != nil {
		t.Go(func() error {
			var sub tomb.Tomb
			sub.Go(func() error {
				select {
				case <-t.Dying():
					sub.Kill(nil)
				case <-sub.Dying():
				}
				return nil
			})
			for _, w := range inner.Workers {
				start(&sub, w)
			}
			err := sub.Wait()
			ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
			defer cancel()
			return errors.Join(err, scenario.Close(ctx, inner.Parts))
		})
	}
	a.Ready()
	err = t.Wait()
	if lates > 0 {
		late.Kill(nil)
		err = errors.Join(err, late.Wait())
	}
	return err
}

// start runs w in the tomb. ErrDying stands for an end without an error.
func start(t *tomb.Tomb, w *scenario.Worker) {
	t.Go(func() error {
		err := w.Run(t.Context(context.Background()))
		if !t.Alive() && scenario.Clean(err) == nil {
			return tomb.ErrDying
		}
		return err
	})
}
