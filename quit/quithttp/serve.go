// Package quithttp serves HTTP in a program that ends with package quit:
// servers that start and stop with an event, a probe for load balancers,
// requests that are counted, and a page that shows a shutdown.
//
// It is a package of its own so that programs without HTTP do not pay for
// net/http.
package quithttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
	"github.com/gracefulgo/graceful/internal/text"
	"github.com/gracefulgo/graceful/quit"
)

// ListenAndServe listens on srv.Addr (":http" if that is empty) and then does
// what [Serve] does. It returns the address, which has the port that the system
// picked for ":0". It does not block: the program goes on to [quit.WaitSignal].
// An address that begins with "unix:" is the path of a Unix socket, or with
// "unix:@" its abstract name.
//
// If the address is taken it returns the error, and nothing was started or
// registered. After q has fired it serves nothing either, but that is no error:
// the program was asked to end while it started, and WaitSignal says how that
// went. The port is closed then.
func ListenAndServe(q *quit.QuitEvent, srv *http.Server, opts ...quit.Option) (net.Addr, error) {
	return listenAndServe(q, srv, ":http", plain, opts)
}

// ListenAndServeTLS is ListenAndServe for HTTPS, as
// [http.Server.ListenAndServeTLS] is to [http.Server.ListenAndServe]. The
// default address is ":https". A certificate that cannot be loaded is an error
// here too, and then nothing was started.
func ListenAndServeTLS(q *quit.QuitEvent, srv *http.Server, certFile, keyFile string, opts ...quit.Option) (net.Addr, error) {
	if c := srv.TLSConfig; certFile != "" || keyFile != "" || c == nil || len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
		if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			return nil, fmt.Errorf("quit: certificate %q, key %q: %w", certFile, keyFile, err)
		}
	}
	return listenAndServe(q, srv, ":https", encrypted(certFile, keyFile), opts)
}

func listenAndServe(q *quit.QuitEvent, srv *http.Server, addr string, serve serveFunc, opts []quit.Option) (net.Addr, error) {
	if srv.Addr != "" {
		addr = srv.Addr
	}
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		return nil, fmt.Errorf("quit: %w", err)
	}
	startServer(q, srv, newListener(ln, true), serve, opts)
	return ln.Addr(), nil
}

// Serve serves srv on ln, in a goroutine of q, and registers srv with q: at its
// turn in the shutdown it is stopped. An error other than
// [http.ErrServerClosed] ends the program, as in [quit.QuitEvent.Go]. The
// options are those of Go and of a Register method, and [Linger]; a [quit.Name]
// is for both. With [quit.AfterDrain] it serves until after the drain: this is
// for an admin server. The drain does not wait for the goroutine; the stop of
// the server does.
//
// The stop breaks no connection: what a client has sent is answered. On Linux
// (5.7 or newer), new connections are refused if this package has opened the
// socket. Elsewhere, and with a ln that was given, which may be shared with
// another process, what is in the queue is accepted before it is closed; a
// connection that is made at that very moment is reset. A ln of another type
// than *net.TCPListener or *net.UnixListener is accepted from for another 50 ms
// at most. Each connection has its next request answered with "Connection:
// close", or a GOAWAY of HTTP/2. Those that are new or idle have the time of
// [Linger] for that. Then [http.Server.Shutdown] is called, once, and Close if
// the time for all of this runs out. If nothing is connected, the stop takes no
// time.
//
// The context of a request is not cancelled by the fire, but when time for the
// request has run out, with that as the cause. The request can still be
// answered then, for a moment: half of what is left until the step would be
// abandoned. It is derived from what srv.BaseContext returns or, where that is
// nil, from [quit.QuitEvent.WorkContext], with which it ends in either case.
// That of a request that has hijacked its connection ends with WorkContext
// alone. Serve sets the fields BaseContext, ConnContext, ConnState and Handler,
// and calls what was in them: do not serve the same srv twice, nor set them
// later.
//
// If handlers go on even then, their stacks are in [quit.Step.Stacks] and in
// the log. They are found by the pprof labels that what srv starts inherits, so
// that a request pays nothing for it. Handlers that have hijacked their
// connections, for which nothing waits, are among them.
//
// A program that closes srv itself may do so: it is then unregistered.
//
// Serve does not block. After q has fired, it closes ln, and does nothing else.
// None of the arguments may be nil; this goes for all of the package.
func Serve(q *quit.QuitEvent, srv *http.Server, ln net.Listener, opts ...quit.Option) {
	startServer(q, srv, newListener(ln, false), plain, opts)
}

