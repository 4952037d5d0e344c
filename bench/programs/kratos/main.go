// The program kratos is stopped by a kratos.App, with the server of kratos.
package main

import (
	"context"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/transport/http"

	"github.com/gracefulgo/graceful/bench/programs/internal/program"
)

func main() {
	ln := program.Listen()
	opts := []kratos.Option{kratos.AfterStart(func(context.Context) error {
		program.Ready(ln)
		return nil
	})}
	if ln != nil {
		srv := http.NewServer(http.Listener(ln))
		srv.HandleFunc("/", program.Answer)
		opts = append(opts, kratos.Server(srv))
	}
	program.Must(kratos.New(opts...).Run())
}
