package quithttp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

//go:noinline
func hangHere(c <-chan struct{}) { <-c }

// stuckHandlers returns handlers that hang until release is closed, each in its
// own way.
func stuckHandlers(q *quit.QuitEvent, release chan struct{}) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { hangHere(release) })
	mux.Handle("/tracked",
		quithttp.Track(q, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			hangHere(release)
		})))
	mux.Handle("/timeout",
		http.TimeoutHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			hangHere(release)
		}), time.Hour, ""))
	mux.HandleFunc("/labelled", func(_ http.ResponseWriter, r *http.Request) {
		pprof.Do(r.Context(), pprof.Labels("route", "/labelled"), func(context.Context) {
			hangHere(release)
		})
	})
	mux.HandleFunc("/within", func(http.ResponseWriter, *http.Request) {
		done := make(chan struct{})
		go func() { hangHere(release); close(done) }()
		<-done
	})
	mux.HandleFunc("/context", func(w http.ResponseWriter, r *http.Request) {
		hangHere(r.Context().Done())
		io.WriteString(w, context.Cause(r.Context()).Error())
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	return mux
}

// client returns a client that connects through p.
func (p pipes) client(t *http.Transport) *http.Client {
	t.DialContext = func(context.Context, string, string) (conn net.Conn, err error) {
		defer func() {
			if recover() != nil { // a retry after the end: p is closed
				conn, err = nil, net.ErrClosed
			}
		}()
		client, server := net.Pipe()
		p <- hasty{server}
		return hasty{client}, nil
	}
	return &http.Client{Transport: t}
}

// A hasty is an end of a pipe that does not send the goodbye of TLS. Two ends
// of a pipe that send it at the same time would wait for each other.
type hasty struct{ net.Conn }

func (c hasty) Write(b []byte) (int, error) {
	const alert = 21 // the type of a record, up to TLS 1.2
	if len(b) > 0 && b[0] == alert {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// TestStacksOfHandlers uses handlers that hold up the shutdown, with each
// protocol. Their stacks are in the report, and no other stacks.
func TestStacksOfHandlers(t *testing.T) {
	certificate := func() tls.Certificate {
		s := httptest.NewTLSServer(nil)
		defer s.Close()
		return s.TLS.Certificates[0]
	}()
	h1, h2 := new(http.Protocols), new(http.Protocols)
	h1.SetHTTP1(true)
	h2.SetHTTP2(true)

	for _, protocol := range []struct {
		name      string
		scheme    string
		protocols *http.Protocols
	}{
		{"HTTP1", "http", h1},
		{"HTTPS1", "https", h1},
		{"HTTPS2", "https", h2},
		{"H2C", "http", h2c},
	} {
		for _, c := range []struct {
			path string
			want []string // one for each stack
		}{
			{"/hang", []string{"3 goroutines of api:"}},
			{"/tracked", []string{"3 goroutines of api:"}},
			{"/labelled", []string{"3 goroutines of api:"}},
			// These end when their context is cancelled.
			{"/context", nil},
			{"/within", []string{"3 goroutines of api:", "3 goroutines of api:"}},
			// So do these, but not the goroutines that they have started.
			{"/timeout", []string{"3 goroutines of api:"}},
		} {
			t.Run(protocol.name+c.path, func(t *testing.T) {
				// In Go 1.25, HTTP/2 keeps channels in a sync.Pool. They must
				// not leave the bubble. Two collections empty the pool.
				defer runtime.GC()
				defer runtime.GC()
				synctest.Test(t, func(t *testing.T) {
					var logged bytes.Buffer
					q := &quit.QuitEvent{Logger: slog.New(slog.NewJSONHandler(&logged, nil))}
					release := make(chan struct{})
					ln := make(pipes)
					var listener net.Listener = ln
					if protocol.scheme == "https" {
						listener = tls.NewListener(ln, &tls.Config{
							Certificates: []tls.Certificate{certificate},
							NextProtos:   []string{"h2", "http/1.1"},
						})
					}
					srv := &http.Server{
						Handler:   stuckHandlers(q, release),
						Protocols: protocol.protocols,
					}
					quithttp.Serve(q, srv, listener, quit.Name("api"))

					// Another event's server has a handler that hangs too.
					other := quietEvent()
					otherLn := make(pipes)
					quithttp.Serve(other, &http.Server{
						Handler: stuckHandlers(other, release),
					}, otherLn, quit.Name("api"))
					go func() {
						res, err := otherLn.client(new(http.Transport)).Get("http://x/hang")
						if err == nil {
							res.Body.Close()
						}
					}()

					client := ln.client(&http.Transport{
						Protocols: protocol.protocols,
						TLSClientConfig: &tls.Config{
							InsecureSkipVerify: true,
							MaxVersion:         tls.VersionTLS12,
						},
					})
					answers := make(chan string, 3)
					ask := func(path string) string {
						res, err := client.Get(protocol.scheme + "://x" + path)
						if err != nil {
							return err.Error()
						}
						defer res.Body.Close()
						body, _ := io.ReadAll(res.Body)
						return string(body)
					}
					if got := ask("/"); got != "ok" {
						t.Fatalf("GET = %q", got)
					}
					for range 3 {
						go func() { answers <- ask(c.path) }()
					}
					synctest.Wait()

					busy := "3 requests"
					err := q.Shutdown(context.Background())
					site := q.Report().Steps[0].Site
					want := "quit: api (" + site + "): no time left for " + busy +
						": context deadline exceeded"
					if !errors.Is(err, context.DeadlineExceeded) ||
						!strings.HasPrefix(err.Error(), want) {
						t.Errorf("Shutdown() = %v, want %s", err, want)
					}
					r := q.Report()
					s := r.Steps[0]
					if s.Abandoned || !errors.Is(s.Err, context.DeadlineExceeded) {
						t.Errorf("the step's error: %#v, abandoned %v", s.Err, s.Abandoned)
					}
					if c.want != nil {
						c.want = append(c.want, "quithttp_test.hangHere\n",
							"quithttp_test.stuckHandlers.func", "quithttp/stacks_test.go:")
					}
					for _, want := range c.want {
						if !strings.Contains(s.Stacks, want) {
							t.Errorf("the stacks do not have %q", want)
						}
					}
					if n := strings.Count(s.Stacks, " of "); n != max(len(c.want)-3, 0) {
						t.Errorf("%d stacks, want %d", n, len(c.want))
					}
					for _, other := range []string{"Read\n", "readFrames\n", ").serve\n",
						"Shutdown", "quithttp.", "serverHandler"} {
						// One of the two stacks of /timeout belongs to net/http
						// alone.
						if c.path != "/timeout" && strings.Contains(s.Stacks, other) {
							t.Errorf("the stacks have %q", other)
						}
					}
					if t.Failed() {
						t.Errorf("the stacks:\n%s", s.Stacks)
					}
					text := strings.ReplaceAll("\n"+s.Stacks, "\n", "\n    ")
					text = strings.TrimSpace(strings.ReplaceAll(text, "\t", "    "))
					if !strings.Contains(r.String(), text) {
						t.Errorf("the stacks are not in the report:\n%s", r)
					}
					record := recordOf(t, &logged, "quit: step failed")
					if stacks, _ := record["stacks"].(string); stacks != s.Stacks {
						t.Errorf("the record of the failure has stacks %q", stacks)
					}
					for range 3 {
						got := <-answers
						answered := strings.Contains(got, "no time left for the request")
						if answered != (c.path == "/context") && c.path != "/timeout" {
							t.Errorf("the client got %q", got)
						}
					}

					close(release)
					other.GracefulStop()
					client.CloseIdleConnections()
					time.Sleep(time.Minute) // until TLS gives up its goodbye
				})
			})
		}
	}
}

// recordOf returns the first record in the log with the message.
func recordOf(t *testing.T, logged *bytes.Buffer, msg string) map[string]any {
	t.Helper()
	for line := range strings.Lines(logged.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if record["msg"] == msg {
			return record
		}
	}
	t.Errorf("there is no record of %q in\n%s", msg, logged)
	return nil
}

// TestStacksOfHijacked uses a tracked handler that hangs after it has hijacked
// its connection. The server does not wait for it. The drain does, and the
// report has its stack.
func TestStacksOfHijacked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		release := make(chan struct{})
		ln := make(pipes)
		quithttp.Serve(q, &http.Server{Handler: quithttp.Track(q, http.HandlerFunc(func(
			w http.ResponseWriter, _ *http.Request,
		) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			hangHere(release)
		}))}, ln)
		conn, _ := ln.open()
		synctest.Wait()
		q.GracefulStop()
		steps := q.Report().Steps
		if s := steps[0]; s.Err != nil || s.Stacks != "" {
			t.Errorf("the server's step: %v, stacks:\n%s", s.Err, s.Stacks)
		}
		if s := steps[1]; s.Err == nil || !strings.Contains(s.Stacks, "1 goroutine of serve :0:") ||
			!strings.Contains(s.Stacks, "quithttp_test.hangHere\n") {
			t.Errorf("the drain's step: %v, stacks:\n%s", s.Err, s.Stacks)
		}
		close(release)
		conn.Close()
	})
}

