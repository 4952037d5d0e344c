// The program fx is stopped by an fx.App.
package main

import (
	"context"
	"net/http"

	"go.uber.org/fx"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

func main() {
	ln := program.Listen()
	fx.New(
		fx.Provide(func(lc fx.Lifecycle) *http.Server {
			srv := program.Server()
			lc.Append(fx.Hook{
				OnStart: func(context.Context) error {
					if ln != nil {
						go srv.Serve(ln)
					}
					program.Ready(ln)
					return nil
				},
				OnStop: srv.Shutdown,
			})
			return srv
		}),
		fx.Invoke(func(*http.Server) {}),
	).Run()
}
