package quithttp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// generous is a time limit that even a slow machine does not reach.
const generous = 2 * time.Minute

func quietEvent() *quit.QuitEvent {
	return &quit.QuitEvent{Timeout: generous, Logger: slog.New(slog.DiscardHandler)}
}

// listen serves h for q and returns the base URL.
func listen(t *testing.T, q *quit.QuitEvent, h http.Handler, opts ...quit.Option) string {
	t.Helper()
	addr, err := quithttp.ListenAndServe(q, &http.Server{Addr: "127.0.0.1:0", Handler: h}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + addr.String()
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestListenAndServe(t *testing.T) {
	q := quietEvent()
	url := listen(t, q, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	}))
	if _, body := get(t, url); body != "hello" {
		t.Errorf("GET = %q, want hello", body)
	}
	steps := q.Report().Steps
	if s := steps[0]; s.Name != "*http.Server" ||
		!strings.HasPrefix(s.Site, "quithttp/serve_test.go:") {
		t.Errorf("the server is registered as %s at %s, want the call of ListenAndServe",
			s.Name, s.Site)
	}
	if err := q.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v, want nil: ErrServerClosed is no failure", err)
	}
	if _, err := http.Get(url); err == nil {
		t.Error("the server still answers after the shutdown")
	}
}

func TestListenAndServeTakenPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	q := quietEvent()
	addr, err := quithttp.ListenAndServe(q, &http.Server{Addr: ln.Addr().String()})
	if err == nil || addr != nil || !strings.Contains(err.Error(), ln.Addr().String()) ||
		!strings.HasPrefix(err.Error(), "quit: ") {
		t.Errorf("ListenAndServe on a taken port = %v, %v", addr, err)
	}
	if r := q.Report(); len(r.Steps) != 1 || r.Goroutines != 0 || q.HasFired() {
		t.Errorf("something was started or registered:\n%v", r)
	}
}

