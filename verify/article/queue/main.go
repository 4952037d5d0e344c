// Command queue has the shape of the article's first worker: a select on the
// fire and on a channel in which fifty jobs wait.
package main

import (
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/verify/article/work"
)

type worker struct{ jobs chan func() }

func (w *worker) run() {
	quit.GetQuitEvent().AddGoroutine()
	defer func() {
		quit.GetQuitEvent().DoneGoroutine()
	}()
	for !quit.GetQuitEvent().HasFired() {
		select {
		case <-quit.GetQuitEvent().Done():
		case job := <-w.jobs:
			job()
		}
	}
}

func main() {
	w := &worker{jobs: make(chan func(), 50)}
	go w.run()
	for range 50 {
		w.jobs <- work.Do // by a request that has its answer
	}
	quit.WaitSignal()
}
