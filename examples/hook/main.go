// Command hook is a program in which another framework owns the signals, and
// calls the hooks that it has. One of these is [quit.QuitEvent.GracefulStop];
// and main waits for the end with [quit.QuitEvent.Shutdown], since hooks are
// often not awaited.
//
//	go run ./examples/hook
//	curl 'localhost:8080/work?d=5s'    # press Ctrl-C now: this is still answered
//	curl -s localhost:8080/stream | wc # or now: this never ends, is cut off after 20 of the 25 seconds, and named
//
// What a signal does is up to the framework. This one gives the signals back at
// the first, so a second Ctrl-C, or SIGTERM, ends the process at once: with no
// report, and what is not closed yet stays so. Beside a framework that does not
// mind, [quit.QuitEvent.NotifySignal] would do better.
//
// The server is the framework's too, which stops it with
// [http.Server.Shutdown]. That answers the requests in flight, but breaks a
// connection on which one is just coming. [quithttp.Serve] would not, where the
// framework lets the program serve.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	saving := flag.Duration("saving", 0, "time that it takes to close the store")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(2, fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}
	if q.Timeout <= 0 { // the framework would take it for no time at all
		exit(2, fmt.Errorf("-timeout must be more than 0, not %v", q.Timeout))
	}

	// AfterDrain, since requests in flight use it: the hook below is called
	// while they run.
	s := &store{saving: *saving}
	q.RegisterCloser(s, quit.AfterDrain())
	q.RegisterStopFunc(func() { fmt.Println("left the cluster") }, quit.Name("cluster"))

	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", func(w http.ResponseWriter, r *http.Request) { work(w, r, s) })
	mux.HandleFunc("GET /stream", stream)
	srv := &http.Server{
		Handler: quithttp.Track(q, mux), // counted, so that the drain waits for them
		// Requests are not cut off by the stop but when their time has run out.
		BaseContext: func(net.Listener) context.Context { return q.WorkContext() },
		ReadTimeout: 10 * time.Second, // a client that is slow to send must not hold up the stop
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	}

	// Either hook would do. The server's is called as soon as the server shuts
	// down, the framework's once that is over. Who comes first starts the stop,
	// and the others wait for it: everything is closed once.
	srv.RegisterOnShutdown(q.GracefulStop)
	f := &framework{Addr: *addr, Server: srv, Grace: q.Timeout}
	f.OnStop(q.GracefulStop)

	err := f.Run()
	// Run waits for neither hook, and calls none where it could not start.
	err = errors.Join(err, q.Shutdown(context.Background()))
	if err != nil {
		exit(1, err)
	}
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "hook:", err)
	os.Exit(status)
}

// work takes its time and uses the store then.
func work(w http.ResponseWriter, r *http.Request, s *store) {
	d, err := time.ParseDuration(r.URL.Query().Get("d"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Println("working for", d)
	select {
	case <-time.After(d):
		err = s.add()
	case <-r.Context().Done(): // the client has gone, or there is no time left
		err = context.Cause(r.Context())
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "worked for", d)
}

// stream ends when its client goes, or its time has run out.
func stream(w http.ResponseWriter, r *http.Request) {
	fmt.Println("streaming to", r.RemoteAddr)
	ctx := r.Context()
	// A client that never reads blocks the write, which knows nothing of ctx.
	stop := context.AfterFunc(ctx, func() { http.NewResponseController(w).SetWriteDeadline(time.Now()) })
	defer stop()
	for ctx.Err() == nil {
		io.WriteString(w, strings.Repeat("more and more\n", 4096)) // an error ends ctx too
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// store counts what was done, and saves that when it is closed.
type store struct {
	saving time.Duration

	mu     sync.Mutex // guards the fields below
	closed bool
	count  int
}

func (s *store) add() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("store: closed")
	}
	s.count++
	return nil
}

func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	time.Sleep(s.saving) // stands for what takes its time
	fmt.Println("store saved, count:", s.count)
	return nil
}