func TestServeAfterFire(t *testing.T) {
	q := quietEvent()
	q.Fire()
	addr, err := quithttp.ListenAndServe(q, &http.Server{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatalf("ListenAndServe after the fire = %v", err)
	}
	if conn, err := net.Dial("tcp", addr.String()); err == nil {
		conn.Close()
		t.Error("somebody listens after ListenAndServe after the fire")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	quithttp.Serve(q, &http.Server{}, ln)
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept() after Serve after the fire = %v, want it closed", err)
	}
	if r := q.Report(); len(r.Steps) != 1 || r.Goroutines != 0 {
		t.Errorf("something was started or registered:\n%v", r)
	}
}

// TestServeAfterEnd checks that a server is neither served, changed nor closed
// after the shutdown.
func TestServeAfterEnd(t *testing.T) {
	q := quietEvent()
	q.GracefulStop()
	srv := &http.Server{Addr: "127.0.0.1:0"}
	if _, err := quithttp.ListenAndServe(q, srv); err != nil {
		t.Errorf("ListenAndServe after the end = %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Serve(brokenListener{ln}); errors.Is(err, http.ErrServerClosed) ||
		srv.BaseContext != nil {
		t.Errorf("the server was changed or shut down: Serve() = %v", err)
	}
}

// A brokenListener fails at once.
type brokenListener struct{ net.Listener }

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("accept is broken") }

func TestServeErrorEndsIt(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	q := quietEvent()
	quithttp.Serve(q, &http.Server{}, brokenListener{ln}, quit.Name("api"))
	<-q.Done()
	if err := q.Shutdown(t.Context()); err == nil ||
		err.Error() != "quit: goroutine api: accept is broken" {
		t.Errorf("Shutdown() = %v", err)
	}
}

func TestRequestContext(t *testing.T) {
	q := quietEvent()
	began := make(chan context.Context, 1)
	release := make(chan struct{})
	url := listen(t, q, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began <- r.Context()
		<-release
		io.WriteString(w, "answered")
	}))
	answer := make(chan string)
	go func() {
		res, err := http.Get(url)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()
	ctx := <-began
	q.Fire()
	if ctx.Err() != nil {
		t.Errorf("r.Context().Err() = %v after the fire, want nil", ctx.Err())
	}
	ended := make(chan error)
	go func() { ended <- q.Shutdown(context.Background()) }()
	close(release)
	if got := <-answer; got != "answered" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRequestOutOfTime uses a request that ends when its context is cancelled,
// and one that hangs. The first is answered, and the second is cut off. Both
// have the values of the server's own BaseContext.
func TestRequestOutOfTime(t *testing.T) {
	type key struct{}
	own := context.WithValue(context.Background(), key{}, "own")
	for name, base := range map[string]func(net.Listener) context.Context{
		"WorkContext":     nil,
		"own BaseContext": func(net.Listener) context.Context { return own },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quietEvent()
				hang := make(chan struct{})
				mux := http.NewServeMux()
				mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
					if base != nil && r.Context().Value(key{}) != "own" {
						t.Error("the request has not the values of the server's own context")
					}
					<-r.Context().Done()
					http.Error(w, context.Cause(r.Context()).Error(), http.StatusServiceUnavailable)
				})
				mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { <-hang })
				ln := make(pipes)
				quithttp.Serve(q, &http.Server{Handler: mux, BaseContext: base}, ln)
				client := ln.client(new(http.Transport))
				type result struct {
					body string
					err  error
				}
				ask := func(path string) chan result {
					c := make(chan result, 1)
					go func() {
						res, err := client.Get("http://x" + path)
						if err != nil {
							c <- result{err: err}
							return
						}
						defer res.Body.Close()
						body, err := io.ReadAll(res.Body)
						c <- result{string(body), err}
					}()
					return c
				}
				answered, cut := ask("/"), ask("/hang")
				synctest.Wait()
				err := q.Shutdown(context.Background())
				if !errors.Is(err, context.DeadlineExceeded) ||
					strings.Contains(err.Error(), "abandoned") {
					t.Errorf("Shutdown() = %v, want the server's time to have run out", err)
				}
				if r := <-answered; r.err != nil || !strings.Contains(r.body, "no time left") {
					t.Errorf("the request that ends with its context got %+v", r)
				}
				if r := <-cut; r.err == nil {
					t.Errorf("the request that hangs got %+v", r)
				}
				close(hang)
			})
		})
	}
}

// TestHijackedOutOfTime uses a hijacked request that ends when its context is
// cancelled. The server does not wait for it. The drain cancels it when the
// drain's time has run out.
func TestHijackedOutOfTime(t *testing.T) {
	for name, base := range map[string]func(net.Listener) context.Context{
		"WorkContext":     nil,
		"own BaseContext": func(net.Listener) context.Context { return context.Background() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quietEvent()
				ended := make(chan error, 1)
				ln := make(pipes)
				quithttp.Serve(q, &http.Server{
					BaseContext: base,
					Handler: quithttp.Track(q, http.HandlerFunc(func(
						w http.ResponseWriter, r *http.Request,
					) {
						conn, _, err := http.NewResponseController(w).Hijack()
						if err != nil {
							t.Error(err)
							return
						}
						defer conn.Close()
						select {
						case <-r.Context().Done():
						case <-time.After(time.Hour):
						}
						ended <- context.Cause(r.Context())
					})),
				}, ln)
				conn, _ := ln.open()
				defer conn.Close()
				synctest.Wait()
				err := q.Shutdown(context.Background())
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Shutdown() = %v", err)
				}
				if n := q.Report().Goroutines; n != 0 {
					t.Errorf("%d goroutines are left", n)
				}
				if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the cause of the request's end: %v", err)
				}
			})
		})
	}
}

