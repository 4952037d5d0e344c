package quit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// Stand-ins for the types and variables that the recipes of the README use.
var (
	mux *http.ServeMux
	q   = quit.NewQuitEvent()
)

type job string

type grpcServer struct{}

func (*grpcServer) Serve(net.Listener) error { return nil }
func (*grpcServer) GracefulStop()            {}
func (*grpcServer) Stop()                    {}

var grpc = struct{ ErrServerStopped error }{errors.New("grpc: the server has been stopped")}

type otherFramework struct{}

func (otherFramework) OnStop(func()) {}
func (otherFramework) Stop()         {}
func (otherFramework) Run() error    { return nil }

type sqlDB struct{}

func (*sqlDB) Close() error                        { return nil }
func (*sqlDB) save(context.Context, job) error     { return nil }
func openDB() (*sqlDB, error)                      { return nil, nil }
func convert(ctx context.Context, to string) error { return nil }

var jobs chan job

func Example_httpServer() {
	srv := &http.Server{
		Addr:        ":8080",
		Handler:     mux,
		ReadTimeout: 10 * time.Second,
		IdleTimeout: 2 * time.Minute, // longer than a load balancer's
		// Requests in flight are cancelled when their time is over.
		BaseContext: func(net.Listener) context.Context { return q.WorkContext() },
	}
	// Calls srv.Shutdown, and then srv.Close if the time runs out.
	q.RegisterQuitCloser(srv)
	// An error, such as a taken port, shuts the program down.
	q.Go(func(context.Context) error { return srv.ListenAndServe() },
		quit.Name("http"), quit.Ignore(http.ErrServerClosed))
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if q.HasFired() { // the load balancer has q.Delay to notice
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
}

func Example_quithttp() {
	srv := &http.Server{
		Addr:        ":8080",
		Handler:     mux,
		ReadTimeout: 10 * time.Second,
		IdleTimeout: 2 * time.Minute,
	}
	addr, err := quithttp.ListenAndServe(q, srv)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening on ", addr)
	admin := http.NewServeMux()
	admin.Handle("/readyz", quithttp.Ready(q))
	admin.Handle("/debug/quit", quithttp.Status(q))
	adminServer := &http.Server{
		Addr:        "localhost:6060",
		Handler:     admin,
		ReadTimeout: 10 * time.Second,
	}
	_, err = quithttp.ListenAndServe(q, adminServer, quit.AfterDrain(), quit.Name("admin"))
	if err != nil {
		log.Fatal(err)
	}
}

// poller works as long as there is no reason to end.
type poller struct{}

func (p *poller) step() {}

func (p *poller) run() {
	defer q.DoneGoroutine()
	for !q.HasFired() {
		p.step()
	}
}

// consumer takes jobs off a source.
type consumer struct {
	db     *sqlDB
	source chan job
}

func (c *consumer) run() {
	defer q.DoneGoroutine()
	for {
		select {
		case <-q.Done():
			return
		case j := <-c.source: // a broker keeps the rest
			c.db.save(q.WorkContext(), j) // the fire does not cancel it
		}
	}
}

func Example_worker() {
	q.AddGoroutine() // before the go statement, not in the goroutine
	go new(poller).run()

	q.AddGoroutine()
	go new(consumer).run()
}

func Example_grpcServer() {
	var s *grpcServer
	ln, err := net.Listen("tcp", ":9090")
	if err != nil {
		log.Fatal(err)
	}
	// Stop is called if a stream does not end in time.
	q.RegisterQuitCloser(quit.Graceful(s.GracefulStop, s.Stop))
	q.Go(func(context.Context) error { return s.Serve(ln) }, quit.Name("grpc"),
		quit.Ignore(grpc.ErrServerStopped)) // if it was stopped before it served
}

// mailer is a service with a goroutine of its own.
type mailer struct {
	letters chan string
	sent    chan struct{}
}

func newMailer() *mailer {
	m := &mailer{letters: make(chan string), sent: make(chan struct{})}
	go m.run()
	return m
}

func (m *mailer) run() {
	defer close(m.sent)
	for range m.letters {
		// send it
	}
}

// Close waits until all letters are sent.
func (m *mailer) Close() error {
	close(m.letters)
	<-m.sent
	return nil
}

func Example_ioCloser() {
	m := newMailer()
	// AfterDrain, since goroutines send it letters. Close has 5 s.
	q.RegisterCloser(m, quit.AfterDrain(), quit.Timeout(5*time.Second))
}

func Example_framework() {
	var framework otherFramework
	q.NotifySignal()                                             // the framework gets them too
	framework.OnStop(func() { q.Fire() })                        // its stop fires q
	context.AfterFunc(q.Context(), framework.Stop)               // the fire of q stops it
	q.Go(func(context.Context) error { return framework.Run() }) // the drain waits for it
	err := quit.WaitSignal()
	if err != nil {
		log.Fatal(err)
	}
}

type queue struct{ c chan job }

func newQueue(size int) *queue { return &queue{make(chan job, size)} }
func (j *queue) close()        {}

func Example_queue() {
	db, err := openDB()
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Addr: ":8080", Handler: mux}
	serve := func() error {
		jobs := newQueue(100)
		for range 4 {
			q.Go(func(context.Context) error {
				for j := range jobs.c { // ends when the queue is closed and empty
					if err := db.save(q.WorkContext(), j); err != nil {
						// The error is reported, and the others are done.
						q.Fail(fmt.Errorf("job %v: %w", j, err))
					}
				}
				return nil
			}, quit.Name("worker"))
		}
		// Registered before the server, so called after it.
		q.RegisterStopFunc(jobs.close, quit.Name("queue"))
		// The handlers call jobs.add, and answer 503 if it reports false.
		_, err := quithttp.ListenAndServe(q, srv)
		return err
	}
	if err := serve(); err != nil {
		log.Fatal(err)
	}
}