// ServeTLS is Serve for HTTPS and HTTP/2, as [http.Server.ServeTLS] is to
// [http.Server.Serve]. A certificate that cannot be loaded ends the program.
func ServeTLS(q *quit.QuitEvent, srv *http.Server, ln net.Listener, certFile, keyFile string, opts ...quit.Option) {
	startServer(q, srv, newListener(ln, false), encrypted(certFile, keyFile), opts)
}

// serveFunc is http.Server.Serve or ServeTLS.
type serveFunc func(*http.Server, net.Listener) error

func plain(srv *http.Server, ln net.Listener) error { return srv.Serve(ln) }

func encrypted(certFile, keyFile string) serveFunc {
	return func(srv *http.Server, ln net.Listener) error { return srv.ServeTLS(ln, certFile, keyFile) }
}

// defaultLinger is the default of [Linger].
const defaultLinger = 250 * time.Millisecond

// Linger is an option of Serve and the like: for how long after a connection
// has become new or idle the stop waits for a request on it, 250 ms by default.
// It should be longer than a round trip and, behind a load balancer, than that
// takes to notice that connections are refused. These have longer, up to 4 d: a
// connection that is used now and then, by three times the time between its
// last two requests; a new one that is in a handshake, or on which a part of a
// request has come; and all, until d after the last request on any of them,
// since they may be of one pool. All of it takes an eighth of the server's
// share of the time at most. Zero or less means none: then the stop is
// [http.Server.Shutdown] alone.
func Linger(d time.Duration) quit.Option { return lingerOption{quit.Ignore(), max(d, 0)} }

// lingerOption means nothing to quit: it is an option that ignores no error.
type lingerOption struct {
	quit.Option
	d time.Duration
}

func lingerOf(opts []quit.Option) time.Duration {
	d := defaultLinger
	for _, o := range opts {
		if l, ok := o.(lingerOption); ok {
			d = l.d
		}
	}
	return d
}

func startServer(q *quit.QuitEvent, srv *http.Server, ln *listener, serve serveFunc, opts []quit.Option) {
	if q.HasFired() {
		ln.Close()
		return
	}
	s := &server{Server: srv, ln: ln, stop: newStop(lingerOf(opts), srv.ReadTimeout), served: make(chan struct{})}
	// Registered first: there is no moment at which it serves and would not be
	// shut down.
	unregister := q.RegisterQuitCloser(s, append([]quit.Option{quit.Name("*http.Server")}, opts...)...)
	named := append([]quit.Option{quit.Name("serve " + ln.Addr().String())}, opts...)
	label := stacks.LabelAs
	if slices.Contains(opts, quit.AfterDrain()) {
		label = stacks.Handed // it and what it serves do not hold up the drain
	}
	detach := s.attach(q, label)
	if !q.Go(func(ctx context.Context) error {
		// The stop of the server waits for this goroutine, and the drain does
		// not: a server that is stopped after the drain serves during it.
		q.DoneGoroutine()
		defer q.AddGoroutine() // which Go takes back
		defer close(s.served)
		defer ln.Close() // which ServeTLS does not do if it fails to begin
		s.labels = ctx
		err := serve(srv, ln)
		if s.stop.closing.Err() != nil { // an end of Serve is no error then
			return nil
		}
		if errors.Is(err, http.ErrServerClosed) { // by the program
			unregister()
			return nil
		}
		return err
	}, named...) {
		unregister()
		detach()
		ln.Close()
		close(s.served) // its stop may have begun
	}
}

// labelFunc returns ctx with the name of like and with the owner.
type labelFunc = func(like, ctx context.Context, owner string) context.Context

// attach puts s between net/http and what the program has set in its server.
// It does so before Serve returns to the program, which may read the fields.
func (s *server) attach(q *quit.QuitEvent, label labelFunc) (detach func()) {
	srv, ln := s.Server, s.ln.Listener
	base, connContext, connState := srv.BaseContext, srv.ConnContext, srv.ConnState
	handler := srv.Handler
	serve := handler
	if serve == nil {
		serve = http.DefaultServeMux
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.stop.serve(serve, w, r) })
	srv.BaseContext = func(net.Listener) context.Context {
		requests := q.WorkContext()
		if base != nil {
			own, cancel := context.WithCancelCause(base(ln))
			context.AfterFunc(requests, func() { cancel(context.Cause(q.WorkContext())) })
			requests = own
		}
		// In the requests' context too, for handlers that add labels with
		// pprof.Do.
		requests = label(s.labels, requests, stacks.ID(s))
		pprof.SetGoroutineLabels(requests) // of this goroutine, which starts the others
		return requests
	}
	srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if connContext != nil {
			if ctx = connContext(ctx, conn); ctx == nil {
				return nil // of which net/http complains
			}
		}
		return s.stop.connect(ctx, conn)
	}
	srv.ConnState = func(conn net.Conn, state http.ConnState) {
		s.stop.change(conn, state)
		if connState != nil {
			connState(conn, state)
		}
	}
	return func() {
		srv.Handler, srv.BaseContext, srv.ConnContext, srv.ConnState = handler, base, connContext, connState
	}
}

