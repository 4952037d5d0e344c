// The program quit.http is stopped by package quit, and its server by
// quithttp, which breaks no connection.
package main

import (
	"github.com/gracefulgo/graceful/bench/programs/internal/program"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	q.NotifySignal()
	ln := program.Listen()
	if ln != nil {
		quithttp.Serve(q, program.Server(), ln)
	}
	program.Ready(ln)
	program.Must(quit.WaitSignal())
}
