// Command context shows how the end of a program reaches each of its goroutines, from
// the root of a tree down to the leaf, and how each part can end before the whole.
//
//   - Tickers (tickers.go): goroutines of the program, which end at the fire and are awaited.
//   - A service (tickers.go): a part that looks after itself, with its own
//     event and counter. It is stopped with the program, or alone by POST
//     /service/stop: then the rest of the program goes on, even if a goroutine
//     of the service cannot end, which its stop says in time. If one of its
//     goroutines fails, the whole program stops, with exit status 1.
//   - The contexts of HTTP (tree.go): server, connection, request, work. Requests in
//     flight live on after the fire, until the time of the stop has run out.
//
// To try it:
//
//	go run ./examples/context                 # -stuck, or -fail: a service with a fault
//	curl 'localhost:8080/work?d=3s&timeout=1s'
//	curl -X POST localhost:8080/service/stop  # takes 11 s with -stuck
//	curl 'localhost:8080/work?d=3s'           # press Ctrl-C now: it is still answered
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	n := flag.Int("n", 3, "number of tickers, of the program and of the service")
	every := flag.Duration("tick", time.Second, "time between two ticks")
	limit := flag.Duration("limit", time.Minute, "the server's limit for a request")
	stuck := flag.Bool("stuck", false, "give the service a goroutine that does not end")
	fail := flag.Bool("fail", false, "give the service a goroutine that fails")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop; negative means no limit")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(2, fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}
	if *every <= 0 {
		exit(2, fmt.Errorf("-tick must be more than 0, not %v", *every))
	}

	// As early as this: a signal that comes while it starts stops all of it too.
	q.NotifySignal()

	// What can fail comes before what needs undoing.
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		exit(1, err)
	}

	for i := range *n {
		q.Go(func(ctx context.Context) error { return tick(ctx, fmt.Sprint("ticker ", i+1), *every) })
	}

	svc := startService(q.Timeout/2, *n, *every, *stuck, *fail)
	q.RegisterQuitCloser(svc, quit.Name("service")) // and so a failure of the service ends the program

	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", work)
	mux.HandleFunc("POST /service/stop", func(w http.ResponseWriter, r *http.Request) {
		// It goes on if the client does not wait for it, and the error stays: the
		// program's own stop returns it too.
		if err := svc.Shutdown(r.Context()); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, svc.Report())
	})
	quithttp.Serve(q, newServer(ln.Addr(), *limit, mux), ln)
	fmt.Printf("listening on http://%v\n", ln.Addr())

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
	fmt.Println("all have stopped")
}

func exit(status int, err error) {
	log.SetFlags(0)
	log.SetPrefix("context: ")
	log.Print(err)
	os.Exit(status)
}
