// Command queue_mended is command queue with two lines for its loop and a
// closer: accepted jobs are done. AddGoroutine has moved, so that an early
// signal cannot miss the worker.
package main

import (
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/verify/article/work"
)

type worker struct{ jobs chan func() }

func (w *worker) run() {
	defer func() {
		quit.GetQuitEvent().DoneGoroutine()
	}()
	for job := range w.jobs {
		job()
	}
}

func main() {
	w := &worker{jobs: make(chan func(), 50)}
	// Registered before the server that sends jobs: so it is called after that
	// server has stopped.
	quit.GetQuitEvent().RegisterStopFunc(func() { close(w.jobs) })
	quit.GetQuitEvent().AddGoroutine() // before the go statement
	go w.run()
	for range 50 {
		w.jobs <- work.Do // by a request that has its answer
	}
	quit.WaitSignal()
}
