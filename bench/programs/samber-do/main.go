// The program samber-do is stopped by an injector of do.
package main

import (
	"context"
	"net"
	"net/http"

	"github.com/samber/do/v2"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

type server struct{ *http.Server }

func (s *server) Shutdown(ctx context.Context) error { return s.Server.Shutdown(ctx) }

func main() {
	i := do.New()
	ln := program.Listen()
	if ln != nil {
		do.ProvideValue[net.Listener](i, ln)
		do.Provide(i, func(i do.Injector) (*server, error) {
			s := &server{program.Server()}
			go s.Serve(do.MustInvoke[net.Listener](i))
			return s, nil
		})
		do.MustInvoke[*server](i)
	}
	program.Ready(ln)
	if _, report := i.ShutdownOnSignals(); !report.Succeed {
		program.Must(report)
	}
}
