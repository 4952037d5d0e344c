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

// This file has the recipes of the README, which TestReadmeSnippets compares.
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

	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}

// A server of package quithttp, and an admin server that is stopped last.
func Example_quithttp() {
	mux := http.NewServeMux()
	srv := &http.Server{Addr: ":8080", Handler: mux,
		ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	addr, err := quithttp.ListenAndServe(q, srv)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening on ", addr)

	admin := http.NewServeMux()
	admin.Handle("/readyz", quithttp.Ready(q))
	admin.Handle("/debug/quit", quithttp.Status(q))
	adminServer := &http.Server{Addr: "localhost:6060", Handler: admin,
		ReadTimeout: 10 * time.Second}
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
		case j := <-c.source: // which keeps what is not taken, as a broker or a ticker does
			c.db.save(q.WorkContext(), j) // not cut off by the fire
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
	// AfterDrain, since goroutines send it letters; abandoned if that takes much longer than 5 s.
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

// A program that takes its time to start. A signal ends the start, too.
func Example_start() {
	q.NotifySignal()
	if err := start(q.Context()); err != nil && !q.HasFired() { // after a signal, its error is only the answer to that
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
	q.RegisterCloser(db, quit.AfterDrain()) // once no counted goroutine is left
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
	q.RegisterCloser(db) // last

	workers := quit.NewQuitEvent() // has its own Context, WorkContext, counter and closers
	q.RegisterQuitCloser(workers, quit.Name("workers"))
	workers.Go(func(ctx context.Context) error { return consume(ctx, db) })

	q.RegisterQuitCloser(&http.Server{}) // first: it lets in what the workers work on

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

// The recipes below need other modules or larger programs. They are compiled
// with stand-ins, and are no examples in the documentation.
var _ = []any{grpcRecipe, frameworkRecipe, queueRecipe}

type grpcServer struct{}

func (*grpcServer) Serve(net.Listener) error { return nil }
func (*grpcServer) GracefulStop()            {}
func (*grpcServer) Stop()                    {}

var grpc = struct{ ErrServerStopped error }{errors.New("grpc: the server has been stopped")}

func grpcRecipe(s *grpcServer, ln net.Listener) {
	q.RegisterQuitCloser(quit.Graceful(s.GracefulStop, s.Stop)) // Stop, if a stream does not end in time
	q.Go(func(context.Context) error { return s.Serve(ln) }, quit.Name("grpc"),
		quit.Ignore(grpc.ErrServerStopped)) // it was stopped before it served
}

type otherFramework struct{}

func (otherFramework) OnStop(func()) {}
func (otherFramework) Stop()         {}
func (otherFramework) Run() error    { return nil }

func frameworkRecipe(framework otherFramework) error {
	q.NotifySignal()                                             // beside the framework: os/signal delivers to both
	framework.OnStop(func() { q.Fire() })                        // if it stops by itself, we stop too
	context.AfterFunc(q.Context(), framework.Stop)               // if we stop, so does it
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