// TestStacksOfTracked uses a tracked handler that hangs, in a server that Serve
// serves for another event and in one that it does not serve.
func TestStacksOfTracked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		served, q := quietEvent(), quietEvent()
		served.Timeout = time.Second
		release := make(chan struct{})
		srv := &http.Server{Handler: quithttp.Track(q, http.HandlerFunc(func(
			w http.ResponseWriter, r *http.Request,
		) {
			hangHere(release)
		}))}
		ln, own := make(pipes), make(pipes)
		quithttp.Serve(served, srv, ln)
		plain := &http.Server{Handler: srv.Handler}
		go plain.Serve(own)
		conn, _ := ln.open()
		ownConn, _ := own.open()
		synctest.Wait()

		served.GracefulStop()
		if s := served.Report().Steps[0]; !strings.Contains(s.Stacks, "1 goroutine of serve :0:") {
			t.Errorf("the server's step: %v, stacks:\n%s", s.Err, s.Stacks)
		}
		q.GracefulStop()
		s := q.Report().Steps[0]
		for _, want := range []string{"1 goroutine of serve :0:", "1 goroutine of request:",
			"quithttp_test.hangHere\n"} {
			if !strings.Contains(s.Stacks, want) {
				t.Errorf("the drain's step: %v, stacks without %q:\n%s", s.Err, want, s.Stacks)
			}
		}
		close(release)
		conn.Close()
		ownConn.Close()
		plain.Close()
	})
}

