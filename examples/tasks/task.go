package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// These are the causes with which work is stopped. The errors of the contexts
// say less: DeadlineExceeded or Canceled.
var (
	errServer   = errors.New("the server's limit for a task has passed")
	errTask     = errors.New("the task's own timeout has passed")
	errDeadline = errors.New("the task's deadline has passed")
	errSubtask  = errors.New("the subtask's own limit has passed")
	errGone     = errors.New("the client has gone") // net/http has no better status for it
)

// connKey is the key of the connection's number in a context.
type connKey struct{}

// newServer returns a server whose contexts are a tree:
//
//	root        outlives the fire, until no time is left
//	connection  has its number as a value
//	request     ends when its client goes away, and has the server's limit
//	task        has the timeout or the deadline, or both, of the request
//	subtask     has a limit of its own
//
// Each has the values of those above it and ends with them at the latest. None
// ends those above or beside it.
//
// Package quithttp sets the root, BaseContext. It derives the root from
// WorkContext, and cancels it before it closes the connections. So the requests
// can still be answered when time has run out.
func newServer(addr string, limit time.Duration) *http.Server {
	var conns atomic.Int64
	return &http.Server{
		Addr: addr,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conns.Add(1))
		},
		Handler:     newHandler(limit),
		ReadTimeout: 10 * time.Second, // a slow client must not delay the shutdown
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	}
}

func newHandler(limit time.Duration) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /task", func(w http.ResponseWriter, r *http.Request) {
		t, err := parse(r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeoutCause(r.Context(), limit, errServer)
		defer cancel()
		text, cause := t.run(ctx)
		if cause != nil {
			w.WriteHeader(status(cause))
		}
		fmt.Fprint(w, text)
	})
	return mux
}

// task is a request for work. A zero limit means none.
type task struct {
	timeout  time.Duration
	deadline time.Time
	subtasks []subtask
}

type subtask struct{ takes, limit time.Duration }

// run runs all subtasks at once, and waits for each. It returns their results,
// and the cause if the task itself was stopped.
func (t *task) run(ctx context.Context) (text string, cause error) {
	if t.timeout > 0 { // from now on
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t.timeout, errTask)
		defer cancel()
	}
	if !t.deadline.IsZero() { // regardless of when it has begun
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, t.deadline, errDeadline)
		defer cancel()
	}
	errs := make([]error, len(t.subtasks))
	var wg sync.WaitGroup
	for i, s := range t.subtasks {
		name := fmt.Sprintf("connection %v, subtask %d", ctx.Value(connKey{}), i+1)
		wg.Go(func() { errs[i] = s.run(ctx, name) })
	}
	// The handler waits for the subtasks, and the shutdown waits for the
	// handler. A panic in a subtask ends the process: net/http recovers those
	// of handlers only.
	wg.Wait()
	for i, err := range errs {
		if err == nil {
			text += fmt.Sprintf("subtask %d: done\n", i+1)
			continue
		}
		text += fmt.Sprintf("subtask %d: stopped: %v\n", i+1, err)
		if err != errSubtask {
			cause = err
		}
	}
	return text, cause
}

// run stands for anything that takes time. If it is stopped before the end,
// it returns the cause.
func (s subtask) run(ctx context.Context, name string) error {
	if s.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.limit, errSubtask)
		defer cancel()
	}
	log.Printf("%s: working for %v", name, s.takes)
	select {
	case <-time.After(s.takes):
		log.Printf("%s: done", name)
		return nil
	case <-ctx.Done():
		err := context.Cause(ctx)
		if err == context.Canceled {
			err = errGone
		}
		log.Printf("%s: stopped: %v", name, err)
		return err
	}
}

func status(cause error) int {
	switch cause {
	case errServer, errTask, errDeadline:
		return http.StatusGatewayTimeout
	}
	return http.StatusServiceUnavailable // no time is left, or nobody reads the answer
}
