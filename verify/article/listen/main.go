// Command listen has the shape of the article's first http server: nothing
// stops it.
package main

import (
	"log"

	"github.com/gracefulgo/graceful/verify/article/work"
)

func startHTTPServer() {
	srv := work.NewServer(nil)
	if err := srv.ListenAndServe(); err != nil {
		log.Fatal("http server: ", err)
	}
}

func main() {
	startHTTPServer()
}
