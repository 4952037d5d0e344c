package main

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func withQuit(srv *http.Server, job job, timeout time.Duration) error {
	q := quit.GetQuitEvent()
	q.Timeout = timeout
	q.NotifySignal() // a signal while it starts stops it too
	ln, err := net.Listen("tcp", srv.Addr)
	if err != nil {
		return err
	}
	quithttp.Serve(q, srv, ln, quit.Name("gin"))
	fmt.Printf("listening on http://%v\n", ln.Addr())
	q.Go(job, quit.Name("job"))
	return q.WaitSignal()
}