func TestReady(t *testing.T) {
	q := quietEvent()
	for _, want := range []struct {
		code int
		body string
	}{{http.StatusOK, "ready\n"}, {http.StatusServiceUnavailable, "quitting\n"}} {
		w := httptest.NewRecorder()
		quithttp.Ready(q).ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		if w.Code != want.code || w.Body.String() != want.body {
			t.Errorf("Ready: %d, %q, want %d, %q", w.Code, w.Body, want.code, want.body)
		}
		for key, want := range map[string]string{
			"Cache-Control": "no-store",
			"Content-Type":  "text/plain; charset=utf-8",
		} {
			if got := w.Header().Get(key); got != want {
				t.Errorf("Ready: %s: %q, want %q", key, got, want)
			}
		}
		q.Fire()
	}
}

// TestTrack hijacks a connection, as a WebSocket does. The server does not wait
// for it. The drain does.
func TestTrack(t *testing.T) {
	q := quietEvent()
	release := make(chan struct{})
	hijacked := make(chan struct{})
	var requestContext context.Context
	url := listen(t, q, quithttp.Track(q, http.HandlerFunc(func(
		w http.ResponseWriter, r *http.Request,
	) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		requestContext = r.Context()
		close(hijacked)
		<-release
		rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbye")
		rw.Flush()
	})))
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-hijacked
	if n := q.Report().Goroutines; n != 1 { // the server's own is not counted
		t.Errorf("%d goroutines are counted, want 1", n)
	}
	ended := make(chan error)
	go func() { ended <- q.Shutdown(context.Background()) }()
	for q.Report().Goroutines != 1 || q.Report().Steps[0].End.IsZero() {
		time.Sleep(time.Millisecond) // until the server has been shut down
	}
	select {
	case err := <-ended:
		t.Fatalf("the shutdown ended with a hijacked connection open: %v", err)
	default:
	}
	if err := requestContext.Err(); err != nil {
		t.Errorf("the context of a hijacked request in the drain: %v, want it alive", err)
	}
	close(release)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); string(body) != "bye" {
		t.Errorf("the hijacked connection got %q, want bye", body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTrackAfterFire(t *testing.T) {
	q := quietEvent()
	h := quithttp.Track(q, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "served")
	}))
	for _, want := range []string{"", "close"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Body.String() != "served" || w.Header().Get("Connection") != want {
			t.Errorf("fired %v: %q with Connection: %q, want served, %q",
				q.HasFired(), w.Body, w.Header().Get("Connection"), want)
		}
		q.Fire()
	}
	// The answer to an upgrade has its own Connection header, to which a proxy
	// would add ours.
	upgrade := httptest.NewRequest("GET", "/", nil)
	upgrade.Header.Set("Connection", "Upgrade")
	upgrade.Header.Set("Upgrade", "websocket")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, upgrade)
	if got := w.Header().Get("Connection"); got != "" {
		t.Errorf("the answer to an upgrade has Connection: %q", got)
	}
	// HTTP/2 has no upgrades.
	upgrade.Proto, upgrade.ProtoMajor, upgrade.ProtoMinor = "HTTP/2.0", 2, 0
	w = httptest.NewRecorder()
	h.ServeHTTP(w, upgrade)
	if got := w.Header().Get("Connection"); got != "close" {
		t.Errorf("the answer by HTTP/2 has Connection: %q, want close", got)
	}
	// A request whose handler panics is no longer counted either.
	func() {
		defer func() { recover() }()
		quithttp.Track(q, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		})).
			ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}()
	if n := q.Report().Goroutines; n != 0 {
		t.Errorf("%d goroutines are counted, want 0", n)
	}
}

func TestInFlight(t *testing.T) {
	for _, test := range []struct {
		conn  net.Conn
		major int
		want  int
	}{
		{new(net.TCPConn), 1, 1},
		{new(net.TCPConn), 2, 1},
		{uncomparable{}, 1, 0}, // its end would go unnoticed
		{uncomparable{}, 2, 0},
	} {
		during, after := quithttp.InFlight(test.conn, test.major)
		if during != test.want || after != 0 {
			t.Errorf("HTTP/%d, %T: %d requests in flight, then %d, want %d, then 0",
				test.major, test.conn, during, after, test.want)
		}
	}
}
