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

// What the recipes of the README speak of, without what would need other modules.
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
		// Requests in flight live on after the fire, until their time has run out.
		BaseContext: func(net.Listener) context.Context { return q.WorkContext() },
	}
	q.RegisterQuitCloser(srv)                                         // Shutdown; and Close, if the time for that runs out
	q.Go(func(context.Context) error { return srv.ListenAndServe() }, // a taken port ends the program
		quit.Name("http"), quit.Ignore(http.ErrServerClosed))
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if q.HasFired() { // the load balancer has q.Delay to notice
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
}

func Example_quithttp() {
	srv := &http.Server{Addr: ":8080", Handler: mux, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	addr, err := quithttp.ListenAndServe(q, srv)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening on ", addr)
	admin := http.NewServeMux()
	admin.Handle("/readyz", quithttp.Ready(q))
	admin.Handle("/debug/quit", quithttp.Status(q))
	adminServer := &http.Server{Addr: "localhost:6060", Handler: admin, ReadTimeout: 10 * time.Second}
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
		case j := <-c.source: // which keeps what is not taken, as a broker or a ticker does
			c.db.save(q.WorkContext(), j) // not cut off by the fire
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
	q.RegisterQuitCloser(quit.Graceful(s.GracefulStop, s.Stop)) // Stop, if a stream does not end in time
	q.Go(func(context.Context) error { return s.Serve(ln) }, quit.Name("grpc"),
		quit.Ignore(grpc.ErrServerStopped)) // it was stopped before it served
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
	// AfterDrain, since goroutines send it letters; abandoned if that takes much longer than 5 s.
	q.RegisterCloser(m, quit.AfterDrain(), quit.Timeout(5*time.Second))
}

func Example_framework() {
	var framework otherFramework
	q.NotifySignal()                                             // beside the framework: os/signal delivers to both
	framework.OnStop(func() { q.Fire() })                        // if it stops by itself, we stop too
	context.AfterFunc(q.Context(), framework.Stop)               // if we stop, so does it
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
						q.Fail(fmt.Errorf("job %v: %w", j, err)) // and go on: the others are still done
					}
				}
				return nil
			}, quit.Name("worker"))
		}
		q.RegisterStopFunc(jobs.close, quit.Name("queue")) // registered before the server: called after it
		_, err := quithttp.ListenAndServe(q, srv)          // its handlers call jobs.add, and answer 503 if that reports false
		return err
	}
	if err := serve(); err != nil {
		log.Fatal(err)
	}
}

func Example_start() {
	start := func(context.Context) error { return nil }
	q.NotifySignal()
	if err := start(q.Context()); err != nil && !q.HasFired() { // after a signal, its error is only the answer to that
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
	q.RegisterCloser(db, quit.AfterDrain()) // once no counted goroutine is left
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
	q.RegisterCloser(db) // last

	workers := quit.NewQuitEvent() // has its own Context, WorkContext, counter and closers
	q.RegisterQuitCloser(workers, quit.Name("workers"))
	workers.Go(func(ctx context.Context) error { return consume(ctx, db) })

	q.RegisterQuitCloser(&http.Server{}) // first: it lets in what the workers work on
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
			return err // fires too, with err as the cause
		}
		q.Fire() // done: there is nothing to wait for
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
