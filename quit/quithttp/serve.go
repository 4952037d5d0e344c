// Package quithttp serves HTTP in a program that ends with package quit: servers
// that start and stop with an event, a probe for load balancers, requests that are
// counted, and a page that shows a shutdown.
//
// It is a package of its own so that programs without HTTP do not pay for net/http.
package quithttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/pprof"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
	"github.com/gracefulgo/graceful/quit"
)

// ListenAndServe listens on srv.Addr (":http" if that is empty) and then does
// what [Serve] does. It returns the address, which has the port that the system
// picked for ":0". It does not block: the program goes on to [quit.WaitSignal].
//
// If the address is taken it returns the error, and nothing was started or registered.
// After q has fired it serves nothing either, but that is no error: the program was asked to end
// while it started, and WaitSignal says how that went. The port is closed then.
func ListenAndServe(q *quit.QuitEvent, srv *http.Server, opts ...quit.Option) (net.Addr, error) {
	addr := srv.Addr
	if addr == "" {
		addr = ":http"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("quit: %w", err)
	}
	Serve(q, srv, ln, opts...)
	return ln.Addr(), nil
}

// Serve serves srv on ln, in a goroutine of q, and registers srv with q: at its
// turn in the shutdown, its Shutdown is called, and Close if the time for that runs out.
// An error other than [http.ErrServerClosed] ends the program, as in [quit.QuitEvent.Go].
// The options are those of Go and of a Register method; a [quit.Name] is for both.
// [quit.AfterDrain] is not for here, since the drain waits for the goroutine: a server
// that is to be closed last, for admins, is served with an event of its own, and
// that one is registered with q, AfterDrain.
//
// The context of a request is not cancelled by the fire, but when time for the request
// has run out, with that as the cause. The request can still be answered then,
// for a moment: half of what is left until the step would be abandoned. It is derived
// from what srv.BaseContext returns or, where that is nil, from
// [quit.QuitEvent.WorkContext], with which it ends in either case: so does that of a
// request that has hijacked its connection. Serve sets that field: do not serve the same srv twice.
//
// If requests hold up the shutdown until their time has run out, the stacks of the
// handlers at that moment are in [quit.Step.Stacks] and in the log. They are found by the
// pprof labels that what srv starts inherits, so that a request pays nothing for it.
// Handlers that have hijacked their connections, for which nothing waits, are among them.
//
// Serve does not block. After q has fired, it closes ln, and does nothing else.
// None of the arguments may be nil; this goes for all of the package.
func Serve(q *quit.QuitEvent, srv *http.Server, ln net.Listener, opts ...quit.Option) {
	if q.HasFired() {
		ln.Close()
		return
	}
	timed, timeUp := context.WithCancelCause(q.WorkContext())
	s := &server{srv, timeUp}
	// Registered first: there is no moment at which it serves and would not be shut down.
	unregister := q.RegisterQuitCloser(s, append([]quit.Option{quit.Name("*http.Server")}, opts...)...)
	named := append([]quit.Option{quit.Name("serve " + ln.Addr().String())}, opts...)
	if !q.Go(func(ctx context.Context) error {
		base := srv.BaseContext
		srv.BaseContext = func(ln net.Listener) context.Context {
			requests := timed
			if base != nil {
				own, cancel := context.WithCancelCause(base(ln))
				context.AfterFunc(timed, func() { cancel(context.Cause(timed)) })
				requests = own
			}
			// In the requests' context too, for handlers that add labels with pprof.Do.
			requests = stacks.LabelAs(ctx, requests, stacks.ID(s))
			pprof.SetGoroutineLabels(requests) // of this goroutine, which starts the others
			return requests
		}
		return serveUntilClosed(srv, ln)
	}, named...) {
		unregister()
		ln.Close()
		timeUp(nil)
	}
}

func serveUntilClosed(srv *http.Server, ln net.Listener) error {
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// server is an http.Server whose requests hear of the end of their time before
// their connections are closed.
type server struct {
	*http.Server
	timeUp context.CancelCauseFunc // cancels the contexts of the requests
}

// Owner returns whose the goroutines are that the serving one has started.
func (s *server) Owner() stacks.OwnerID { return stacks.OwnerID(stacks.ID(s)) }

// errNoTime is the cause with which the context of a request is cancelled.
var errNoTime = fmt.Errorf("quit: no time left for the request: %w", context.DeadlineExceeded)

func (s *server) Shutdown(ctx context.Context) error {
	start := time.Now()
	err := s.Server.Shutdown(ctx)
	if err != nil && ctx.Err() != nil {
		// An eighth of our share is left before we are abandoned: half of it is theirs.
		took := time.Since(start)
		last, cancel := context.WithDeadline(context.WithoutCancel(ctx), start.Add(took+took/16))
		defer cancel()
		err = &stacks.Error{Err: err, Stacks: stacks.All()[stacks.ID(s)]} // the first error is the one that counts
		s.timeUp(errNoTime)
		s.Server.Shutdown(last)
	}
	return err
}

// Ready returns a handler for readiness probes: it answers 200 before the fire,
// and 503 from then on. The answer is never cached. [quit.QuitEvent.Delay] is the time
// that load balancers have to ask.
func Ready(q *quit.QuitEvent) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if q.HasFired() {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "quitting\n")
			return
		}
		io.WriteString(w, "ready\n")
	})
}

// Track returns a handler that calls h and counts each request as a goroutine of
// q while h runs. So the drain waits also for WebSockets and other hijacked
// connections, for which [http.Server.Shutdown] does not wait; a handler that has
// hijacked its connection returns when it is done with it.
//
// The goroutine has the pprof label "quit" and so, if it holds up the drain, its stack is
// in the report and in the log: as what serves it, if that is [Serve], else as "request".
// In the latter case, labels that are not in the request's context are lost, as with
// [runtime/pprof.Do], and a handler that sets labels by that context loses this one.
//
// After the fire it still serves, since a load balancer may still send, and
// answers with "Connection: close". So its requests are never refused; but
// those that come after the end of the drain are not awaited.
func Track(q *quit.QuitEvent, h http.Handler) http.Handler {
	id := stacks.ID(q)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.AddGoroutine()
		defer q.DoneGoroutine()
		if ctx := r.Context(); !stacks.OwnedBy(ctx, id) {
			pprof.SetGoroutineLabels(stacks.Join(ctx, "request", id))
			defer pprof.SetGoroutineLabels(ctx)
		}
		if q.HasFired() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}
