//go:build unix

// Command article plays the scenarios with the package of the article from
// which package quit takes its names, 【Golang】程序如何优雅的退出？. The type
// event behaves like that package. It was written for this comparison: none of
// the package's code is here.
package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

// event is the article's QuitEvent. It has three lists, which no lock guards,
// and calls each from the first to the last.
type event struct {
	once     sync.Once
	fired    chan struct{}
	closers  []io.Closer
	quitters []interface{ Shutdown(context.Context) error }
	funcs    []func()
	running  sync.WaitGroup
}

func (e *event) fire() { e.once.Do(func() { close(e.fired) }) }

// gracefulStop drops errors, and gives no timeout.
func (e *event) gracefulStop() {
	e.fire()
	for _, c := range e.closers {
		c.Close()
	}
	for _, c := range e.quitters {
		c.Shutdown(context.Background())
	}
	for _, f := range e.funcs {
		f()
	}
	e.running.Wait()
}

// waitSignal ends the process three seconds after the signal, finished or not.
func (e *event) waitSignal() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	<-c
	signal.Stop(c)
	go e.gracefulStop()
	time.Sleep(3 * time.Second)
	os.Exit(0)
}

type quitter func(context.Context) error

func (q quitter) Shutdown(ctx context.Context) error { return q(ctx) }

func run(a *scenario.App) error {
	a.Rerun()
	a.NoHangup()
	a.NoGroup()
	e := &event{fired: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-e.fired; cancel() }()

	start := func(f func(context.Context) error) {
		e.running.Add(1)
		go func() {
			defer e.running.Done()
			if err := f(ctx); scenario.Clean(err) != nil {
				log.Print(err)
			}
		}()
	}
	a.Ops = scenario.Ops{
		Add: func(p *scenario.Part) func() {
			e.quitters = append(e.quitters, quitter(p.Stop))
			return nil
		},
		Go: func(name string, f func(context.Context) error) bool {
			start(f)
			return true
		},
		Stopping: func() bool { return ctx.Err() != nil },
		Stop:     e.gracefulStop,
	}
	for _, p := range a.Parts {
		if err := p.Open(); err != nil {
			log.Fatal(err) // as the article does
		}
		e.quitters = append(e.quitters, quitter(p.Stop))
	}
	for _, w := range a.Workers {
		start(w.Run)
	}
	for _, s := range a.Servers {
		ln, err := a.Listen(s)
		if err != nil {
			log.Fatal("startHttpServer ListenAndServe error: " + err.Error())
		}
		srv := &http.Server{Handler: s.Handler}
		e.quitters = append(e.quitters, srv)
		go srv.Serve(ln)
	}
	a.Ready()
	e.waitSignal()
	return nil
}
