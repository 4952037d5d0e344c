// Command service has the shape of the article's io.Closer, fifty times: Close
// sets a bool that the work loop reads, and does not wait for the loop.
package main

import (
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/verify/article/work"
)

type service struct{ stopped bool }

func (s *service) Close() error {
	s.stopped = true
	return nil
}

func (s *service) run() {
	for !s.stopped {
		work.Do()
	}
}

func startService() {
	srv := new(service)
	quit.GetQuitEvent().RegisterCloser(srv)
	srv.run()
}

func main() {
	for range 50 {
		go startService()
	}
	quit.WaitSignal()
}
