// Command hook has the shape of the article's third http server: GracefulStop
// is a hook of the server, but nobody shuts the server down.
package main

import (
	"log"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/verify/article/work"
)

func startHTTPServer() {
	srv := work.NewServer(nil)
	srv.RegisterOnShutdown(quit.GetQuitEvent().GracefulStop)
	if err := srv.ListenAndServe(); err != nil {
		log.Fatal("http server: ", err)
	}
}

func main() {
	go startHTTPServer()
	quit.WaitSignal()
}
