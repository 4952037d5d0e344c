// The program xlab-closer is stopped by package closer, which takes the signals
// when it is imported, and ends the process itself.
package main

import (
	"context"
	"time"

	"github.com/xlab/closer"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

func main() {
	ln := program.Listen()
	if ln != nil {
		srv := program.Server()
		closer.Bind(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
			defer cancel()
			srv.Shutdown(ctx)
		})
		go srv.Serve(ln)
	}
	program.Ready(ln)
	closer.Hold()
}
