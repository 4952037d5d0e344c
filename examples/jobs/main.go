// Command jobs is a typical service: an HTTP API that accepts jobs, a Postgres
// that stores them, workers that do them, and traces and metrics. Each job
// answered with 202 is done once, regardless of how often the service is
// stopped and started again. Each span of an answered request reaches the
// collector.
//
//	pg_virtualenv -t go -C examples/jobs run .  # with a temporary Postgres
//	curl -i -d 15s localhost:8080/jobs          # a job: to work for 15 s
//	curl localhost:8080/jobs/1                  # has it been done?
//	curl localhost:6060/metrics
//
// (pg_virtualenv is in Debian's postgresql-common. With a Postgres of your own,
// set DATABASE_URL, or PGHOST and the like.) Press Ctrl-C while a worker does
// the job: the job is finished, and then the connections are closed. Jobs that
// no worker has taken stay in the table for the next start.
//
// The other files are jobs.go, with the table and its users, and telemetry.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	o := parseFlags(q)

	// From now on no signal kills the process. A signal that arrives during
	// startup ends the startup.
	q.NotifySignal()

	if _, err := start(q, o); err != nil && !q.HasFired() {
		exit(1, err)
	}

	// WaitSignal returns when everything that was started has been stopped.
	err := q.WaitSignal()

	fmt.Print(q.Report())
	if err != nil {
		exit(1, err)
	}
}

// start starts all parts of the service. Each is registered after the parts
// that it needs, and so is stopped before them.
func start(q *quit.QuitEvent, o options) (*service, error) {
	s := new(service)
	var err error
	if s.db, err = openDatabase(q.Context(), o); err != nil {
		return nil, err
	}

	// Stopped last: the telemetry, so that it covers all the other parts.
	// Without a limit, a collector that is down would use up most of the time.
	t, err := startTelemetry(q.Context())
	if err != nil {
		return nil, err
	}
	q.RegisterQuitCloser(t, quit.AfterDrain(), quit.Name("telemetry"), quit.Timeout(o.limit))
	if err := s.instrument(); err != nil {
		return nil, err
	}

	// Stopped fourth: the admin server, so that it can show how the other parts
	// stop.
	admin := http.NewServeMux()
	admin.Handle("/metrics", promhttp.Handler())
	admin.Handle("/readyz", quithttp.Ready(q))
	admin.Handle("/debug/quit", quithttp.Status(q))
	adminAddr, err := quithttp.ListenAndServe(q, newServer(o.admin, admin),
		quit.AfterDrain(), quit.Name("admin"))
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}

	// Stopped third: the connections to the database, once no handler and no
	// worker uses them. Close waits until each has been given back. The limit
	// is for a connection that never is.
	q.RegisterQuitCloser(quit.ShutdownFunc(s.closeDatabase),
		quit.AfterDrain(), quit.Name("database"), quit.Timeout(o.limit))

	// Stopped first: the server. Every request that has arrived is answered.
	addr, err := quithttp.ListenAndServe(q, newServer(o.addr, s.handler(q)), quit.Name("http"))
	if err != nil {
		return nil, err
	}

	// Stopped second: the workers. The drain waits until each has finished the
	// job in hand.
	for n := range o.workers {
		q.Go(func(context.Context) error { return s.work(q) },
			quit.Name(fmt.Sprint("worker ", n+1)))
	}

	fmt.Printf("listening on http://%v\nadmin: http://%v/debug/quit\n", addr, adminAddr)
	return s, nil
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

type options struct {
	addr, admin    string
	database       string
	workers        int
	connect, limit time.Duration
}

// parseFlags sets the fields of q and returns the other options. It ends the
// program if there is nothing to start.
func parseFlags(q *quit.QuitEvent) options {
	// An environment variable and not a flag: it holds a password, and ps shows
	// flags.
	o := options{database: os.Getenv("DATABASE_URL")}
	flags := flag.NewFlagSet("jobs", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, without the usage
	flags.StringVar(&o.addr, "addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	flags.StringVar(&o.admin, "admin", "127.0.0.1:6060", "serve metrics and the stop on `address`")
	flags.IntVar(&o.workers, "workers", 4, "`number` of jobs that are worked on at a time")
	flags.DurationVar(&o.connect, "connect-timeout", 5*time.Second,
		"time for the start to wait for the database")
	flags.DurationVar(&o.limit, "limit", 5*time.Second,
		"time for the stop to wait for the database, and for the collector")
	flags.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout,
		"time for the whole stop; negative means no limit")
	flags.DurationVar(&q.Delay, "delay", 0,
		"time between the signal and the closing of the port")

	err := flags.Parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("usage: DATABASE_URL=postgres://… jobs [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	case err != nil:
		exit(2, err)
	case flags.NArg() > 0:
		exit(2, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case o.workers < 1 || o.connect <= 0 || o.limit <= 0:
		exit(2, errors.New("-workers, -connect-timeout and -limit are more than 0"))
	}
	return o
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "jobs:", err)
	os.Exit(status)
}