// TestTrackRestoresLabels checks that a handler has its own labels, and that
// the previous ones are restored after it.
func TestTrackRestoresLabels(t *testing.T) {
	q := quietEvent()
	ctx := pprof.WithLabels(t.Context(), pprof.Labels("own", "1"))
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	labels := func() string { return labelsOf("TestTrackRestoresLabels") }
	pprof.SetGoroutineLabels(ctx)
	defer pprof.SetGoroutineLabels(context.Background())
	before, during := labels(), ""
	quithttp.Track(q, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		during = labels()
	})).
		ServeHTTP(httptest.NewRecorder(), r)
	if !strings.Contains(during, `"own":"1"`) || !strings.Contains(during, `"quit":"request"`) {
		t.Errorf("labels of the handler's goroutine: %s", during)
	}
	if after := labels(); before == "" || after != before {
		t.Errorf("labels after the handler: %s, want %s as before it", after, before)
	}
}

// labelsOf returns the labels of the goroutine that runs the test.
func labelsOf(test string) string {
	var b bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&b, 1)
	for record := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(record, test) {
			_, rest, _ := strings.Cut(record, "# labels: ")
			line, _, _ := strings.Cut(rest, "\n")
			return line
		}
	}
	return ""
}

// TestTrackLeavesLabels checks that labels of a goroutine that are not in the
// context of its request are kept, if the server has labelled both for q.
func TestTrackLeavesLabels(t *testing.T) {
	q := quietEvent()
	ctx := stacks.Label(t.Context(), "api", stacks.ID(q))
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels("own", "1")))
	defer pprof.SetGoroutineLabels(context.Background())
	before, during := labelsOf(t.Name()), ""
	quithttp.Track(q, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		during = labelsOf(t.Name())
	})).
		ServeHTTP(httptest.NewRecorder(), r)
	if !strings.Contains(before, `"own":"1"`) || during != before {
		t.Errorf("labels of the handler's goroutine: %s, want %s as before it", during, before)
	}
	if after := labelsOf(t.Name()); after != before {
		t.Errorf("labels after the handler: %s, want %s as before it", after, before)
	}
}

// TestStacksOfNewConnection uses a client that sends nothing to a server that
// is shut down by [http.Server.Shutdown] alone. The connection has no handler,
// and holds up the shutdown nonetheless.
func TestStacksOfNewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		ln := make(pipes)
		quithttp.Serve(q, new(http.Server), ln, quit.Timeout(time.Second), quithttp.Linger(0))
		client, server := net.Pipe()
		ln <- server
		synctest.Wait()
		if err := q.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v", err)
		}
		stacks := q.Report().Steps[0].Stacks
		if !strings.Contains(stacks, "1 goroutine of serve :0:") ||
			!strings.Contains(stacks, "net/http.(*conn).readRequest\n") ||
			strings.Count(stacks, " of ") != 1 {
			t.Errorf("the stacks:\n%s", stacks)
		}
		client.Close()
	})
}

