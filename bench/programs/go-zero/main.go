// The program go-zero is stopped by package proc of go-zero, which takes the
// signals when it is imported. As in go-zero's own servers, main waits until
// its listener was called.
package main

import (
	"context"
	"time"

	"github.com/zeromicro/go-zero/core/proc"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

func main() {
	ln := program.Listen()
	srv := program.Server()
	stopped := proc.AddShutdownListener(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
		defer cancel()
		srv.Shutdown(ctx)
	})
	if ln != nil {
		go srv.Serve(ln)
	}
	program.Ready(ln)
	stopped()
}
