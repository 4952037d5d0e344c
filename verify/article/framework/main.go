// Command framework has the shape of the article's last fragment: a framework
// owns the signals, and GracefulStop is its hook. The framework does not wait
// for its hooks.
package main

import (
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/verify/article/work"
)

func startJobs() {
	for range 50 {
		quit.GetQuitEvent().AddGoroutine()
		go func() {
			defer quit.GetQuitEvent().DoneGoroutine()
			work.Do()
		}()
	}
}

func main() {
	startJobs()
	f := new(work.Framework)
	f.RegisterQuitter(func() {
		quit.GetQuitEvent().GracefulStop()
	})
	f.Run()
}
