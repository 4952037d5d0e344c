// The program suture is stopped by a suture.Supervisor.
package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/thejerf/suture/v4"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

type server struct{ ln net.Listener }

func (s server) String() string { return "http" }

func (s server) Serve(ctx context.Context) error {
	srv := program.Server()
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(ctx)
	}()
	if err := srv.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	supervisor := suture.NewSimple("program")
	ln := program.Listen()
	if ln != nil {
		supervisor.Add(server{ln})
	}
	program.Ready(ln)
	if err := supervisor.Serve(ctx); !errors.Is(err, context.Canceled) {
		program.Must(err)
	}
}
