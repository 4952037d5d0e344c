package quit_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/gracefulgo/graceful/quit"
)

// The code below resembles programs written for the first package with these
// names. Only the import path is changed. The programs must still compile and
// end.

type firstWorker struct{ messages chan string }

func (w *firstWorker) runWithChan() {
	quit.GetQuitEvent().AddGoroutine()
	defer func() { quit.GetQuitEvent().DoneGoroutine() }()
	for !quit.GetQuitEvent().HasFired() {
		select {
		case <-quit.GetQuitEvent().Done():
		case <-w.messages:
		}
	}
}

func (w *firstWorker) run() {
	quit.GetQuitEvent().AddGoroutine()
	defer quit.GetQuitEvent().DoneGoroutine()
	for !quit.GetQuitEvent().HasFired() {
	}
}

type firstService struct{ stopped chan struct{} }

func (s *firstService) Close() error { close(s.stopped); return nil }
func (s *firstService) Run()         { <-s.stopped }

type framework struct{ quitter func() }

func (f *framework) RegisterQuitter(q func()) { f.quitter = q }

func TestProgramsOfFirstPackage(t *testing.T) {
	old := quit.GetQuitEvent()
	defer quit.SetQuitEvent(old)
	quit.SetQuitEvent(quietEvent())

	var event quit.Event = quit.Event{}
	if event.HasFired() || !quit.NewEvent().Fire() {
		t.Error("an Event is not what it was")
	}
	<-func() <-chan struct{} { e := quit.NewEvent(); e.Fire(); return e.Done() }()
	var qe *quit.QuitEvent = quit.NewQuitEvent()
	var closer quit.QuitCloser = &http.Server{}
	qe.Fire()
	<-qe.Done()

	srv := &http.Server{Addr: "127.0.0.1:0"}
	quit.GetQuitEvent().RegisterQuitCloser(closer)
	quit.GetQuitEvent().RegisterQuitCloser(srv)
	srv.RegisterOnShutdown(quit.GetQuitEvent().GracefulStop)
	served := make(chan error)
	go func() { served <- srv.ListenAndServe() }()

	service := &firstService{make(chan struct{})}
	quit.GetQuitEvent().RegisterCloser(service)
	quit.GetQuitEvent().RegisterStopFunc(func() {})
	var workers sync.WaitGroup // they may be counted too late for the shutdown
	workers.Go(new(firstWorker).run)
	workers.Go(new(firstWorker).runWithChan)

	var f framework
	f.RegisterQuitter(func() { quit.GetQuitEvent().GracefulStop() })
	go f.quitter()

	service.Run()
	if err := <-served; err != http.ErrServerClosed {
		t.Errorf("ListenAndServe() = %v, want %v", err, http.ErrServerClosed)
	}
	quit.WaitSignal()
	quit.GetQuitEvent().WaitGoroutines()
	workers.Wait() // before the old event is back
}
