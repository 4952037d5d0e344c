// Command closer has the shape of the article's second http server: the server
// is registered, and log.Fatal takes its clean end for an error.
package main

import (
	"log"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/verify/article/work"
)

func startHTTPServer() {
	srv := work.NewServer(nil)
	quit.GetQuitEvent().RegisterQuitCloser(srv)
	if err := srv.ListenAndServe(); err != nil {
		log.Fatal("http server: ", err)
	}
}

func main() {
	go startHTTPServer()
	quit.WaitSignal()
}