func Example_start() {
	start := func(context.Context) error { return nil }
	q.NotifySignal()
	// After a signal, start fails because its context is cancelled.
	if err := start(q.Context()); err != nil && !q.HasFired() {
		q.Fail(err)
	}
	err := quit.WaitSignal()
	if err != nil {
		log.Fatal(err)
	}
}

func Example_database() {
	db, err := openDB()
	if err != nil {
		log.Fatal(err)
	}
	q.RegisterCloser(db, quit.AfterDrain()) // called after the drain
	q.Go(func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case j := <-jobs:
				db.save(q.WorkContext(), j)
			}
		}
	}, quit.Name("worker"))
}

func Example_childEvent() {
	db, err := openDB()
	if err != nil {
		log.Fatal(err)
	}
	q.RegisterCloser(db) // called last

	workers := quit.NewQuitEvent() // with its own contexts, counter and closers
	q.RegisterQuitCloser(workers, quit.Name("workers"))
	workers.Go(func(ctx context.Context) error { return consume(ctx, db) })

	q.RegisterQuitCloser(&http.Server{}) // called first: it takes in the workers' jobs
}

func consume(ctx context.Context, db io.Closer) error { <-ctx.Done(); return nil }

func Example_commandLine() {
	q := quit.GetQuitEvent()
	dir, err := os.MkdirTemp("", "convert")
	if err != nil {
		log.Fatal(err)
	}
	q.NotifySignal() // before the work begins
	q.RegisterStopFunc(func() { os.RemoveAll(dir) }, quit.AfterDrain())
	q.Go(func(ctx context.Context) error {
		if err := convert(ctx, dir); err != nil {
			return err // fires q, with err as the cause
		}
		q.Fire() // the work is done
		return nil
	})

	err = quit.WaitSignal()
	var sig *quit.SignalError
	switch {
	case err != nil:
		log.Fatal(err)
	case errors.As(q.Cause(), &sig):
		os.Exit(sig.ExitCode()) // 130 after Ctrl-C
	}
}
