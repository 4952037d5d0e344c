// The program oklog-run is stopped by a run.Group.
package main

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/oklog/run"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

func main() {
	var g run.Group
	g.Add(run.SignalHandler(context.Background(), os.Interrupt, syscall.SIGTERM))
	ln := program.Listen()
	if ln != nil {
		srv := program.Server()
		g.Add(func() error { return srv.Serve(ln) }, func(error) {
			ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
			defer cancel()
			srv.Shutdown(ctx)
		})
	}
	program.Ready(ln)
	if err := g.Run(); !errors.Is(err, run.ErrSignal) {
		program.Must(err)
	}
}