// server is an http.Server whose stop breaks no connection, and whose requests
// hear of the end of their time before their connections are closed.
type server struct {
	*http.Server
	ln     *listener
	stop   *stop
	labels context.Context // of the goroutine that serves; set before it does
	served chan struct{}   // closed when Serve has returned
}

// Owner returns whose the goroutines are that the serving one has started.
func (s *server) Owner() stacks.OwnerID { return stacks.OwnerID(stacks.ID(s)) }

// Detail returns how many requests are being answered.
func (s *server) Detail() string {
	if n := s.stop.requests(); n > 0 {
		return text.Plural(n, "request") + " in flight"
	}
	return ""
}

// errNoTime is the cause with which the context of a request is cancelled.
var errNoTime = fmt.Errorf("quit: no time left for the request: %w", context.DeadlineExceeded)

func (s *server) Shutdown(ctx context.Context) error {
	s.stop.close()
	start := time.Now()
	if s.stop.linger > 0 {
		s.lastAnswers(ctx)
	}
	// Shutdown goes on for a moment after the end of ctx, and ends as soon as
	// no connection is left: it would find out by looking, ever more seldom.
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	unanswered := make(chan int, 1)
	inTime := context.AfterFunc(ctx, func() {
		unanswered <- s.stop.requests()
		s.stop.all(func(c *conn) { c.cancel(errNoTime) })
		// An eighth of our share is left before we are abandoned: half of it is
		// theirs.
		time.AfterFunc(time.Since(start)/16, cancel)
	})
	select {
	case <-s.served: // so all connections are known
		s.stop.whenOver(func() {
			// Or else those that have just ended would be among the stacks.
			if ctx.Err() == nil {
				cancel()
			}
		})
	default:
	}
	err := s.Server.Shutdown(last)
	select {
	case <-s.served:
	case <-last.Done():
	}
	if inTime() {
		if last.Err() != nil { // no connection is left
			return nil
		}
		return err
	}
	err = ctx.Err()
	if n := <-unanswered; n > 0 {
		err = fmt.Errorf("no time left for %s: %w", text.Plural(n, "request"), err)
	}
	return &stacks.Error{Err: err, Stacks: stacks.All()[stacks.ID(s)]}
}

// lastAnswers ends the connections of which Shutdown could break one.
func (s *server) lastAnswers(ctx context.Context) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/8) // most of it is for the requests
		defer cancel()
	}
	until, _ := ctx.Deadline()
	s.ln.drain(until)
	s.stop.begin()
	select {
	case <-s.served:
	case <-ctx.Done():
		s.ln.Close()
	}
	s.stop.settle(ctx)
}

// Ready returns a handler for readiness probes: it answers 200 before the fire,
// and 503 from then on. The answer is never cached. [quit.QuitEvent.Delay] is
// the time that load balancers have to ask. Ready does not know whether the
// program has started: serve it once the program can do its work.
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

// Track returns a handler that calls h and counts each request as a goroutine
// of q while h runs. So the drain waits also for WebSockets and other hijacked
// connections, for which [http.Server.Shutdown] does not wait; a handler that
// has hijacked its connection returns when it is done with it.
//
// The goroutine has the pprof label "quit" and so, if it holds up the drain,
// its stack is in the report and in the log: as what serves it, if that is
// [Serve] for q without [quit.AfterDrain], else with "request" as its name,
// unless it has one. In the latter case, labels that are not in the
// request's context are lost, as with [runtime/pprof.Do], and a handler that
// sets labels by that context loses this one.
//
// After the fire it still serves, since a load balancer may still send, and
// answers with "Connection: close", unless the client asks for an upgrade. So
// its requests are never refused; but those that come after the end of the
// drain are not awaited.
func Track(q *quit.QuitEvent, h http.Handler) http.Handler {
	id := stacks.ID(q)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.AddGoroutine()
		defer q.DoneGoroutine()
		if ctx := r.Context(); !stacks.OwnedBy(ctx, id) {
			pprof.SetGoroutineLabels(stacks.Join(ctx, "request", id))
			defer pprof.SetGoroutineLabels(ctx)
		}
		if q.HasFired() && !isUpgrade(r) {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}
