// Command closer_mended is command closer with the two lines about stopping
// replaced.
package main

import (
	"log"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
	"github.com/gracefulgo/graceful/verify/article/work"
)

func startHTTPServer() {
	srv := work.NewServer(nil)
	if _, err := quithttp.ListenAndServe(quit.GetQuitEvent(), srv); err != nil {
		log.Fatal("http server: ", err) // the port is taken
	}
}

func main() {
	go startHTTPServer()
	quit.WaitSignal()
}
