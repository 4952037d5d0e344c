// The program tomb is stopped by a tomb.
package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"gopkg.in/tomb.v2"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var t tomb.Tomb
	ln := program.Listen()
	srv := program.Server()
	t.Go(func() error {
		<-t.Dying()
		ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
		defer cancel()
		return srv.Shutdown(ctx)
	})
	if ln != nil {
		t.Go(func() error {
			if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	program.Ready(ln)
	select {
	case <-signals:
		t.Kill(nil)
	case <-t.Dying():
	}
	program.Must(t.Wait())
}
