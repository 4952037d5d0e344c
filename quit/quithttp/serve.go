// Package quithttp serves HTTP in programs that package quit shuts down.
//
// [ListenAndServe] and [Serve] start an [http.Server] and register it with a
// [quit.QuitEvent]. The shutdown of such a server breaks no connection. [Ready]
// is a readiness probe for load balancers. [Track] makes the drain wait for
// requests, even for those that become WebSockets. [Status] shows the shutdown
// in a browser or in a terminal.
//
//	func main() {
//		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
//			io.WriteString(w, "hello\n")
//		})
//		q := quit.GetQuitEvent()
//		q.NotifySignal()
//		srv := &http.Server{Addr: ":8080"}
//		if _, err := quithttp.ListenAndServe(q, srv); err != nil {
//			log.Fatal(err)
//		}
//		if err := quit.WaitSignal(); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// The functions of this package, and the handlers that they return, are safe
// for concurrent use. Their arguments must not be nil.
//
// The package is separate from package quit so that programs without HTTP do
// not pay for net/http.
//
// # Shutting a server down
//
// The shutdown of a server breaks no connection: a client that has sent a
// request gets an answer. The shutdown has four steps:
//
//  1. New connections are refused. Those that wait to be accepted are kept.
//     This step needs Linux 5.7 or newer, and a listener that this package has
//     opened.
//  2. The connections that wait are accepted. Then the listener is closed.
//  3. Each connection has its next request answered with "Connection: close",
//     or with a GOAWAY frame of HTTP/2. A connection that is new or idle is
//     kept open for that request for as long as [Linger] says.
//  4. [http.Server.Shutdown] is called once. If the time for all of this runs
//     out, [http.Server.Close] follows.
//
// If nothing is connected, the shutdown of a server takes no time.
//
// A listener that is passed to [Serve] may be shared with another process, so
// its shutdown skips the first step. A connection that is made at the very
// moment of the close is then reset. A listener that is neither a
// [net.TCPListener] nor a [net.UnixListener] accepts connections for at most
// another 50 ms.
//
// A client can lose a request nonetheless: if the request arrives after its
// idle connection has lingered, if the client pipelines requests and ignores
// "Connection: close", or if the process is killed.
//
// # The context of a request
//
// The fire does not cancel the context of a request. The context is cancelled
// when time for the request has run out, and its cause says so. The request can
// still be answered for a moment: half of the time that is left until the step
// would be abandoned.
//
// The context is derived from the one that the server's BaseContext returns, or
// from [quit.QuitEvent.WorkContext] if BaseContext is nil. In either case it is
// cancelled with WorkContext. After a request has hijacked its connection, the
// end of the server's time does not cancel its context; only WorkContext does.
//
// # Handlers that hang
//
// If handlers still run when the time has run out, their stacks are in
// [quit.Step.Stacks] and in the log. Handlers that have hijacked their
// connections are among them, although the server does not wait for them. The
// stacks are found by pprof labels, which the goroutines of a server inherit,
// so a request pays nothing for this.
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

// ListenAndServe listens on srv.Addr, or on ":http" if that is empty, and then
// serves srv as [Serve] does. It does not block: the program goes on to
// [quit.WaitSignal]. It returns the address of the listener. If srv.Addr ends
// in ":0", the address has the port that the system has picked.
//
// If the address is taken, ListenAndServe returns the error, and it has neither
// started nor registered anything.
//
// If q has already fired, ListenAndServe closes the listener and serves
// nothing. This is not an error: the program was asked to end while it was
// starting, and WaitSignal returns the result.
//
// If srv.Addr begins with "unix:", the rest is the path of a Unix socket. A
// path that begins with "@" is an abstract name.
func ListenAndServe(q *quit.QuitEvent, srv *http.Server, opts ...quit.Option) (net.Addr, error) {
	return listenAndServe(q, srv, ":http", plain, opts)
}

// ListenAndServeTLS acts like [ListenAndServe] for HTTPS. It uses the files as
// [http.Server.ListenAndServeTLS] does. If srv.Addr is empty, it listens on
// ":https". If the certificate cannot be loaded, ListenAndServeTLS returns the
// error, and it has neither started nor registered anything.
func ListenAndServeTLS(q *quit.QuitEvent, srv *http.Server,
	certFile, keyFile string, opts ...quit.Option) (net.Addr, error) {

	if c := srv.TLSConfig; certFile != "" || keyFile != "" || c == nil ||
		len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
		if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			return nil, fmt.Errorf("quit: certificate %q, key %q: %w", certFile, keyFile, err)
		}
	}
	return listenAndServe(q, srv, ":https", encrypted(certFile, keyFile), opts)
}

