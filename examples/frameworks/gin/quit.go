package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func withQuit(srv *http.Server, job job, timeout time.Duration) error {
	q := quit.GetQuitEvent()
	q.Timeout = timeout
	q.NotifySignal() // a signal during startup stops it too
	addr, err := quithttp.ListenAndServe(q, srv, quit.Name("gin"))
	if err != nil {
		return err
	}
	fmt.Printf("listening on http://%v\n", addr)
	q.Go(job, quit.Name("job"))
	return q.WaitSignal()
}
