// The program errgroup is stopped by signal.NotifyContext and an
// errgroup.Group.
package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	ln := program.Listen()
	if ln != nil {
		srv := program.Server()
		g.Go(func() error {
			if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
			defer cancel()
			return srv.Shutdown(ctx)
		})
	} else {
		g.Go(func() error {
			<-ctx.Done()
			return nil
		})
	}
	program.Ready(ln)
	program.Must(g.Wait())
}
