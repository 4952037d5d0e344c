// The program ory-graceful is stopped by package graceful of Ory, which is for
// one server.
package main

import (
	"context"
	"net/http"

	"github.com/ory/graceful"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

func main() {
	ln := program.Listen()
	srv := graceful.WithDefaults(program.Server())
	start, stop := func() error { return srv.Serve(ln) }, srv.Shutdown
	if ln == nil {
		done := make(chan struct{})
		start = func() error {
			<-done
			return http.ErrServerClosed
		}
		stop = func(context.Context) error {
			close(done)
			return nil
		}
	}
	program.Ready(ln)
	program.Must(graceful.Graceful(start, stop))
}
