// Command websocket is a chat whose members are told when SIGTERM or Ctrl-C stops it.
//
//	go run ./websocket    # in examples/frameworks; open http://127.0.0.1:8080 twice
//
// Write something, then press Ctrl-C. Each member gets what was said until then, a
// goodbye, and the end of its connection with status 1001: going away. The program
// ends when the last has answered that, with status 0. [http.Server.Shutdown] would
// not wait for any of them.
//
// A member that does not read, or does not answer, is cut off after 3 seconds, and
// holds up no other. If the stop has no more time than that, the status is 1. In both
// cases the log says who it was.
//
// What main.go does about stopping is all there is for any WebSockets; how a member is
// told is in chat.go.
package main

import (
	_ "embed"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

//go:embed page.html
var page string

func main() {
	q := quit.GetQuitEvent()
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(2, fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}

	// From now on no signal ends the program halfway.
	q.NotifySignal()

	c := newChat()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })
	// Track counts the handlers, each of which lives as long as its WebSocket. The drain
	// waits for them.
	mux.Handle("GET /chat", quithttp.Track(q, c))
	bound, err := quithttp.ListenAndServe(q, &http.Server{
		Addr:              *addr,
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second, // a client that is slow to send must not hold up the stop
		IdleTimeout:       2 * time.Minute, // longer than most load balancers keep an idle connection
	})
	if err != nil {
		exit(1, err)
	}
	// Registered last, called first: it has all handlers end, and lets in no more.
	q.RegisterStopFunc(c.close, quit.Name("chat"))

	fmt.Printf("listening on http://%v\n", bound)
	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "websocket:", err)
	os.Exit(status)
}
