//go:build unix

// Command gozero plays the scenarios with go-zero's core/proc and core/service:
// workers and servers are services of a ServiceGroup, parts are closed by
// shutdown listeners, and those that workers use by defer statements in main,
// after the group. The force quit comes at the timeout; the wrap-up time is the
// default one.
package main

import (
	"context"
	"log"
	"net/http"

	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/proc"
	"github.com/zeromicro/go-zero/core/service"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

func main() { scenario.Main(run) }

func run(a *scenario.App) error {
	a.Rerun()
	a.NoHangup()
	a.NoGroup()
	if a.Is("deadline") {
		a.NA("a listener gets no context")
	}
	logx.DisableStat()
	proc.SetTimeToForceQuit(a.Timeout)
	group := service.NewServiceGroup()
	defer group.Stop()
	listen := func(p *scenario.Part) (wait func()) {
		return proc.AddShutdownListener(func() {
			if err := p.Stop(context.Background()); err != nil {
				log.Print(err)
			}
		})
	}
	a.Ops = scenario.Ops{
		Add: func(p *scenario.Part) func() { listen(p); return nil },
	}
	wait := func() {}
	var later []*scenario.Part
	defer func() {
		if err := scenario.Close(context.Background(), later); err != nil {
			log.Print(err)
		}
	}()
	if err := a.Open(func(p *scenario.Part) {
		if p.Shared {
			later = append(later, p)
		} else {
			wait = listen(p)
		}
	}); err != nil {
		return err
	}
	for _, s := range a.Servers {
		ln, err := a.Listen(s)
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: s.Handler}
		// As rest.Server does: closed in the wrap-up, before the listeners.
		done := proc.AddWrapUpListener(func() { srv.Shutdown(context.Background()) })
		group.Add(service.WithStart(func() {
			srv.Serve(ln)
			done()
		}))
	}
	for _, w := range a.Workers {
		group.Add(newWorker(w))
	}
	stop := make(chan struct{})
	// A group without services ends at once.
	group.Add(&funcs{func() { <-stop }, func() { close(stop) }})
	a.Ready()
	group.Start()
	wait()
	return nil
}

// funcs is a service.Service.
type funcs struct{ start, stop func() }

func (f *funcs) Start() { f.start() }
func (f *funcs) Stop()  { f.stop() }

func newWorker(w *scenario.Worker) service.Service {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	return &funcs{
		start: func() {
			defer close(done)
			if err := scenario.Clean(w.Run(ctx)); err != nil {
				log.Fatal(err) // a service has no way to fail
			}
		},
		stop: func() {
			cancel()
			<-done
		},
	}
}
