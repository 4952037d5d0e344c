// The program conc is stopped by signal.NotifyContext and a pool of conc.
package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := pool.New().WithContext(ctx).WithCancelOnError()
	ln := program.Listen()
	srv := program.Server()
	if ln != nil {
		p.Go(func(context.Context) error {
			if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	p.Go(func(ctx context.Context) error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
		defer cancel()
		return srv.Shutdown(ctx)
	})
	program.Ready(ln)
	program.Must(p.Wait())
}
