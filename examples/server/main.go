// Command server is a job service that keeps its word when SIGTERM or Ctrl-C
// stops it, with or without -delay. It breaks no connection: what a client has
// sent is answered, and then the client is told to leave. A client that
// connects later is refused. Every job that was accepted is in the journal.
// Where the time or the disk does not suffice for that, the server says so, and
// its exit status is 1.
//
//	go run ./examples/server
//	curl -d 'a job' localhost:8080/jobs
//	curl 'localhost:8080/work?d=15s'    # press Ctrl-C in the first terminal now: this is still answered
//
// It serves:
//
//	POST /jobs         takes the line of text in the body as a job: 202
//	GET /work?d=700ms  works for that long: 200
//	GET /readyz        200, and 503 once the server is quitting
//
// Another port, of -admin, has /readyz too, and /debug/quit, a page that shows
// what would be stopped, or is being stopped, or was.
//
// It is there to be copied. All that is about stopping is in main.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

const (
	maxQueue = 1024        // accepted jobs that wait for the worker
	maxJob   = 64 << 10    // bytes
	maxWork  = time.Minute // of one request
)

func main() {
	q := quit.GetQuitEvent()
	addr, admin, path, linger := parseFlags(q)

	// As early as this, so that no signal ends the program halfway: one that
	// comes while it starts lets it start, and then stops it at once.
	q.NotifySignal()

	// What can fail comes before what needs undoing. The servers can fail too,
	// and serve at once. So they come when all that they need is there, and
	// what is undone is the journal: a start that fails leaves no file behind.
	journal, err := openJournal(path)
	if err != nil {
		exit(1, err)
	}

	// Each part is registered after what it needs, and so is stopped before it.

	// Stopped last: the admin server, which so can show how all others stop.
	var adminAddr net.Addr
	if admin != "" {
		mux := http.NewServeMux()
		mux.Handle("/readyz", quithttp.Ready(q))
		mux.Handle("/debug/quit", quithttp.Status(q))
		adminAddr, err = quithttp.ListenAndServe(q, &http.Server{Addr: admin, Handler: mux}, quit.AfterDrain(), quit.Name("admin"))
		if err != nil {
			journal.discard()
			exit(1, fmt.Errorf("admin: %w", err))
		}
	}

	// Stopped third: the journal. It is closed after the drain, when the worker
	// that writes to it has ended.
	q.RegisterCloser(journal, quit.AfterDrain(), quit.Name("journal"))

	// Stopped second: the worker. It ends neither at the signal nor by its
	// context but when the queue is closed and empty, and the drain waits for
	// that.
	jobs := &queue{c: make(chan string, maxQueue)}
	q.Go(func(context.Context) error { return jobs.writeTo(journal) }, quit.Name("worker"))
	q.RegisterStopFunc(jobs.close, quit.Name("queue"))

	// Stopped first: the server. It opens the port itself, so from the stop on
	// the system refuses new connections. The stop waits for the requests in
	// flight, so then nobody is left who could add a job. Their context is
	// cancelled when their time has run out, and not by the signal.
	bound, err := quithttp.ListenAndServe(q, &http.Server{
		Addr:    addr,
		Handler: newHandler(q, jobs),
		// A client that is slow to send must not hold up the stop.
		ReadTimeout: 10 * time.Second,
		// Longer than most load balancers keep an idle connection: if the
		// server closes it first, a request that is on its way is lost.
		IdleTimeout: 2 * time.Minute,
	}, quithttp.Linger(linger))
	if err != nil {
		journal.discard()
		exit(1, err)
	}

	fmt.Printf("listening on http://%v\njournal: %v\n", bound, journal.file.Name())
	if adminAddr != nil {
		fmt.Printf("admin: http://%v/debug/quit\n", adminAddr)
	}

	// It returns when all of the above has been stopped: main must not end
	// before.
	err = q.WaitSignal()

	fmt.Print(q.Report())
	journalled := journal.jobs.Load()
	fmt.Printf("journalled %d jobs\n", journalled)
	if lost := jobs.accepted - journalled; lost > 0 {
		err = errors.Join(err, fmt.Errorf("%d jobs were accepted and could not be journalled", lost))
	}
	if err != nil {
		exit(1, err)
	}
}