func listenAndServe(q *quit.QuitEvent, srv *http.Server, addr string,
	serve serveFunc, opts []quit.Option) (net.Addr, error) {

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

// Serve serves srv on ln in a goroutine of q, and registers srv with q. It does
// not block. When the turn of srv comes in the shutdown, srv is shut down, and
// no connection is broken; the package documentation has the details. If q has
// already fired, Serve closes ln and does nothing else.
//
// The options are [Linger] and those of [quit.QuitEvent.Go] and
// [quit.QuitEvent.RegisterQuitCloser]. A [quit.Name] is the name of both the
// server and its goroutine. With [quit.AfterDrain], srv serves until after the
// drain: pass it for an admin server. The drain does not wait for the
// goroutine. The shutdown of srv does.
//
// An error of the server fires q, as an error of a function that is passed to
// Go does. [http.ErrServerClosed] is not an error: the program may close srv
// itself, and srv is then unregistered.
//
// Serve sets the fields BaseContext, ConnContext, ConnState and Handler of srv,
// and the server still calls their previous values. Do not set these fields
// later, and do not serve the same srv twice.
func Serve(q *quit.QuitEvent, srv *http.Server, ln net.Listener, opts ...quit.Option) {
	startServer(q, srv, newListener(ln, false), plain, opts)
}

// ServeTLS acts like [Serve] for HTTPS and HTTP/2. It uses the files as
// [http.Server.ServeTLS] does. If the certificate cannot be loaded, the error
// fires q, as any other error of the server does.
func ServeTLS(q *quit.QuitEvent, srv *http.Server, ln net.Listener,
	certFile, keyFile string, opts ...quit.Option) {

	startServer(q, srv, newListener(ln, false), encrypted(certFile, keyFile), opts)
}

// serveFunc is http.Server.Serve or ServeTLS.
type serveFunc func(*http.Server, net.Listener) error

func plain(srv *http.Server, ln net.Listener) error { return srv.Serve(ln) }

func encrypted(certFile, keyFile string) serveFunc {
	return func(srv *http.Server, ln net.Listener) error {
		return srv.ServeTLS(ln, certFile, keyFile)
	}
}

// defaultLinger is the linger without the option [Linger].
const defaultLinger = 250 * time.Millisecond

// Linger is an option of [Serve] and the other functions that start a server.
// The shutdown of the server keeps each new or idle connection open for a
// request until d after the connection became new or idle. The default is 250
// milliseconds.
//
// It should be longer than a round trip. Behind a load balancer, it should also
// be longer than the load balancer takes to notice that connections are
// refused.
//
// Some connections are kept open for longer than d, up to 4 d:
//
//   - A connection that is used now and then, for three times the time between
//     its last two requests.
//   - A connection in a handshake, and one on which a part of a request has
//     come.
//   - All connections, until d after the last request on any of them, since
//     they may belong to one pool.
//
// All of this takes at most an eighth of the server's share of the time.
//
// If d is zero or negative, the shutdown of the server is
// [http.Server.Shutdown] alone, which can break connections. If Linger is
// passed more than once, the last one counts. The functions of package quit
// ignore it.
func Linger(d time.Duration) quit.Option { return lingerOption{quit.Ignore(), max(d, 0)} }

// To package quit, a lingerOption is an option that ignores no error.
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

func startServer(q *quit.QuitEvent, srv *http.Server, ln *listener,
	serve serveFunc, opts []quit.Option) {

	if q.HasFired() {
		ln.Close()
		return
	}
	s := &server{
		Server: srv,
		ln:     ln,
		stop:   newStop(lingerOf(opts), srv.ReadTimeout),
		served: make(chan struct{}),
	}
	// The server is registered before it serves. Otherwise a shutdown could
	// miss it.
	unregister := q.RegisterQuitCloser(s,
		append([]quit.Option{quit.Name("*http.Server")}, opts...)...)
	named := append([]quit.Option{quit.Name("serve " + ln.Addr().String())}, opts...)
	label := stacks.LabelAs
	if slices.Contains(opts, quit.AfterDrain()) {
		label = stacks.Handed // neither the server nor its requests hold up the drain
	}
	detach := s.attach(q, label)
	if !q.Go(func(ctx context.Context) error {
		// The shutdown of the server waits for this goroutine. The drain does
		// not, so that an AfterDrain server serves during the drain.
		q.DoneGoroutine()
		defer q.AddGoroutine() // for the decrement by Go
		defer close(s.served)
		defer ln.Close() // ServeTLS leaves it open if it fails to begin
		s.labels = ctx
		err := serve(srv, ln)
		if s.stop.closing.Err() != nil { // Serve was stopped, which is not an error
			return nil
		}
		if errors.Is(err, http.ErrServerClosed) { // closed by the program
			unregister()
			return nil
		}
		return err
	}, named...) {
		unregister()
		detach()
		ln.Close()
		close(s.served) // its shutdown may have begun
	}
}

// A labelFunc returns ctx labelled with the name of like and with the owner.
type labelFunc = func(like, ctx context.Context, owner string) context.Context

// attach puts s between net/http and the fields that the program has set in its
// server. It is called before Serve returns, since the program may then read
// the fields. detach restores them.
func (s *server) attach(q *quit.QuitEvent, label labelFunc) (detach func()) {
	srv, ln := s.Server, s.ln.Listener
	base, connContext, connState := srv.BaseContext, srv.ConnContext, srv.ConnState
	handler := srv.Handler
	serve := handler
	if serve == nil {
		serve = http.DefaultServeMux
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.stop.serve(serve, w, r)
	})
	srv.BaseContext = func(net.Listener) context.Context {
		requests := q.WorkContext()
		if base != nil {
			own, cancel := context.WithCancelCause(base(ln))
			context.AfterFunc(requests, func() { cancel(context.Cause(q.WorkContext())) })
			requests = own
		}
		// The labels are in the context of requests too, so that a handler
		// that adds labels with pprof.Do keeps them.
		requests = label(s.labels, requests, stacks.ID(s))
		// The goroutines of connections inherit the labels of this goroutine.
		pprof.SetGoroutineLabels(requests)
		return requests
	}
	srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if connContext != nil {
			if ctx = connContext(ctx, conn); ctx == nil {
				return nil // net/http panics
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
		srv.Handler, srv.BaseContext, srv.ConnContext, srv.ConnState =
			handler, base, connContext, connState
	}
}

// A server is an http.Server whose shutdown breaks no connection. It tells its
// requests that their time has run out before it closes their connections.
type server struct {
	*http.Server
	ln     *listener
	stop   *stop
	labels context.Context // of the serving goroutine, which sets it before it serves
	served chan struct{}   // closed when Serve has returned
}

// Owner returns the owner of the goroutines that the serving goroutine has
// started.
func (s *server) Owner() stacks.OwnerID { return stacks.OwnerID(stacks.ID(s)) }

// Detail returns the number of requests in flight, as text.
func (s *server) Detail() string {
	if n := s.stop.requests(); n > 0 {
		return text.Plural(n, "request") + " in flight"
	}
	return ""
}

// errNoTime is the cause with which the context of a request is cancelled.
var errNoTime = fmt.Errorf("quit: no time left for the request: %w", context.DeadlineExceeded)

// Shutdown shuts the server down. It is called once, by the event.
func (s *server) Shutdown(ctx context.Context) error {
	s.stop.close()
	start := time.Now()
	if s.stop.linger > 0 {
		s.lastAnswers(ctx)
	}
	// http.Server.Shutdown goes on for a moment after the end of ctx. It polls
	// for remaining connections, less and less often. So last is cancelled as
	// soon as none is left.
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	unanswered := make(chan int, 1)
	inTime := context.AfterFunc(ctx, func() {
		unanswered <- s.stop.requests()
		s.stop.all(func(c *conn) { c.cancel(errNoTime) })
		// The step is abandoned after another eighth of its share. The requests
		// have half of that.
		time.AfterFunc(time.Since(start)/16, cancel)
	})
	select {
	case <-s.served: // all connections are known
		s.stop.whenOver(func() {
			// The stacks are taken only after ctx is done, and after the delay
			// above. By then the goroutines that have just ended are gone.
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

// lastAnswers ends the connections that http.Server.Shutdown could break. It
// leaves most of the time for the requests.
func (s *server) lastAnswers(ctx context.Context) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/8)
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

// Ready returns a handler for readiness probes. It answers 200 until q fires,
// and 503 from then on. The answer is never cached. The time that load
// balancers have for another probe is [quit.QuitEvent.Delay].
//
// Ready does not know whether the program has started: serve it once the
// program can do its work.
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
// of q until h returns, even if h panics. The drain therefore waits for
// WebSockets and other hijacked connections, unlike [http.Server.Shutdown]. A
// handler that hijacks a connection must not return before it is done with the
// connection. A request that passes through Track twice is counted twice.
//
// After the fire the handler still serves, since a load balancer may still send
// requests. It answers with "Connection: close" unless the client asks for an
// upgrade. No request is refused. Requests that come after the end of the drain
// are not awaited.
//
// The goroutine of a request has the pprof label "quit". If it holds up the
// drain, its stack is in the report and in the log. If [Serve] serves the
// request for q without [quit.AfterDrain], the label is that of the server's
// goroutine. If not, Track sets the label: "request", or the name that the
// goroutine has already. Labels that are not in the context of the request are
// then lost, as with [runtime/pprof.Do]. A handler that sets labels from that
// context removes the label of Track.
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
