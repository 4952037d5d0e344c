// Command hook_mended is command hook with two lines replaced: the server is
// registered with the event, instead of the event with the server.
package main

import (
	"errors"
	"log"
	"net/http"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/verify/article/work"
)

func startHTTPServer() {
	srv := work.NewServer(nil)
	quit.GetQuitEvent().RegisterQuitCloser(srv)
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal("http server: ", err)
	}
}

func main() {
	go startHTTPServer()
	quit.WaitSignal()
}