// parseFlags sets the fields of q and returns the other flags. It ends the
// program where there is nothing to start.
func parseFlags(q *quit.QuitEvent) (addr, admin, journal string, linger time.Duration) {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, not the whole usage
	flags.StringVar(&addr, "addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	flags.StringVar(&admin, "admin", "127.0.0.1:6060", "serve /readyz and /debug/quit on `address`; empty for none")
	flags.StringVar(&journal, "journal", "", "append the jobs to `file` (default a new one in the temporary directory)")
	flags.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop; negative means no limit")
	flags.DurationVar(&q.Delay, "delay", 0, "time between the signal and the closing of the port, for load balancers to notice")
	flags.DurationVar(&linger, "linger", 250*time.Millisecond, "time for a client to use its idle connection once more when the port is closed")

	err := flags.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println("usage: server [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		exit(2, err)
	}
	return addr, admin, journal, linger
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "server:", err)
	os.Exit(status)
}

func newHandler(q *quit.QuitEvent, jobs *queue) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /jobs", func(w http.ResponseWriter, r *http.Request) { addJob(w, r, jobs) })
	mux.HandleFunc("GET /work", work)
	mux.Handle("GET /readyz", quithttp.Ready(q))
	return mux
}

// addJob promises the job with a 202 only once it is in the queue. After the
// signal it takes jobs like before, for as long as requests come in.
func addJob(w http.ResponseWriter, r *http.Request, jobs *queue) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJob))
	job := strings.TrimSuffix(strings.TrimSuffix(string(body), "\n"), "\r")
	switch tooLong := (*http.MaxBytesError)(nil); {
	case errors.As(err, &tooLong):
		http.Error(w, fmt.Sprintf("a job has at most %d bytes", maxJob), http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	case strings.TrimSpace(job) == "":
		http.Error(w, "a job is a line of text, and the body is empty", http.StatusBadRequest)
	case strings.ContainsAny(job, "\r\n"):
		http.Error(w, "a job is a single line of text", http.StatusBadRequest)
	case !jobs.add(job):
		w.Header().Set("Retry-After", "1")
		http.Error(w, "no room for a job", http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// work stands for all that takes its time.
func work(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.URL.Query().Get("d"))
	if err != nil || d < 0 || d > maxWork {
		http.Error(w, fmt.Sprintf("d must be a duration from 0s to %v", maxWork), http.StatusBadRequest)
		return
	}
	ctx := r.Context()
	select {
	case <-time.After(d):
		fmt.Fprintln(w, "worked for", d)
	case <-ctx.Done(): // the client has gone, or there is no time left
		http.Error(w, context.Cause(ctx).Error(), http.StatusServiceUnavailable)
	}
}

// queue is between the handlers and the worker. It never blocks a handler: when
// the disk is slower than the clients, they are told.
type queue struct {
	c chan string

	mu       sync.Mutex // guards the fields below, and keeps a send away from a closed c
	closed   bool
	accepted int64 // does not change once closed
}

// add reports whether it added the job, which is a promise to journal it. It
// does not if the queue is full, or closed: a handler that the server did not
// wait for any longer can still come here.
func (q *queue) add(job string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	select {
	case q.c <- job:
		q.accepted++
		return true
	default:
		return false
	}
}

// close has writeTo return once it has written all that was added.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.c)
	}
}

// writeTo is the worker. Its error stops the program.
func (q *queue) writeTo(j *journal) error {
	for job := range q.c {
		if err := j.write(job); err != nil {
			q.close() // from now on every promise would be a lie
			return err
		}
	}
	return nil
}

// journal is a file with a line for each job.
type journal struct {
	file  *os.File
	isNew bool         // was not there before
	jobs  atomic.Int64 // atomic since main reads it even if the worker hangs in a write
}

func openJournal(path string) (*journal, error) {
	if path == "" {
		file, err := os.CreateTemp("", "jobs-*.journal")
		if err != nil {
			return nil, err
		}
		return &journal{file: file, isNew: true}, nil
	}
	const flags = os.O_WRONLY | os.O_APPEND | os.O_CREATE
	file, err := os.OpenFile(path, flags|os.O_EXCL, 0o600)
	isNew := err == nil
	if errors.Is(err, fs.ErrExist) {
		file, err = os.OpenFile(path, flags, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return &journal{file: file, isNew: isNew}, nil
}

// discard is for a start that has failed: it leaves no new file behind.
func (j *journal) discard() {
	j.file.Close()
	if j.isNew {
		os.Remove(j.file.Name())
	}
}

// write has no buffer: an error is then that of the job at hand.
func (j *journal) write(job string) error {
	if _, err := j.file.WriteString(job + "\n"); err != nil {
		return err
	}
	j.jobs.Add(1)
	return nil
}

// Close syncs too, since an error of a write may show no earlier than that.
func (j *journal) Close() error {
	err := j.file.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil // a device or a pipe has nothing to sync
	}
	return errors.Join(err, j.file.Close())
}
