// Command websocket is a chat that says goodbye to its members when SIGTERM or
// Ctrl-C stops it.
//
//	go run ./websocket    # in examples/frameworks
//
// Open http://127.0.0.1:8080 in two windows of a browser.
//
// Write a message, then press Ctrl-C. Each member gets the messages until then,
// a goodbye, and the end of its connection with status 1001: going away. The
// program ends with status 0 when the last member has answered that.
// [http.Server.Shutdown] would wait for none of them.
//
// Write another message, and start the program again: each page connects again
// by itself. It sends the messages that were written meanwhile, or that were
// not yet said when the connection ended. It misses the messages of others
// while it is not connected: the chat stores nothing.
//
// A member that does not read, or does not answer, is cut off after 3 seconds,
// and delays no other member. If the shutdown has less time than that, the exit
// status is 1. In both cases the log names the member.
//
// With -cert and -key, the files of a certificate and of its key, the program
// serves https, and the page uses wss.
//
// main.go has everything about the shutdown that a program with WebSockets
// needs. chat.go tells the members, and chat.js makes a page connect again.
package main

import (
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

//go:embed index.html chat.js
var files embed.FS

func main() {
	q := quit.GetQuitEvent()
	addr, cert, key := parseFlags(q)

	// From now on no signal kills the process.
	q.NotifySignal()

	c := newChat()
	mux := http.NewServeMux()
	mux.Handle("GET /", page(http.FileServerFS(files)))
	// Track counts the handlers, each of which lives as long as its WebSocket.
	// The drain waits for them.
	mux.Handle("GET /chat", quithttp.Track(q, c))
	srv := &http.Server{
		Addr:    addr,
		Handler: mux,
		// A slow client must not delay the shutdown. This does not end a
		// WebSocket: net/http lifts the limit when the handler takes the
		// connection.
		ReadTimeout: 10 * time.Second,
		// Longer than most load balancers keep an idle connection.
		IdleTimeout: 2 * time.Minute,
	}
	bound, err := listenAndServe(q, srv, cert, key)
	if err != nil {
		exit(1, err)
	}
	// Registered last, called first: it makes all handlers end, and admits no
	// more.
	q.RegisterStopFunc(c.close, quit.Name("chat"))

	fmt.Printf("listening on %s\n", bound)
	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

// listenAndServe returns the server's URL.
func listenAndServe(q *quit.QuitEvent, srv *http.Server, cert, key string) (string, error) {
	if cert == "" {
		bound, err := quithttp.ListenAndServe(q, srv)
		return fmt.Sprint("http://", bound), err
	}
	bound, err := quithttp.ListenAndServeTLS(q, srv, cert, key)
	return fmt.Sprint("https://", bound), err
}

// page serves the page. The page can load nothing from other sites, and no
// other site can frame it.
func page(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy",
			"default-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'")
		h.ServeHTTP(w, r)
	})
}

// parseFlags sets the fields of q and returns the other flags. It ends the
// program if there is nothing to start.
func parseFlags(q *quit.QuitEvent) (addr, cert, key string) {
	flags := flag.NewFlagSet("websocket", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, without the usage
	flags.StringVar(&addr, "addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	flags.StringVar(&cert, "cert", "", "serve https with the certificate in `file`; needs -key")
	flags.StringVar(&key, "key", "", "the `file` of the key to -cert")
	flags.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout,
		"time for the whole stop; negative means no limit")

	err := flags.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println("usage: websocket [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	}
	switch {
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case (cert == "") != (key == ""):
		err = errors.New("-cert needs -key, and -key needs -cert")
	}
	if err != nil {
		exit(2, err)
	}
	return addr, cert, key
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "websocket:", err)
	os.Exit(status)
}