// TestStacksOfAbandoned uses a listener that hangs when it is closed, and a
// handler that hangs. The step of the server is abandoned. Its stacks show
// both.
func TestStacksOfAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, release := quietEvent(), make(chan struct{})
		ln := fakeListener{make(pipes), new(atomic.Int32), nil, time.Hour}
		quithttp.Serve(q, quietServer(stuckHandlers(q, release)), ln, quit.Name("api"))
		ln.dial(t).send("GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(time.Minute)
		q.GracefulStop()
		s := q.Report().Steps[0]
		if !s.Abandoned || !strings.Contains(s.Stacks, "quithttp_test.hangHere\n") ||
			!strings.Contains(s.Stacks, "quithttp_test.fakeListener.Close\n") {
			t.Errorf("abandoned: %v, stacks:\n%s", s.Abandoned, s.Stacks)
		}
		close(release)
		time.Sleep(2 * time.Hour) // until the listener is closed
	})
}

// TestStacksOnlyOfFailures uses a server that is shut down in time, and one
// whose failure is ignored. Neither has stacks.
func TestStacksOnlyOfFailures(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var logged bytes.Buffer
			q := &quit.QuitEvent{
				Logger: slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{
					Level: slog.LevelDebug,
				})),
			}
			release := make(chan struct{})
			ln := make(pipes)
			quithttp.Serve(q, &http.Server{
				Handler: stuckHandlers(q, release),
			}, ln, quit.Ignore(context.DeadlineExceeded))
			client := ln.client(new(http.Transport))
			go func() {
				if res, err := client.Get("http://x/hang"); err == nil {
					res.Body.Close()
				}
			}()
			synctest.Wait()
			if !hangs {
				time.AfterFunc(time.Second, func() { close(release) })
			}
			if err := q.Shutdown(context.Background()); err != nil {
				t.Errorf("Shutdown() = %v", err)
			}
			for _, s := range q.Report().Steps {
				if s.Stacks != "" {
					t.Errorf("step %s has stacks:\n%s", s.Name, s.Stacks)
				}
			}
			if strings.Contains(logged.String(), `"step":"*http.Server","stacks"`) ||
				strings.Contains(logged.String(), "hangHere") {
				t.Errorf("there are stacks in the log:\n%s", &logged)
			}
			if hangs {
				close(release)
			}
			client.CloseIdleConnections()
		})
	}
}

// TestStacksOfDrainBesideAdmin uses an AfterDrain server, and a worker that
// hangs. Only the worker holds up the drain.
func TestStacksOfDrainBesideAdmin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln, release := quietEvent(), make(pipes), make(chan struct{})
		quithttp.Serve(q, quietServer(answered), ln, quit.AfterDrain(), quit.Name("admin"))
		q.Go(func(context.Context) error { <-release; return nil }, quit.Name("worker"))
		ln.dial(t).ask(false)
		if err := q.Shutdown(t.Context()); err == nil ||
			!strings.Contains(err.Error(), "1 goroutine left") {
			t.Errorf("Shutdown() = %v, want it to tell of the worker", err)
		}
		for _, s := range q.Report().Steps {
			if s.Name != "drain" {
				continue
			}
			if !strings.Contains(s.Stacks, "1 goroutine of worker:") ||
				strings.Contains(s.Stacks, "of admin:") {
				t.Errorf("the drain was held up by\n%s", s.Stacks)
			}
		}
		close(release)
	})
}

// TestTrackOwnsOnce makes Track count a request whose goroutine Serve has
// already labelled for q. Track leaves the labels as they are: this costs
// nothing, and a handler keeps them when it calls pprof.Do. An AfterDrain
// server does not hold up the drain, so Serve does not label its requests for
// q.
func TestTrackOwnsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := quietEvent()
		owned := func(opts ...quit.Option) bool {
			ln, seen := make(pipes), make(chan bool, 1)
			h := quithttp.Track(q, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen <- stacks.OwnedBy(r.Context(), stacks.ID(q))
				answered.ServeHTTP(w, r)
			}))
			quithttp.Serve(q, quietServer(h), ln, opts...)
			ln.dial(t).ask(false)
			return <-seen
		}
		if !owned() {
			t.Error("Serve has not labelled the request for q")
		}
		if owned(quit.AfterDrain()) {
			t.Error("Serve has labelled the request for q, and q does not wait for it")
		}
		q.Shutdown(t.Context())
	})
}
