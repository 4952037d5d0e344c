// Command framework_mended is command framework with one line more: main waits
// for the shutdown that the hook has begun.
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
	quit.GetQuitEvent().GracefulStop()
}
