package quit_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// This file has the recipes of the README. TestReadmeSnippets compares them.
// The examples have no output, so they are compiled and do not run. Each is
// shown as a whole program, with the declarations in this file that it uses.

// q is the event of the process.
var q = quit.GetQuitEvent()

// A job is a unit of work.
type job string

// jobs is filled by a broker.
var jobs = make(chan job)

// sqlDB is a database of jobs.
type sqlDB struct{ *sql.DB }

func openDB() (*sqlDB, error) {
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL")) // with its driver imported
	return &sqlDB{db}, err
}

func (db *sqlDB) save(ctx context.Context, j job) error {
	_, err := db.ExecContext(ctx, "INSERT INTO jobs VALUES ($1)", string(j))
	return err
}

// A server of net/http alone. Package quithttp serves one in a single call.
func Example_httpServer() {
	mux := http.NewServeMux()
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

	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}

// A server of package quithttp, and an admin server that is stopped last.
func Example_quithttp() {
	mux := http.NewServeMux()
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
		q.Fail(err)
	}

	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}

// poller polls until the event fires.
type poller struct{}

func (p *poller) step() { time.Sleep(time.Second) }

func (p *poller) run() {
	defer q.DoneGoroutine()
	for !q.HasFired() {
		p.step()
	}
}

// consumer saves the jobs of a source.
type consumer struct {
	db     *sqlDB
	source <-chan job
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

// Two workers, one that polls and one that receives.
func Example_worker() {
	db, err := openDB()
	if err != nil {
		log.Fatal(err)
	}
	q.RegisterCloser(db, quit.AfterDrain())

	q.AddGoroutine() // before the go statement, not in the goroutine
	go new(poller).run()

	q.AddGoroutine()
	go (&consumer{db: db, source: jobs}).run()

	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}

// mailer sends letters in a goroutine of its own.
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
	for letter := range m.letters {
		log.Print("sending ", letter)
	}
}

// Close waits until all letters are sent.
func (m *mailer) Close() error {
	close(m.letters)
	<-m.sent
	return nil
}

// An io.Closer with a goroutine of its own.
func Example_ioCloser() {
	m := newMailer()
	// AfterDrain, since goroutines send it letters. Close has 5 s.
	q.RegisterCloser(m, quit.AfterDrain(), quit.Timeout(5*time.Second))

	q.Go(func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Minute):
				m.letters <- "still alive"
			}
		}
	})

	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}

// start stands for the slow start of a program.
func start(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(10 * time.Second):
		return nil
	}
}

// A program that takes long to start. A signal ends the startup too.
func Example_start() {
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

// A worker whose database is closed after the worker has ended.
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
				if err := db.save(q.WorkContext(), j); err != nil {
					return err
				}
			}
		}
	}, quit.Name("worker"))

	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}

// consume saves jobs until ctx is done. It finishes the job at hand.
func consume(ctx context.Context, db *sqlDB) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-jobs:
			if err := db.save(context.WithoutCancel(ctx), j); err != nil {
				return err
			}
		}
	}
}

// Workers that are an event of their own, which is drained when its turn comes.
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

	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}

// convert writes its files to the directory to.
func convert(ctx context.Context, to string) error {
	for i := range 100 {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := fmt.Sprintf("%s/%02d.txt", to, i)
		if err := os.WriteFile(name, []byte("converted\n"), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// A command-line tool that removes its temporary files and exits with status
// 130 after Ctrl-C.
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
	case errors.As(q.Cause(), &sig): // first: interrupted work may return an error
		os.Exit(sig.ExitCode()) // 130 after Ctrl-C
	case err != nil:
		log.Fatal(err)
	}
}

// The recipes below need other modules or larger programs. They are compiled
// with stand-ins, and are not examples in the documentation.
var _ = []any{grpcRecipe, frameworkRecipe, queueRecipe}

type grpcServer struct{}

func (*grpcServer) Serve(net.Listener) error { return nil }
func (*grpcServer) GracefulStop()            {}
func (*grpcServer) Stop()                    {}

var grpc = struct{ ErrServerStopped error }{errors.New("grpc: the server has been stopped")}

func grpcRecipe(s *grpcServer, ln net.Listener) {
	// Stop is called if a stream does not end in time.
	q.RegisterQuitCloser(quit.Graceful(s.GracefulStop, s.Stop))
	q.Go(func(context.Context) error { return s.Serve(ln) }, quit.Name("grpc"),
		quit.Ignore(grpc.ErrServerStopped)) // if it was stopped before it served
}

type otherFramework struct{}

func (otherFramework) OnStop(func()) {}
func (otherFramework) Stop()         {}
func (otherFramework) Run() error    { return nil }

func frameworkRecipe(framework otherFramework) error {
	q.NotifySignal()                                             // the framework gets them too
	framework.OnStop(func() { q.Fire() })                        // its stop fires q
	context.AfterFunc(q.Context(), framework.Stop)               // the fire of q stops it
	q.Go(func(context.Context) error { return framework.Run() }) // the drain waits for it
	err := quit.WaitSignal()
	return err
}

type queue struct{ c chan job }

func newQueue(size int) *queue { return &queue{make(chan job, size)} }
func (*queue) close()          {}

func queueRecipe(db *sqlDB, srv *http.Server) error {
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
