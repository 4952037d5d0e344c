//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// program is the process under test: it follows the plan, and writes to file 3
// a line for each event.
func program(p *plan) {
	pipe := os.NewFile(3, "journal")
	var mu sync.Mutex // keeps lines whole
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(pipe, format+"\n", args...)
	}

	q := quit.GetQuitEvent()
	q.Timeout, q.Delay, q.Concurrent = p.timeout, p.delay, p.concurrent
	q.Logger = slog.New(logHandler(p.logger))
	q.NotifySignal()
	say("armed")

	// The server accepts jobs, and a worker does them. The queue is closed when
	// the server has stopped.
	jobs := &queue{c: make(chan string, 1000)}
	for n := range p.workers {
		q.Go(func(context.Context) error {
			for job := range jobs.c {
				select {
				case <-time.After(time.Millisecond):
					say("done %s", job)
				case <-q.WorkContext().Done():
					return context.Cause(q.WorkContext())
				}
			}
			return nil
		}, quit.Name(fmt.Sprint("worker ", n)))
	}
	register(q, q, p.closers, say)
	q.RegisterStopFunc(jobs.close, quit.Name("queue"))
	addr, err := quithttp.ListenAndServe(q, &http.Server{
		Addr: "127.0.0.1:0",
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if !jobs.add(string(body)) {
				http.Error(w, "no more jobs", http.StatusServiceUnavailable)
				return
			}
			w.WriteHeader(http.StatusAccepted)
		}),
		ReadTimeout: 10 * time.Second,
	})
	if err != nil {
		q.Fail(err)
	} else {
		say("listens %v", addr)
	}
	if p.fails {
		q.Go(func(context.Context) error {
			time.Sleep(30 * time.Millisecond) // into the load
			return errors.New("out of work")
		})
	}

	err = q.WaitSignal()
	report, _ := json.Marshal(q.Report())
	say("report %s", report)
	say("end %v", err != nil)
	if err != nil {
		os.Exit(1)
	}
}

// queue is between the server and the workers. It may be closed while requests
// come in, if the event is Concurrent or the server has hung.
type queue struct {
	mu     sync.Mutex // guards closed, and keeps a send away from a closed c
	closed bool
	c      chan string
}

func (j *queue) add(job string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false
	}
	select {
	case j.c <- job:
		return true
	default:
		return false
	}
}

func (j *queue) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	close(j.c)
}

// register registers the parts with q, and makes late ones register after the
// fire of the root.
func register(root, q *quit.QuitEvent, parts []*part, say func(string, ...any)) {
	for _, c := range parts {
		if c.late {
			go func() { // ends after the fire
				<-root.Done()
				registerOne(root, q, c, say)
			}()
			continue
		}
		registerOne(root, q, c, say)
	}
}

func registerOne(root, q *quit.QuitEvent, c *part, say func(string, ...any)) {
	opts := []quit.Option{quit.Name(fmt.Sprint(c.id))}
	if c.afterDrain {
		opts = append(opts, quit.AfterDrain())
	}
	if c.inner != nil {
		inner := quit.NewQuitEvent()
		inner.Logger = q.Logger
		inner.Go(func(ctx context.Context) error { <-ctx.Done(); return nil })
		register(root, inner, c.inner, say)
		q.RegisterQuitCloser(inner, opts...)
		return
	}
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		alive := "alive"
		if ctx.Err() != nil {
			alive = "dead"
		}
		say("call %d %s", c.id, alive)
		defer func() { say("return %d", c.id) }()
		time.Sleep(c.takes)
		if c.registers != nil {
			registerOne(root, q, c.registers, say)
			say("registered %d", c.registers.id)
		}
		switch c.act {
		case "fails":
			return errors.New("it fails")
		case "panics":
			panic("it panics")
		case "exits":
			runtime.Goexit()
		case "hangs":
			select {}
		case "late":
			<-ctx.Done()
		}
		return nil
	}), opts...)
}

// logHandler returns a handler that writes to stderr, blocks, or panics.
func logHandler(kind string) slog.Handler {
	h := slog.NewTextHandler(os.Stderr, nil)
	if kind == "text" {
		return h
	}
	return badHandler{h, kind}
}

type badHandler struct {
	slog.Handler
	kind string
}

func (h badHandler) Handle(context.Context, slog.Record) error {
	if h.kind == "panics" {
		panic("a log handler that panics")
	}
	select {}
}
