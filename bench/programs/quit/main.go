// The program quit is stopped by package quit, and its server by net/http's
// Shutdown.
package main

import (
	"context"
	"net"
	"net/http"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	q.NotifySignal()
	ln := program.Listen()
	if ln != nil {
		srv := program.Server()
		srv.BaseContext = func(net.Listener) context.Context { return q.WorkContext() }
		q.RegisterQuitCloser(srv)
		q.Go(func(context.Context) error {
			return srv.Serve(ln)
		}, quit.Ignore(http.ErrServerClosed))
	}
	program.Ready(ln)
	program.Must(quit.WaitSignal())
}
