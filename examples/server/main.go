// Command server is a job service that keeps its promises when SIGTERM or
// Ctrl-C stops it, with or without -delay. It breaks no connection: it answers
// the request that a client has sent, and then tells the client to leave. New
// connections are refused. Every accepted job is in the journal. If time or
// disk space runs out, the server says so, and its exit status is 1.
//
//	go run ./examples/server
//	curl -d 'a job' localhost:8080/jobs
//	curl 'localhost:8080/work?d=15s'    # press Ctrl-C there: still answered
//
// It serves:
//
//	POST /jobs         takes the line of text in the body as a job: 202
//	GET /work?d=700ms  works for that long: 200
//	GET /readyz        200, and 503 once the server is quitting
//
// The admin server, on the address given by -admin, has /readyz too. It also
// has /debug/quit, a page that shows the plan, the progress and the result of
// the shutdown.
//
// The program is meant to be copied. Everything about the shutdown is in main.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	admin := flag.String("admin", "127.0.0.1:6060",
		"serve /readyz and /debug/quit on `address`; empty for none")
	path := flag.String("journal", "",
		"append the jobs to `file` (default a new one in the temporary directory)")
	linger := flag.Duration("linger", 250*time.Millisecond,
		"time for a client to use its idle connection once more when the port is closed")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout,
		"time for the whole stop; negative means no limit")
	flag.DurationVar(&q.Delay, "delay", 0,
		"time between the signal and the closing of the port, for load balancers to notice")
	parseFlags("server")

	// Called first, so that no signal kills the process. A signal that arrives
	// during startup lets it complete, and then stops the program at once.
	q.NotifySignal()

	// Each part is registered after the parts that it needs, and so is stopped
	// before them.

	// Stopped last: the admin server, so that it can show how the other parts
	// stop.
	var adminAddr net.Addr
	if *admin != "" {
		mux := http.NewServeMux()
		mux.Handle("/readyz", quithttp.Ready(q))
		mux.Handle("/debug/quit", quithttp.Status(q))
		var err error
		adminAddr, err = quithttp.ListenAndServe(q, newServer(*admin, mux),
			quit.AfterDrain(), quit.Name("admin"))
		if err != nil {
			exit(1, fmt.Errorf("admin: %w", err))
		}
	}

	// Stopped third: the journal. It is closed after the drain, when the worker
	// that writes to it has ended.
	journal, err := openJournal(*path)
	if err != nil {
		exit(1, err)
	}
	q.RegisterCloser(journal, quit.AfterDrain(), quit.Name("journal"))

	// Stopped second: the worker. It ends when the queue is closed and empty,
	// not at the signal, and the drain waits for that.
	jobs := &queue{c: make(chan string, maxQueue)}
	q.Go(func(context.Context) error { return jobs.writeTo(journal) }, quit.Name("worker"))
	q.RegisterStopFunc(jobs.close, quit.Name("queue"))

	// Stopped first: the server. It is started last, since it serves at once.
	// It opens the port itself, so the system refuses new connections as soon
	// as the server is stopped. The shutdown waits for the requests in flight,
	// so after it no handler is left to add a job. Their context is cancelled
	// when their time has run out, and not by the signal.
	srv := newServer(*addr, newHandler(q, jobs))
	bound, err := quithttp.ListenAndServe(q, srv, quithttp.Linger(*linger))
	if err != nil {
		journal.discard() // a start that fails leaves no file behind
		exit(1, err)
	}

	fmt.Printf("listening on http://%v\njournal: %v\n", bound, journal.file.Name())
	if adminAddr != nil {
		fmt.Printf("admin: http://%v/debug/quit\n", adminAddr)
	}

	// WaitSignal returns when all of the above has been stopped. main must not
	// return before that.
	err = q.WaitSignal()

	fmt.Print(q.Report())
	journalled := journal.jobs.Load()
	fmt.Printf("journalled %d jobs\n", journalled)
	if lost := jobs.accepted - journalled; lost > 0 {
		err = errors.Join(err,
			fmt.Errorf("%d jobs were accepted and could not be journalled", lost))
	}
	if err != nil {
		exit(1, err)
	}
}

func newServer(addr string, h http.Handler) *http.Server {
	return &http.Server{
		Addr:    addr,
		Handler: h,
		// A slow client must not delay the shutdown.
		ReadTimeout: 10 * time.Second,
		// Longer than most load balancers keep an idle connection: if the
		// server closes it first, a request on its way is lost.
		IdleTimeout: 2 * time.Minute,
	}
}
