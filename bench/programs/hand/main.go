// The program hand is stopped with the standard library alone.
package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ln := program.Listen()
	srv := program.Server()
	var wg sync.WaitGroup
	var served error
	if ln != nil {
		wg.Go(func() {
			if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				served = err
				stop()
			}
		})
	}
	program.Ready(ln)
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	err := srv.Shutdown(ctx)
	wg.Wait()
	program.Must(errors.Join(served, err))
}
