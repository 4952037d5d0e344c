// Command service_mended is command service with two lines more: the loop is
// counted. And its bool is atomic, since two goroutines use it.
package main

import (
	"sync/atomic"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/verify/article/work"
)

type service struct{ stopped atomic.Bool }

func (s *service) Close() error {
	s.stopped.Store(true)
	return nil
}

func (s *service) run() {
	for !s.stopped.Load() {
		work.Do()
	}
}

func startService() {
	srv := new(service)
	quit.GetQuitEvent().AddGoroutine()
	defer quit.GetQuitEvent().DoneGoroutine()
	quit.GetQuitEvent().RegisterCloser(srv)
	srv.run()
}

func main() {
	for range 50 {
		go startService()
	}
	quit.WaitSignal()
}
