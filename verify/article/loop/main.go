// Command loop has the shape of the article's second worker, fifty times: a
// loop that ends at the fire, and is counted.
package main

import (
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/verify/article/work"
)

type worker struct{}

func (w *worker) run() {
	quit.GetQuitEvent().AddGoroutine()
	defer func() {
		quit.GetQuitEvent().DoneGoroutine()
	}()
	for !quit.GetQuitEvent().HasFired() {
		work.Do()
	}
}

func main() {
	for range 50 {
		go new(worker).run()
	}
	quit.WaitSignal()
}
