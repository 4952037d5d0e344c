package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

const (
	maxQueue = 1024        // accepted jobs that wait for the worker
	maxJob   = 64 << 10    // bytes
	maxWork  = time.Minute // of one request
)

func newHandler(q *quit.QuitEvent, jobs *queue) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /jobs", func(w http.ResponseWriter, r *http.Request) {
		addJob(w, r, jobs)
	})
	mux.HandleFunc("GET /work", work)
	mux.Handle("GET /readyz", quithttp.Ready(q))
	return mux
}

// addJob promises the job with a 202 only once it is in the queue. After the
// signal it still takes jobs, as long as requests come in.
func addJob(w http.ResponseWriter, r *http.Request, jobs *queue) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJob))
	job := strings.TrimSuffix(strings.TrimSuffix(string(body), "\n"), "\r")
	switch tooLong := (*http.MaxBytesError)(nil); {
	case errors.As(err, &tooLong):
		http.Error(w, fmt.Sprintf("a job has at most %d bytes", maxJob),
			http.StatusRequestEntityTooLarge)
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

// work stands for anything that takes time.
func work(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.URL.Query().Get("d"))
	if err != nil || d < 0 || d > maxWork {
		http.Error(w, fmt.Sprintf("d must be a duration from 0s to %v", maxWork),
			http.StatusBadRequest)
		return
	}
	ctx := r.Context()
	select {
	case <-time.After(d):
		fmt.Fprintln(w, "worked for", d)
	case <-ctx.Done(): // the client is gone, or time has run out
		http.Error(w, context.Cause(ctx).Error(), http.StatusServiceUnavailable)
	}
}

// queue is between the handlers and the worker. It never blocks a handler: if
// the disk is slower than the clients, they get an error.
type queue struct {
	c chan string

	mu       sync.Mutex // guards the fields below, and keeps a send away from a closed c
	closed   bool
	accepted int64 // does not change once closed
}

// add reports whether it has added the job, which is a promise to journal it.
// It adds nothing if the queue is full or closed: a handler that the server no
// longer waits for can still call it.
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

// close makes writeTo return once it has written every job that was added.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.c)
	}
}

// writeTo is the worker. Its error shuts the program down.
func (q *queue) writeTo(j *journal) error {
	for job := range q.c {
		if err := j.write(job); err != nil {
			q.close() // from now on every promise would be a lie
			return err
		}
	}
	return nil
}
