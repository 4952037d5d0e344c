// Command hook shows quit beside another framework, which serves, takes the
// signals and has hooks. Package quit takes the signals too. Each tells the
// other to stop: the framework with its hooks, the event with the framework's
// Stop.
//
//	go run ./examples/hook
//	curl 'localhost:8080/work?d=5s'    # press Ctrl-C: this is still answered
//	curl -s localhost:8080/stream | wc # press Ctrl-C: cut off after 19 s
//
// Press Ctrl-C again in those 19 seconds: the process ends at once with status
// 130, and reports the goroutines that still run. A second SIGTERM changes
// nothing. With the framework alone, either signal would kill the process in
// the middle, without a message, since it stops taking signals after the first
// one. (If a framework calls signal.Reset, package quit gets no signals
// either.)
//
// The same happens without a signal: with -stop-after the framework stops by
// itself, and with -fail-after a goroutine of the program fails.
//
// The hooks only fire the event. A framework may wait for its hooks, and here
// the drain waits for the framework. The Run of some frameworks never returns,
// because it ends the process after the hooks. Then use
// [quit.QuitEvent.GracefulStop] as the hook, which returns when everything is
// closed. Call Run in main, not in Go.
//
// The framework stops its server with [http.Server.Shutdown]. That answers the
// requests in flight, but breaks a connection on which a request is just
// arriving. If the framework lets the program serve, use [quithttp.Serve],
// which does not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
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
	stopAfter := flag.Duration("stop-after", 0,
		"the framework stops by itself after that; 0: never")
	failAfter := flag.Duration("fail-after", 0, "a goroutine fails after that time; 0: never")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	parseFlags("hook")
	if q.Timeout <= 0 { // the framework would treat it as no time at all
		exit(2, fmt.Errorf("-timeout must be more than 0, not %v", q.Timeout))
	}

	// Beside the framework: os/signal delivers each signal to both.
	q.NotifySignal()

	// AfterDrain: requests in flight use it.
	s := &store{saving: *saving}
	q.RegisterCloser(s, quit.AfterDrain())
	q.RegisterStopFunc(func() { fmt.Println("left the cluster") }, quit.Name("cluster"))
	q.Go(func(ctx context.Context) error { return stay(ctx, *failAfter) }, quit.Name("member"))

	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", func(w http.ResponseWriter, r *http.Request) { work(w, r, s) })
	mux.HandleFunc("GET /stream", stream)
	srv := &http.Server{
		Handler: quithttp.Track(q, mux), // counted, so a request that hangs is named
		// Requests in flight outlive the fire; they are cancelled when their
		// time runs out.
		BaseContext: func(net.Listener) context.Context { return q.WorkContext() },
		ReadTimeout: 10 * time.Second, // a slow client must not delay the shutdown
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	}
	f := newFramework(*addr, srv, q.Timeout)
	if *stopAfter > 0 {
		time.AfterFunc(*stopAfter, f.Stop)
	}

	// The framework tells the event. The server calls its hook at the beginning
	// of its shutdown, so requests learn soon enough that no time is left. The
	// framework calls its hook at the end.
	srv.RegisterOnShutdown(func() { q.Fire() })
	f.OnStop(func() { q.Fire() })
	// The event tells the framework: a goroutine may have failed, or a signal
	// may have come before Run could take it.
	context.AfterFunc(q.Context(), f.Stop)

	// In Go, so that the drain waits until the framework's server has stopped:
	// no request finds the store closed.
	q.Go(func(context.Context) error {
		q.Fail(f.Run()) // its error is in the result; Fail(nil) is like Fire
		return nil
	}, quit.Name("framework"))

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

// stay stands for a goroutine of the program that the framework does not know.
func stay(ctx context.Context, failAfter time.Duration) error {
	var fails <-chan time.Time // nil: never
	if failAfter > 0 {
		fails = time.After(failAfter)
	}
	select {
	case <-fails:
		return errors.New("the cluster has gone")
	case <-ctx.Done():
		return nil
	}
}

// work takes some time, and then uses the store.
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
	case <-r.Context().Done(): // the client is gone, or time has run out
		err = context.Cause(r.Context())
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "worked for", d)
}

// stream ends when its client goes away or its time runs out.
func stream(w http.ResponseWriter, r *http.Request) {
	fmt.Println("streaming to", r.RemoteAddr)
	ctx := r.Context()
	// A client that never reads blocks the write, which ignores ctx.
	rc := http.NewResponseController(w)
	stop := context.AfterFunc(ctx, func() { rc.SetWriteDeadline(time.Now()) })
	defer stop()
	for ctx.Err() == nil {
		io.WriteString(w, strings.Repeat("more and more\n", 4096)) // an error ends ctx too
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// store counts the requests worked on, and saves the count when it is closed.
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
	time.Sleep(s.saving) // stands for the writing
	fmt.Println("store saved, count:", s.count)
	return nil
}
