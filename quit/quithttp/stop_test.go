package quithttp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// linger is the default of quithttp.Linger.
const linger = 250 * time.Millisecond

// A wire is the client's end of a connection.
type wire struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func newWire(t *testing.T, conn net.Conn) *wire {
	t.Cleanup(func() { conn.Close() })
	return &wire{conn, t, bufio.NewReader(conn)}
}

// h2c is HTTP/2 without TLS. With both, a server has HTTP/1 too.
var h2c, both = protocols(false), protocols(true)

func protocols(http1 bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	p.SetHTTP1(http1)
	return p
}

// dial connects to the server that accepts from p.
func (p pipes) dial(t *testing.T) *wire {
	t.Helper()
	client, server := net.Pipe()
	p <- server
	return newWire(t, client)
}

const getSlash = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func (w *wire) send(s string) {
	w.t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		w.t.Errorf("sending %q: %v", s, err)
	}
}

// answer returns the body of the next answer, and whether the answer says that
// it is the last on the connection.
func (w *wire) answer() (body string, last bool) {
	w.t.Helper()
	res, err := http.ReadResponse(w.r, nil)
	if err != nil {
		w.t.Errorf("reading an answer: %v", err)
		return "", false
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Errorf("reading the body of an answer: %v", err)
	}
	return string(b), res.Close
}

// wantAnswer checks that the next answer is "answered", and whether it is the
// last.
func (w *wire) wantAnswer(last bool) {
	w.t.Helper()
	if body, closes := w.answer(); body != "answered" || closes != last {
		w.t.Errorf("answer = %q, Connection: close %v, want %q, %v", body, closes, "answered", last)
	}
}

// ask sends a request and checks its answer.
func (w *wire) ask(last bool) {
	w.t.Helper()
	w.send(getSlash)
	w.wantAnswer(last)
}

// wantEnd checks that the connection ends without another byte.
func (w *wire) wantEnd() {
	w.t.Helper()
	if b, err := io.ReadAll(w.r); err != nil || len(b) > 0 {
		w.t.Errorf("read %q, %v, want the end of the connection", b, err)
	}
}

var answered = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	io.WriteString(w, "answered")
})

func quietServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
}

// http2Server is quietServer with HTTP/2, too.
func http2Server(h http.Handler) *http.Server {
	srv := quietServer(h)
	srv.Protocols = both
	return srv
}

// servePipes serves h for a new event, on pipes.
func servePipes(h http.Handler, opts ...quit.Option) (*quit.QuitEvent, pipes) {
	q, ln := quietEvent(), make(pipes)
	quithttp.Serve(q, quietServer(h), ln, opts...)
	return q, ln
}

// stopTakes shuts q down, and checks that this succeeds and takes the given
// time.
func stopTakes(t *testing.T, q *quit.QuitEvent, want time.Duration) {
	t.Helper()
	start := time.Now()
	if err := q.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
	if took := time.Since(start); took != want {
		t.Errorf("the stop took %v, want %v", took, want)
	}
}

// inBubble is synctest.Test, for tests of HTTP/2 too. In Go 1.25, HTTP/2 keeps
// channels in a sync.Pool. They must neither enter nor leave a bubble. Two
// collections empty the pool.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	collect := func() { runtime.GC(); runtime.GC() }
	collect()
	defer collect()
	synctest.Test(t, f)
}

// bubble runs each test in a bubble of its own.
func bubble[T any](t *testing.T, tests map[string]T, f func(*testing.T, T)) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { f(t, test) })
		})
	}
}

// TestStopTakes checks that a stop waits for a new or idle connection for as
// long as its client may need, and not a moment longer.
func TestStopTakes(t *testing.T) {
	idle := func(gaps ...time.Duration) func(*testing.T, pipes) {
		return func(t *testing.T, ln pipes) {
			w := ln.dial(t)
			w.ask(false)
			for _, gap := range gaps[:len(gaps)-1] {
				time.Sleep(gap)
				w.ask(false)
			}
			time.Sleep(gaps[len(gaps)-1])
		}
	}
	const ms = time.Millisecond
	bubble(t, map[string]struct {
		before func(*testing.T, pipes)
		opts   []quit.Option
		want   time.Duration
	}{
		"nothing connected": {
			before: func(*testing.T, pipes) {},
			want:   0,
		},
		"closed by the client": {
			before: func(t *testing.T, ln pipes) {
				w := ln.dial(t)
				w.ask(false)
				w.Close()
				time.Sleep(7 * time.Second)
			},
			want: 0,
		},
		"silent": {
			before: func(t *testing.T, ln pipes) { time.Sleep(time.Minute); ln.dial(t) },
			want:   linger,
		},
		"silent for a while": {
			before: func(t *testing.T, ln pipes) {
				time.Sleep(time.Minute)
				ln.dial(t)
				time.Sleep(100 * ms)
			},
			want: linger - 100*ms,
		},
		"silent for a minute": {
			before: func(t *testing.T, ln pipes) { ln.dial(t); time.Sleep(time.Minute) },
			want:   0,
		},
		"half a request": {
			before: func(t *testing.T, ln pipes) {
				w := ln.dial(t)
				w.send(getSlash[:20])
				go io.Copy(io.Discard, w) // the answer is 400, and the connection ends
			},
			want: linger,
		},
		"asked once, just now": {
			before: idle(0),
			want:   linger,
		},
		"asked once, within a millisecond": { // which counts from its end
			before: func(t *testing.T, ln pipes) {
				time.Sleep(ms / 4)
				idle(0)(t, ln)
			},
			want: linger + ms*3/4,
		},
		"idle for a while": {
			before: idle(10*ms, 100*ms),
			want:   linger - 100*ms,
		},
		"idle for a minute": {
			before: idle(0, time.Minute),
			want:   0,
		},
		"idle for a minute, after as long": {
			before: idle(time.Minute, time.Minute),
			want:   0,
		},
		"every 300 ms": {
			before: idle(300*ms, 300*ms, 0),
			want:   900 * ms,
		},
		"every 300 ms, for a while": {
			before: idle(300*ms, 300*ms, 200*ms),
			want:   700 * ms,
		},
		"every 300 ms, but not lately": {
			before: idle(300*ms, 300*ms, 100*ms, 0),
			want:   300 * ms,
		},
		"every 10 s": {
			before: idle(10*time.Second, 10*time.Second, 0),
			want:   4 * linger,
		},
		"Linger": {
			before: idle(0),
			opts:   []quit.Option{quithttp.Linger(3 * time.Second)},
			want:   3 * time.Second,
		},
		"Linger twice": {
			before: idle(0),
			opts: []quit.Option{nil, quithttp.Linger(3 * time.Second), quit.Name("api"),
				quithttp.Linger(2 * time.Second), quit.Timeout(time.Minute)},
			want: 2 * time.Second,
		},
		"Linger, every 10 s": {
			before: idle(10*time.Second, 10*time.Second, 0),
			opts:   []quit.Option{quithttp.Linger(time.Second)},
			want:   4 * time.Second,
		},
		"no Linger": {
			before: idle(0),
			opts:   []quit.Option{quithttp.Linger(0)},
			want:   0,
		},
		"Linger below zero": {
			before: idle(0),
			opts:   []quit.Option{quithttp.Linger(-time.Second)},
			want:   0,
		},
		"Linger longer than there is time": { // an eighth of the share, which is 4/5 of the time
			before: idle(0),
			opts:   []quit.Option{quithttp.Linger(time.Hour), quit.Timeout(8 * time.Second)},
			want:   time.Second,
		},
	}, func(t *testing.T, test struct {
		before func(*testing.T, pipes)
		opts   []quit.Option
		want   time.Duration
	}) {
		q, ln := servePipes(answered, test.opts...)
		test.before(t, ln)
		synctest.Wait()
		stopTakes(t, q, test.want)
	})
}

// TestStopWithoutDeadline uses a stop that is bounded by the linger alone.
func TestStopWithoutDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := servePipes(answered)
		q.Timeout = -1
		w := ln.dial(t)
		w.ask(false)
		stopTakes(t, q, linger)
		w.wantEnd()
	})
}

// TestStopAnswers uses requests that come while their connections linger. Each
// is answered, and the answer says that it is the last.
func TestStopAnswers(t *testing.T) {
	const ms = time.Millisecond
	bubble(t, map[string]struct {
		before, during func(*wire)
		want           time.Duration // that the stop takes
	}{
		"idle": {
			before: func(w *wire) { w.ask(false) },
			during: func(w *wire) { time.Sleep(100 * ms); w.ask(true) },
			want:   100 * ms,
		},
		"new": {
			during: func(w *wire) { time.Sleep(100 * ms); w.ask(true) },
			want:   100 * ms,
		},
		"in the last millisecond": {
			before: func(w *wire) { w.ask(false) },
			during: func(w *wire) { time.Sleep(linger - time.Nanosecond); w.ask(true) },
			want:   linger - time.Nanosecond,
		},
		"of a client that asks seldom": {
			before: func(w *wire) { w.ask(false); time.Sleep(time.Second); w.ask(false) },
			during: func(w *wire) { time.Sleep(4*linger - ms); w.ask(true) },
			want:   4*linger - ms,
		},
		"in two halves": {
			before: func(w *wire) { w.send(getSlash[:10]) },
			during: func(w *wire) {
				time.Sleep(100 * ms)
				w.send(getSlash[10:])
				w.wantAnswer(true)
			},
			want: 100 * ms,
		},
		"with a body that comes later": {
			during: func(w *wire) {
				time.Sleep(200 * ms)
				w.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
				time.Sleep(time.Second)
				w.send("a job")
				w.wantAnswer(true)
			},
			want: 1200 * ms,
		},
		"that expects to be told to continue": {
			during: func(w *wire) {
				time.Sleep(200 * ms)
				w.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" +
					"Expect: 100-continue\r\n\r\n")
				for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
					if line, err := w.r.ReadString('\n'); line != want {
						w.t.Errorf("read %q, %v, want %q", line, err, want)
					}
				}
				time.Sleep(time.Second)
				w.send("a job")
				w.wantAnswer(true)
			},
			want: 1200 * ms,
		},
		"of HTTP/1.0 that is kept": {
			before: func(w *wire) {
				w.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
				w.wantAnswer(false)
			},
			during: func(w *wire) {
				time.Sleep(100 * ms)
				w.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
				w.wantAnswer(true)
			},
			want: 100 * ms,
		},
		"that is refused": {
			during: func(w *wire) {
				time.Sleep(100 * ms)
				w.send("nonsense\r\n\r\n")
				if body, last := w.answer(); !last || !strings.Contains(body, "400 Bad Request") {
					w.t.Errorf("answer = %q, Connection: close %v", body, last)
				}
			},
			want: 100 * ms,
		},
	}, func(t *testing.T, test struct {
		before, during func(*wire)
		want           time.Duration
	}) {
		q, ln := servePipes(answered)
		w := ln.dial(t)
		if test.before != nil {
			test.before(w)
		}
		synctest.Wait()
		var client sync.WaitGroup
		client.Go(func() {
			test.during(w)
			w.wantEnd()
		})
		stopTakes(t, q, test.want)
		client.Wait()
	})
}

// TestStopPool uses a client with a pool: some connections have been idle for
// long, and one is used. As long as one connection is used, the client may use
// any of them, but not for ever.
func TestStopPool(t *testing.T) {
	const ms = time.Millisecond
	bubble(t, map[string]struct {
		used []time.Duration // after the stop begins, each on another connection
		want time.Duration
	}{
		"before the stop": {nil, linger - 50*ms},
		"once":            {[]time.Duration{100 * ms}, 100*ms + linger},
		"often":           {[]time.Duration{100 * ms, 200 * ms, 300 * ms}, 300*ms + linger},
		"for ever": {
			[]time.Duration{100 * ms, 300 * ms, 500 * ms, 700 * ms, 900 * ms}, 4 * linger,
		},
	}, func(t *testing.T, test struct {
		used []time.Duration
		want time.Duration
	}) {
		q, ln := servePipes(answered)
		silent := ln.dial(t)
		var pool []*wire
		for range 7 {
			w := ln.dial(t)
			w.ask(false)
			pool = append(pool, w)
		}
		time.Sleep(time.Minute)
		pool[6].ask(false)
		pool[6].ask(false) // a second time: it must not look like one that is used once a minute
		time.Sleep(50 * ms)
		var client sync.WaitGroup
		client.Go(func() {
			start := time.Now()
			for i, at := range test.used {
				time.Sleep(time.Until(start.Add(at)))
				pool[i].ask(true)
			}
			silent.wantEnd()
			for _, w := range pool {
				w.wantEnd()
			}
		})
		stopTakes(t, q, test.want)
		client.Wait()
	})
}

// TestStopPoolBusy uses a client with a pool, in which one connection has been
// idle for long, and another has a request that is being answered.
func TestStopPoolBusy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := servePipes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				time.Sleep(10 * time.Second)
			}
			answered(w, r)
		}))
		idle, busy := ln.dial(t), ln.dial(t)
		idle.ask(false)
		time.Sleep(time.Minute)
		busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
		synctest.Wait()
		var client sync.WaitGroup
		start := time.Now()
		client.Go(func() {
			idle.wantEnd()
			if took := time.Since(start); took != linger {
				t.Errorf("the idle connection ended after %v, want %v", took, linger)
			}
			busy.wantAnswer(true)
		})
		stopTakes(t, q, 10*time.Second)
		client.Wait()
	})
}

// TestStopBusy uses a request that is being answered when the stop begins, with
// or without another behind it.
func TestStopBusy(t *testing.T) {
	for _, pipelined := range []bool{false, true} {
		for _, takes := range []time.Duration{linger / 2, 2 * linger, 10 * time.Second} {
			t.Run(fmt.Sprintf("pipelined %v, takes %v", pipelined, takes), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					var once sync.Once
					q, ln := servePipes(http.HandlerFunc(func(
						w http.ResponseWriter, r *http.Request,
					) {
						once.Do(func() { time.Sleep(takes) })
						io.WriteString(w, "answered")
					}))
					w := ln.dial(t)
					w.send(getSlash)
					synctest.Wait()
					var client sync.WaitGroup
					if pipelined {
						client.Go(func() { io.WriteString(w, getSlash) })
					}
					client.Go(func() {
						// Once Shutdown is called, net/http tells the client.
						late := takes > linger
						w.wantAnswer(late)
						if pipelined && !late {
							w.wantAnswer(true)
						}
					})
					want := takes
					if !pipelined && takes < linger {
						want += max(3*takes, linger) // idle from then on
					}
					stopTakes(t, q, want)
					client.Wait()
				})
			})
		}
	}
}

// A slowConn returns from Read after a delay, as on a busy machine.
type slowConn struct {
	net.Conn
	delay *atomic.Int64
}

func (c slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(time.Duration(c.delay.Load()))
	return n, err
}

// TestStopBusyMachine uses a request that is sent in time, and a server that
// handles it after the end of the linger. It is answered nonetheless.
func TestStopBusyMachine(t *testing.T) {
	const ms = time.Millisecond
	bubble(t, map[string]struct {
		read, change time.Duration // how long each takes
		sent         time.Duration // after the stop begins
	}{
		"reading takes long":               {read: 5 * ms, sent: linger - 2*ms},
		"a change of state takes long":     {change: 5 * ms, sent: linger - 2*ms},
		"a change that comes after linger": {change: 5 * ms, sent: 3 * linger},
	}, func(t *testing.T, test struct{ read, change, sent time.Duration }) {
		q, ln := quietEvent(), make(pipes)
		srv := quietServer(answered)
		srv.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateActive && q.HasFired() {
				time.Sleep(test.change)
			}
		}
		quithttp.Serve(q, srv, ln)
		delay := new(atomic.Int64)
		client, server := net.Pipe()
		ln <- slowConn{server, delay}
		w := newWire(t, client)
		w.ask(false)
		if test.sent > linger {
			time.Sleep(time.Second)
			w.ask(false)
		}
		delay.Store(int64(test.read))
		var asked sync.WaitGroup
		asked.Go(func() {
			time.Sleep(test.sent)
			w.ask(true)
		})
		// net/http reads again after a request, so Read is delayed twice.
		stopTakes(t, q, test.sent+2*test.read+test.change)
		asked.Wait()
	})
}

// TestStopReadTwice uses a connection whose time is over twice, each time just
// when a request is being read. Both requests are answered.
func TestStopReadTwice(t *testing.T) {
	const ms = time.Millisecond
	inBubble(t, func(t *testing.T) {
		q, ln := quietEvent(), make(pipes)
		quithttp.Serve(q, quietServer(http.HandlerFunc(func(
			w http.ResponseWriter, r *http.Request,
		) {
			if r.Header.Get("Last") == "" {
				w.Header().Del("Connection") // so the connection has another request
			}
			answered(w, r)
		})), ln)
		seldom := ln.dial(t) // keeps the stop from ending
		seldom.ask(false)
		time.Sleep(time.Minute)
		delay := new(atomic.Int64)
		client, server := net.Pipe()
		ln <- slowConn{server, delay}
		w := newWire(t, client)
		seldom.ask(false)
		w.ask(false)
		idle := time.Now()
		time.Sleep(linger - 10*ms)
		delay.Store(int64(5 * ms))
		var asked sync.WaitGroup
		asked.Go(func() {
			time.Sleep(10*ms - 2*ms)
			w.ask(false)
			time.Sleep(5 * ms) // net/http reads again after a request
			time.Sleep(3*time.Since(idle) - 2*ms)
			w.send("GET / HTTP/1.1\r\nHost: x\r\nLast: 1\r\n\r\n")
			w.wantAnswer(true)
			w.wantEnd()
			seldom.Close()
		})
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		asked.Wait()
	})
}

// A deafConn is a connection without deadlines. It refuses or ignores them.
type deafConn struct {
	net.Conn
	err error
}

func (c deafConn) SetReadDeadline(time.Time) error { return c.err }

// TestStopWithoutDeadlines checks that silent connections without deadlines are
// closed.
func TestStopWithoutDeadlines(t *testing.T) {
	short := []quit.Option{quithttp.Linger(time.Hour), quit.Timeout(8 * time.Second)}
	bubble(t, map[string]struct {
		err  error
		opts []quit.Option
		want time.Duration
	}{
		"refused":                {errors.ErrUnsupported, nil, linger},
		"ignored":                {nil, nil, 2 * linger},
		"refused, short of time": {errors.ErrUnsupported, short, time.Second},
		"ignored, short of time": {nil, short, time.Second + 50*time.Millisecond},
	}, func(t *testing.T, test struct {
		err  error
		opts []quit.Option
		want time.Duration
	}) {
		q, ln := servePipes(answered, test.opts...)
		client, server := net.Pipe()
		ln <- deafConn{server, test.err}
		synctest.Wait()
		stopTakes(t, q, test.want)
		newWire(t, client).wantEnd()
	})
}

// A rawless is a connection whose SyscallConn fails.
type rawless struct{ net.Conn }

func (rawless) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

// TestStopRawless uses a silent connection without a descriptor.
func TestStopRawless(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := servePipes(answered)
		client, server := net.Pipe()
		ln <- rawless{server}
		synctest.Wait()
		stopTakes(t, q, linger)
		newWire(t, client).wantEnd()
	})
}

// An uncomparable cannot be the key of a map.
type uncomparable struct {
	net.Conn
	_ []int
}

// TestStopUncomparable uses a connection that cannot be the key of a map, so
// the stop cannot track it. Its request is awaited nonetheless.
func TestStopUncomparable(t *testing.T) {
	for _, wait := range []time.Duration{0, linger} {
		inBubble(t, func(t *testing.T) {
			q, ln := servePipes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(10 * time.Second)
				if r.Context().Err() != nil {
					t.Error("the request was cancelled")
				}
				answered(w, r)
			}), quithttp.Linger(wait))
			client, server := net.Pipe()
			ln <- uncomparable{Conn: server}
			w := newWire(t, client)
			w.send(getSlash)
			synctest.Wait()
			ended := make(chan error)
			go func() { ended <- q.Shutdown(context.Background()) }()
			w.wantAnswer(true)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStopSlowloris uses many clients that send a byte now and then, and never
// a whole request. The stop takes no longer than the linger.
func TestStopSlowloris(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := servePipes(answered)
		var clients sync.WaitGroup
		for range 1000 {
			w := ln.dial(t)
			clients.Go(func() {
				io.WriteString(w, getSlash[:len(getSlash)-2]+"Slow: ")
				for {
					if _, err := io.WriteString(w, "x"); err != nil {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		synctest.Wait()
		stopTakes(t, q, linger)
		clients.Wait()
	})
}

// TestStopHijack uses an upgrade while its connection lingers. The client is
// not told that the connection ends, and the drain alone waits for it.
func TestStopHijack(t *testing.T) {
	for _, refused := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			q, ln := quietEvent(), make(pipes)
			h := quithttp.Track(q, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") == "" || refused {
					answered(w, r)
					return
				}
				conn, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				// A server of another protocol may report the states that
				// follow, as that of golang.org/x/net/http2/h2c does.
				srv := r.Context().Value(http.ServerContextKey).(*http.Server)
				for _, state := range []http.ConnState{
					http.StateActive, http.StateIdle, http.StateClosed,
				} {
					srv.ConnState(conn, state)
				}
				rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n\r\n")
				rw.Flush()
				line, err := rw.ReadString('\n') // has no deadline of the stop
				if line != "over\n" || r.Context().Err() != nil {
					t.Errorf("the hijacked connection read %q, %v, its context: %v",
						line, err, r.Context().Err())
				}
			}))
			quithttp.Serve(q, quietServer(h), ln)
			w := ln.dial(t)
			w.ask(false)
			var client sync.WaitGroup
			client.Go(func() {
				time.Sleep(linger / 2)
				w.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
				if refused {
					w.wantAnswer(false)
					time.Sleep(linger / 2)
					w.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
					w.wantAnswer(true)
					return
				}
				for range 2 {
					w.r.ReadString('\n')
				}
				time.Sleep(time.Minute)
				w.send("over\n")
				w.wantEnd()
			})
			stopTakes(t, q, map[bool]time.Duration{
				true:  linger,
				false: linger/2 + time.Minute,
			}[refused])
			if s := q.Report().Steps[0]; !refused && s.End.Sub(s.Start) != linger/2 {
				t.Errorf("the server's step took %v, want %v", s.End.Sub(s.Start), linger/2)
			}
			client.Wait()
		})
	}
}

// TestStopAbort uses a handler that aborts, with its connection hijacked or
// not.
func TestStopAbort(t *testing.T) {
	for _, hijacks := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			q, ln := servePipes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if hijacks {
					conn, _, _ := http.NewResponseController(w).Hijack()
					conn.Close()
				}
				panic(http.ErrAbortHandler)
			}))
			w := ln.dial(t)
			var client sync.WaitGroup
			client.Go(func() {
				time.Sleep(linger / 2)
				w.send(getSlash)
				w.wantEnd()
			})
			stopTakes(t, q, linger/2)
			client.Wait()
		})
	}
}

// A fakeListener counts how often it is closed.
type fakeListener struct {
	pipes
	closed *atomic.Int32
	err    error         // of Accept
	takes  time.Duration // how long Close does
}

func (l fakeListener) Accept() (net.Conn, error) {
	if l.err != nil {
		return nil, l.err
	}
	return l.pipes.Accept()
}

func (l fakeListener) Close() error {
	time.Sleep(l.takes)
	if l.closed.Add(1) == 1 {
		return l.pipes.Close()
	}
	return net.ErrClosed
}

// TestStopClosesListener checks that a listener is closed once, however the
// server ends. Then the shutdown ends.
func TestStopClosesListener(t *testing.T) {
	broken := errors.New("accept is broken")
	bubble(t, map[string]struct {
		accept error
		takes  time.Duration // the end of the listener
		serve  func(*quit.QuitEvent, *http.Server, net.Listener, ...quit.Option)
		during func(*testing.T, *quit.QuitEvent, *http.Server, pipes)
		opts   []quit.Option
		want   error
	}{
		"nothing connected": {},
		"no linger":         {opts: []quit.Option{quithttp.Linger(0)}},
		"connected": {
			during: func(t *testing.T, _ *quit.QuitEvent, _ *http.Server, ln pipes) {
				ln.dial(t).ask(false)
			},
		},
		"closed by the program": {
			during: func(_ *testing.T, _ *quit.QuitEvent, srv *http.Server, _ pipes) {
				srv.Close()
			},
		},
		"broken": {
			accept: broken,
			want:   broken,
		},
		"no certificate": {
			serve: func(q *quit.QuitEvent, srv *http.Server, ln net.Listener, opts ...quit.Option) {
				quithttp.ServeTLS(q, srv, ln, "no such file", "", opts...)
			},
			want: errAny,
		},
		"no certificate, no linger": {
			serve: func(q *quit.QuitEvent, srv *http.Server, ln net.Listener, opts ...quit.Option) {
				quithttp.ServeTLS(q, srv, ln, "no such file", "", opts...)
			},
			takes: time.Second,
			opts:  []quit.Option{quithttp.Linger(0)},
			want:  errAny,
		},
		"after the fire": {
			serve: func(q *quit.QuitEvent, srv *http.Server, ln net.Listener, opts ...quit.Option) {
				q.Fire()
				quithttp.Serve(q, srv, ln, opts...)
			},
		},
	}, func(t *testing.T, test struct {
		accept error
		takes  time.Duration // the end of the listener
		serve  func(*quit.QuitEvent, *http.Server, net.Listener, ...quit.Option)
		during func(*testing.T, *quit.QuitEvent, *http.Server, pipes)
		opts   []quit.Option
		want   error
	}) {
		q := quietEvent()
		ln := fakeListener{make(pipes), new(atomic.Int32), test.accept, test.takes}
		srv := quietServer(answered)
		if test.serve == nil {
			test.serve = quithttp.Serve
		}
		test.serve(q, srv, ln, test.opts...)
		synctest.Wait()
		if test.during != nil {
			test.during(t, q, srv, ln.pipes)
		}
		synctest.Wait()
		err := q.Shutdown(context.Background())
		if (test.want == nil) != (err == nil) || test.want != errAny && !errors.Is(err, test.want) {
			t.Errorf("Shutdown() = %v, want %v", err, test.want)
		}
		if n := ln.closed.Load(); n != 1 {
			t.Errorf("the listener was closed %d times, want once", n)
		}
	})
}

var errAny = errors.New("any")

// A firingListener calls fire when Serve asks for its address. At that point
// the server is registered and does not serve yet.
type firingListener struct {
	net.Listener
	fire func()
}

func (l firingListener) Addr() net.Addr { l.fire(); return l.Listener.Addr() }

// TestServeFiredMeanwhile begins the shutdown while Serve is running. The
// shutdown takes only as long as the listener takes to close, and the fields of
// the server are unchanged.
func TestServeFiredMeanwhile(t *testing.T) {
	for wait, closing := range map[time.Duration]time.Duration{0: time.Second, linger: 0} {
		inBubble(t, func(t *testing.T) {
			q := quietEvent()
			inner := fakeListener{make(pipes), new(atomic.Int32), nil, closing}
			var fire sync.Once
			var took time.Duration
			ended := make(chan error)
			ln := firingListener{inner, func() {
				fire.Do(func() {
					go func() {
						start := time.Now()
						err := q.Shutdown(context.Background())
						took = time.Since(start)
						ended <- err
					}()
					synctest.Wait()
				})
			}}
			srv := quietServer(nil)
			quithttp.Serve(q, srv, ln, quithttp.Linger(wait))
			if err := <-ended; err != nil || took != closing {
				t.Errorf("Shutdown() = %v after %v, want nil after %v", err, took, closing)
			}
			if n := inner.closed.Load(); n != 1 {
				t.Errorf("the listener was closed %d times, want once", n)
			}
			if srv.Handler != nil || srv.BaseContext != nil || srv.ConnContext != nil ||
				srv.ConnState != nil {
				t.Error("the fields of a server that is not served were changed")
			}
		})
	}
}

// TestServeSetsFields checks that Serve has set the fields when it returns.
func TestServeSetsFields(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := quietEvent()
		srv := quietServer(nil)
		quithttp.Serve(q, srv, make(pipes))
		// Reading them is not a race either.
		if srv.Handler == nil || srv.BaseContext == nil || srv.ConnContext == nil ||
			srv.ConnState == nil {
			t.Error("Serve has not set the fields yet")
		}
		q.GracefulStop()
	})
}

// TestServeDefaultMux uses a server without a Handler.
func TestServeDefaultMux(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		defer func(old *http.ServeMux) { http.DefaultServeMux = old }(http.DefaultServeMux)
		http.DefaultServeMux = http.NewServeMux()
		http.Handle("/of-a-test", answered)
		q, ln := servePipes(nil)
		w := ln.dial(t)
		w.send("GET /of-a-test HTTP/1.1\r\nHost: x\r\n\r\n")
		w.wantAnswer(false)
		q.GracefulStop()
	})
}

// TestServeClosedByProgram uses a program that closes its server itself. The
// event does not fire.
func TestServeClosedByProgram(t *testing.T) {
	bubble(t, map[string]func(*http.Server) error{
		"Close":    (*http.Server).Close,
		"Shutdown": func(srv *http.Server) error { return srv.Shutdown(context.Background()) },
	}, func(t *testing.T, end func(*http.Server) error) {
		q, ln := quietEvent(), make(pipes)
		srv := quietServer(answered)
		quithttp.Serve(q, srv, ln)
		ln.dial(t).ask(false)
		if err := end(srv); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if r := q.Report(); len(r.Steps) != 1 || r.Goroutines != 0 || q.HasFired() {
			t.Errorf("something is left, or the program ends:\n%v", r)
		}
		stopTakes(t, q, 0)
	})
}

// TestServeListenerClosedByProgram uses a program that closes the listener of
// its server. This is a failure, as it is in net/http. A request that is being
// answered is awaited, and not a moment longer.
func TestServeListenerClosedByProgram(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := quietEvent(), fakeListener{pipes: make(pipes), closed: new(atomic.Int32)}
		quithttp.Serve(q, quietServer(http.HandlerFunc(func(
			w http.ResponseWriter, r *http.Request,
		) {
			time.Sleep(10 * time.Second)
			answered(w, r)
		})), ln, quithttp.Linger(0))
		w := ln.dial(t)
		w.send(getSlash)
		synctest.Wait()
		ln.Close()
		<-q.Done()
		var client sync.WaitGroup
		client.Go(func() { w.wantAnswer(true) })
		start := time.Now()
		if err := q.Shutdown(context.Background()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Shutdown() = %v, want %v", err, net.ErrClosed)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("the stop took %v, want 10s", took)
		}
		client.Wait()
	})
}

// TestOnShutdownOnce uses a hook that panics if it runs twice, and a request
// that outlives the server's share.
func TestOnShutdownOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := quietEvent(), make(pipes)
		q.Timeout = 10 * time.Second
		release, hook := make(chan struct{}), make(chan struct{})
		srv := quietServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		srv.RegisterOnShutdown(func() { close(hook) })
		quithttp.Serve(q, srv, ln)
		ln.dial(t).send(getSlash)
		synctest.Wait()
		if err := q.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v", err)
		}
		<-hook
		close(release)
	})
}

// TestAfterDrainServes uses an admin server. It answers during the drain, which
// does not wait for its goroutine, and is shut down after it.
func TestAfterDrainServes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := servePipes(answered, quit.AfterDrain(), quit.Name("admin"))
		synctest.Wait()
		if r := q.Report(); r.Goroutines != 0 || len(r.Steps) != 2 || r.Steps[1].Name != "admin" ||
			r.Steps[1].Phase != quit.PhaseAfterDrain {
			t.Errorf("the plan:\n%v", r)
		}
		q.AddGoroutine()
		ended := make(chan error)
		go func() { ended <- q.Shutdown(context.Background()) }()
		time.Sleep(time.Minute)
		w := ln.dial(t)
		w.ask(false) // during the drain
		w.Close()
		time.Sleep(10 * time.Second)
		q.DoneGoroutine()
		released := time.Now()
		if err := <-ended; err != nil || time.Since(released) != 0 {
			t.Errorf("Shutdown() = %v, %v after the drain, want nil at once",
				err, time.Since(released))
		}
		r := q.Report()
		if drain, admin := r.Steps[0], r.Steps[1]; r.Goroutines != 0 || drain.End != released ||
			admin.Start != released || admin.End != released {
			t.Errorf("the server was not stopped after the drain:\n%v", r)
		}
	})
}

// TestServeFailures uses servers that fail before they are shut down.
func TestServeFailures(t *testing.T) {
	broken := errors.New("accept is broken")
	bubble(t, map[string]struct {
		accept error
		base   func(net.Listener) context.Context
		opts   []quit.Option
		want   string
	}{
		"listener": {
			accept: broken,
			want:   "goroutine api: accept is broken",
		},
		"listener after the drain": {
			accept: broken,
			opts:   []quit.Option{quit.AfterDrain()},
			want:   "goroutine api: accept is broken",
		},
		"ignored": {
			accept: broken,
			opts:   []quit.Option{quit.Ignore(broken)},
		},
		"BaseContext": {
			base: func(net.Listener) context.Context { panic("no context") },
			want: "no context",
		},
		"BaseContext after the drain": {
			base: func(net.Listener) context.Context { panic("no context") },
			opts: []quit.Option{quit.AfterDrain()},
			want: "no context",
		},
	}, func(t *testing.T, test struct {
		accept error
		base   func(net.Listener) context.Context
		opts   []quit.Option
		want   string
	}) {
		q, ln := quietEvent(), fakeListener{make(pipes), new(atomic.Int32), test.accept, 0}
		srv := quietServer(answered)
		srv.BaseContext = test.base
		quithttp.Serve(q, srv, ln, append(test.opts, quit.Name("api"))...)
		synctest.Wait()
		if q.HasFired() != (test.want != "") {
			t.Errorf("fired: %v", q.HasFired())
		}
		start := time.Now()
		err := q.Shutdown(context.Background())
		if (err == nil) != (test.want == "") ||
			err != nil && !strings.Contains(err.Error(), test.want) || time.Since(start) != 0 {
			t.Errorf("Shutdown() = %v after %v, want %q at once", err, time.Since(start), test.want)
		}
		if r := q.Report(); r.Goroutines != 0 {
			t.Errorf("goroutines are left, or counted twice:\n%v", r)
		}
		if n := ln.closed.Load(); n != 1 {
			t.Errorf("the listener was closed %d times, want once", n)
		}
	})
}

// failsOnce is a listener whose first Accept fails.
type failsOnce struct {
	fakeListener
	failed atomic.Bool
}

func (l *failsOnce) Accept() (net.Conn, error) {
	if l.failed.CompareAndSwap(false, true) {
		return nil, l.err
	}
	return l.pipes.Accept()
}

// TestServeFailsOnce checks that the error of a listener is reported, even if
// another Accept would not fail.
func TestServeFailsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		broken := errors.New("accept is broken")
		q := quietEvent()
		ln := &failsOnce{
			fakeListener: fakeListener{pipes: make(pipes), closed: new(atomic.Int32), err: broken},
		}
		quithttp.Serve(q, quietServer(answered), ln)
		synctest.Wait()
		if q.Cause() != broken {
			t.Errorf("Cause() = %v, want %v", q.Cause(), broken)
		}
		q.GracefulStop()
	})
}

// TestServeCallsHooks checks that the hooks that the program has set in its
// server are called as net/http calls them, with the listener of the program.
func TestServeCallsHooks(t *testing.T) {
	for _, stops := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			type key string
			q, ln := quietEvent(), make(pipes)
			var states []http.ConnState
			var listener net.Listener
			var conns []net.Conn
			srv := quietServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Context().Value(key("base")) != 1 || r.Context().Value(key("conn")) != 2 ||
					r.Context().Value(http.ServerContextKey) == nil {
					t.Error("the request's context does not have the values of the program")
				}
				answered(w, r)
			}))
			srv.BaseContext = func(l net.Listener) context.Context {
				listener = l
				return context.WithValue(context.Background(), key("base"), 1)
			}
			srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
				conns = append(conns, conn)
				return context.WithValue(ctx, key("conn"), 2)
			}
			srv.ConnState = func(conn net.Conn, state http.ConnState) {
				if conn != conns[0] {
					t.Errorf("ConnState is called with %v, want %v", conn, conns[0])
				}
				states = append(states, state)
			}
			quithttp.Serve(q, srv, ln)
			w := ln.dial(t)
			w.ask(false)
			if stops {
				go func() { time.Sleep(time.Millisecond); w.ask(true) }()
				q.GracefulStop()
			} else {
				w.ask(false)
				w.Close()
			}
			synctest.Wait()
			if l, ok := listener.(pipes); !ok || l != ln || len(conns) != 1 {
				t.Errorf("BaseContext got %T, ConnContext %v", listener, conns)
			}
			want := "[new active idle active idle closed]"
			if stops {
				want = "[new active idle active closed]"
			}
			if got := fmt.Sprint(states); got != want {
				t.Errorf("states = %v, want %v", got, want)
			}
			q.GracefulStop()
		})
	}
}

// TestServeNilConnContext uses a ConnContext that returns nil, for which
// net/http panics.
func TestServeNilConnContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := quietEvent(), make(pipes)
		srv := quietServer(answered)
		srv.ConnContext = func(context.Context, net.Conn) context.Context { return nil }
		quithttp.Serve(q, srv, ln)
		_, server := net.Pipe()
		ln <- server
		<-q.Done()
		if err := q.Shutdown(context.Background()); err == nil ||
			!strings.Contains(err.Error(), "ConnContext returned nil") {
			t.Errorf("Shutdown() = %v", err)
		}
	})
}

// TestTimeUpBeforeStacks checks that requests are told that their time has run
// out before stacks are taken, since that can take long.
func TestTimeUpBeforeStacks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var told atomic.Int64
		looks := stacks.Looks()
		release := make(chan struct{})
		q, ln := servePipes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			if stacks.Looks() != looks {
				t.Error("stacks were taken before a request was told")
			}
			told.Add(1)
			<-release
		}))
		q.Timeout = 10 * time.Second
		for i := range 5 {
			w := ln.dial(t)
			if i == 0 { // a request that net/http answers itself
				w.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
				w.answer()
			}
			w.send(getSlash)
		}
		synctest.Wait()
		if err := q.Shutdown(context.Background()); err == nil ||
			!strings.Contains(err.Error(), "no time left for 5 requests") {
			t.Errorf("Shutdown() = %v", err)
		}
		if n := told.Load(); n != 5 || stacks.Looks() == looks {
			t.Errorf("%d requests were told, %d looks at the stacks", n, stacks.Looks()-looks)
		}
		close(release)
	})
}

// TestHijackedOutlivesRequests uses a slow request, whose context is cancelled
// at the end of the server's share. The contexts of hijacked connections live
// on until the end of the drain's share.
func TestHijackedOutlivesRequests(t *testing.T) {
	for _, own := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			q, ln := quietEvent(), make(pipes)
			q.Timeout = 20 * time.Second
			slow, hijacked := make(chan time.Time, 1), make(chan time.Time, 3)
			srv := quietServer(quithttp.Track(q, http.HandlerFunc(func(
				w http.ResponseWriter, r *http.Request,
			) {
				if r.URL.Path == "/slow" {
					<-r.Context().Done()
					slow <- time.Now()
					return
				}
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				<-r.Context().Done()
				hijacked <- time.Now()
			})))
			if own {
				srv.BaseContext = func(net.Listener) context.Context { return context.Background() }
			}
			quithttp.Serve(q, srv, ln)
			ln.dial(t).send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
			for range 3 {
				ln.dial(t).send(getSlash)
			}
			synctest.Wait()
			if err := q.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown() = %v", err)
			}
			r := q.Report()
			server, drain := r.Steps[0], r.Steps[1]
			if at := <-slow; at != server.Deadline {
				t.Errorf("the context of a request ended at %v, want the end of the share, %v",
					at, server.Deadline)
			}
			for range 3 {
				if at := <-hijacked; at != drain.Deadline {
					t.Errorf("the context of a hijacked connection ended at %v, want %v",
						at, drain.Deadline)
				}
			}
			if r.Goroutines != 0 {
				t.Errorf("%d goroutines are left", r.Goroutines)
			}
		})
	}
}

// A parent is a context that counts the contexts that are derived from it.
type parent struct {
	context.Context
	children atomic.Int64
}

func (p *parent) AfterFunc(f func()) func() bool {
	p.children.Add(1)
	stop := context.AfterFunc(p.Context, f)
	return func() bool {
		p.children.Add(-1)
		return stop()
	}
}

// Value hides the context within. Package context would bypass AfterFunc if it
// found that.
func (p *parent) Value(any) any { return nil }

// TestContextsEnd checks that no context outlives its connection.
func TestContextsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		own, cancel := context.WithCancel(context.Background())
		defer cancel()
		p := &parent{Context: own}
		q, ln := quietEvent(), make(pipes)
		srv := quietServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hijack" {
				conn, _, _ := http.NewResponseController(w).Hijack()
				conn.Close()
				if r.Context().Err() != nil {
					t.Error("the context ended before the handler")
				}
				return
			}
			answered(w, r)
		}))
		srv.ConnContext = func(context.Context, net.Conn) context.Context { return p }
		quithttp.Serve(q, srv, ln)
		for range 100 {
			ln.dial(t).send("GET /hijack HTTP/1.1\r\nHost: x\r\n\r\n")
			w := ln.dial(t)
			w.ask(false)
			w.Close()
		}
		synctest.Wait()
		if n := p.children.Load(); n != 0 {
			t.Errorf("%d contexts are left of connections that are gone", n)
		}
		w := ln.dial(t)
		w.ask(false)
		if p.children.Load() == 0 {
			t.Error("the contexts are not counted")
		}
		q.GracefulStop()
	})
}

// TestStopHTTP2Endless uses a stream of HTTP/2 that never ends. The context of
// its request is cancelled, and then the connection is closed.
func TestStopHTTP2Endless(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := quietEvent(), make(pipes)
		q.Timeout = 20 * time.Second
		told := make(chan time.Time, 1)
		release := make(chan struct{})
		srv := quietServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			told <- time.Now()
			<-release
		}))
		srv.Protocols = h2c
		quithttp.Serve(q, srv, ln)
		res, err := ln.client(&http.Transport{Protocols: h2c}).Get("http://x/")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := q.Shutdown(context.Background()); err == nil ||
			!strings.Contains(err.Error(), "no time left for 1 request:") {
			t.Errorf("Shutdown() = %v", err)
		}
		s := q.Report().Steps[0]
		if at := <-told; s.Abandoned || at != s.Deadline {
			t.Errorf("the request was told at %v, want %v; abandoned: %v",
				at, s.Deadline, s.Abandoned)
		}
		if took, want := s.End.Sub(s.Deadline), s.Deadline.Sub(s.Start)/16; took != want {
			t.Errorf("the connection was closed %v later, want %v", took, want)
		}
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("the stream ended as if it was whole")
		}
		close(release)
	})
}

// TestStopHTTP2Tells uses a connection of HTTP/2 that is used now and then. The
// answer to the next request tells its client that the connection ends, and
// Shutdown is called after that. A client that keeps the connection does not
// hold it up.
func TestStopHTTP2Tells(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			q, ln := quietEvent(), make(pipes)
			srv := http2Server(answered)
			var shutdown time.Time
			srv.RegisterOnShutdown(func() { shutdown = time.Now() })
			quithttp.Serve(q, srv, ln)
			var asked sync.WaitGroup
			client := ln.client(&http.Transport{Protocols: h2c})
			ask := func() { wantAnswered(t, client, "http://x/") }
			want := linger / 2
			if keeps {
				// An idle connection is ended a linger after the last request.
				ln.dial(t).ask(false)
				want += linger
				w := ln.dial(t)
				w.send(http2Preface)
				asked.Go(func() { io.Copy(io.Discard, w) })
				stream := '\x01'
				ask = func() {
					// A frame of headers: GET http://x/.
					w.send("\x00\x00\x06\x01\x05\x00\x00\x00" + string(stream) +
						"\x82\x86\x84\x41\x01x")
					stream += 2
				}
			}
			ask()
			synctest.Wait()
			start := time.Now()
			asked.Go(func() {
				time.Sleep(linger / 2)
				ask()
			})
			if err := q.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			asked.Wait()
			synctest.Wait()
			if after := shutdown.Sub(start); after != want {
				t.Errorf("keeps %v: Shutdown was called after %v, want %v", keeps, after, want)
			}
		})
	}
}

// TestStopHTTP2Regular uses a connection of HTTP/2 with a request at regular
// times, which are longer apart than the linger. The next request is answered.
func TestStopHTTP2Regular(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := quietEvent(), make(pipes)
		srv := http2Server(answered)
		quithttp.Serve(q, srv, ln)
		client := ln.client(&http.Transport{Protocols: h2c})
		ask := func() { wantAnswered(t, client, "http://x/") }
		for range 3 {
			ask()
			time.Sleep(2 * linger)
		}
		ask()
		var asked sync.WaitGroup
		asked.Go(func() {
			time.Sleep(2 * linger)
			ask()
		})
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		asked.Wait()
	})
}

// http2Preface is what a client of HTTP/2 sends first. Its settings are empty.
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// TestStopHTTP2 uses a connection of HTTP/2 that is idle, or has a request that
// takes longer than the linger. The request is answered.
func TestStopHTTP2(t *testing.T) {
	for _, busy := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			q, ln := quietEvent(), make(pipes)
			srv := quietServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					time.Sleep(10 * time.Second)
				}
				answered(w, r)
			}))
			srv.Protocols = h2c
			quithttp.Serve(q, srv, ln)
			client := ln.client(&http.Transport{Protocols: h2c})
			wantAnswered(t, client, "http://x/")
			time.Sleep(7 * time.Second)
			var asked sync.WaitGroup
			if busy {
				asked.Go(func() { wantAnswered(t, client, "http://x/slow") })
			}
			synctest.Wait()
			if err := q.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			asked.Wait()
		})
	}
}

// TestStopHandshakes uses clients of TLS whose handshake takes long, or never
// ends.
func TestStopHandshakes(t *testing.T) {
	bubble(t, map[string]struct {
		before func(*wire)
		takes  time.Duration // the handshake; -1 means for ever
		asks   bool
		want   time.Duration
	}{
		"silent": {
			takes: -1,
			want:  4 * linger,
		},
		"begun": {
			before: func(w *wire) { w.send("\x16\x03\x01\x02\x00\x01\x00") },
			takes:  -1,
			want:   4 * linger,
		},
		"slow": {
			takes: 3 * linger,
			asks:  true,
			want:  3*linger + linger/2,
		},
		"slow, and then silent": {
			takes: 3 * linger,
			want:  4 * linger,
		},
	}, func(t *testing.T, test struct {
		before func(*wire)
		takes  time.Duration
		asks   bool
		want   time.Duration
	}) {
		q, ln := quietEvent(), make(pipes)
		srv := quietServer(answered)
		srv.TLSConfig = certified()
		quithttp.ServeTLS(q, srv, ln, "", "")
		w := ln.dial(t)
		if test.before != nil {
			test.before(w)
		}
		synctest.Wait()
		var client sync.WaitGroup
		client.Go(func() {
			if test.takes < 0 {
				io.Copy(io.Discard, w) // an alert at most
				return
			}
			time.Sleep(test.takes)
			c := tls.Client(w.Conn, &tls.Config{
				InsecureSkipVerify: true,
				NextProtos:         []string{"http/1.1"},
			})
			if err := c.Handshake(); err != nil {
				t.Errorf("the handshake: %v", err)
			}
			w.Conn, w.r = c, bufio.NewReader(c)
			if test.asks {
				time.Sleep(linger / 2)
				w.ask(true)
			}
			w.wantEnd()
		})
		stopTakes(t, q, test.want)
		client.Wait()
		time.Sleep(time.Minute) // until TLS gives up its goodbye
	})
}

// TestStopKeepsReadTimeout uses a request that is read at the moment when its
// connection is ended. The time to read its body is the same as without a stop.
func TestStopKeepsReadTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{0, 10 * time.Second} {
		inBubble(t, func(t *testing.T) {
			q, ln := quietEvent(), make(pipes)
			var took time.Duration
			srv := quietServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				start := time.Now()
				io.Copy(io.Discard, r.Body)
				took = time.Since(start)
			}))
			srv.ReadTimeout = timeout
			quithttp.Serve(q, srv, ln)
			delay := new(atomic.Int64)
			delay.Store(int64(2 * time.Millisecond))
			client, server := net.Pipe()
			ln <- slowConn{server, delay}
			w := newWire(t, client)
			var asked sync.WaitGroup
			asked.Go(func() {
				time.Sleep(linger - time.Millisecond)
				w.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
				time.Sleep(20 * time.Second)
				io.WriteString(w, "a job")
			})
			asked.Go(func() { io.Copy(io.Discard, w) })
			if err := q.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			asked.Wait()
			want := 20 * time.Second
			if timeout > 0 {
				want = timeout + 2*time.Millisecond // the error of Read is delayed too
			}
			if took != want {
				t.Errorf("ReadTimeout %v: reading the body took %v, want %v", timeout, took, want)
			}
		})
	}
}

// TestServeForgetsConnections checks that a running server keeps nothing of
// closed connections.
func TestServeForgetsConnections(t *testing.T) {
	q, ln := servePipes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hijack" {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				conn.Close()
			}
		}
	}))
	const n = 10
	collected := make(chan int, 2*n)
	for range n {
		for _, path := range []string{"/", "/hijack"} {
			client, server := net.Pipe()
			conn := &struct{ net.Conn }{server}
			runtime.AddCleanup(conn, func(int) { collected <- 1 }, 0)
			ln <- conn
			fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
			io.Copy(io.Discard, client)
			client.Close()
		}
	}
	for began, left := time.Now(), 2*n; left > 0; {
		runtime.GC()
		select {
		case <-collected:
			left--
		case <-time.After(10 * time.Millisecond):
			if time.Since(began) > generous {
				t.Fatalf("%d of %d connections are still there", left, 2*n)
			}
		}
	}
	q.GracefulStop()
}

// TestStopNotTold uses a handler that removes the header "Connection: close".
// Then the connection may have another request, which is answered.
func TestStopNotTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := quietEvent(), make(pipes)
		var n int
		srv := quietServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n++; n < 3 {
				w.Header().Del("Connection")
			}
			answered(w, r)
		}))
		srv.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateActive {
				time.Sleep(5 * time.Millisecond) // longer than the stop needs for the next step
			}
		}
		quithttp.Serve(q, srv, ln)
		other, w := ln.dial(t), ln.dial(t)
		w.ask(false)
		var client sync.WaitGroup
		client.Go(func() {
			for _, last := range []bool{false, true} {
				time.Sleep(100 * time.Millisecond)
				w.ask(last)
			}
		})
		client.Go(func() { // keeps the stop from ending
			time.Sleep(207 * time.Millisecond)
			other.Close()
		})
		stopTakes(t, q, 210*time.Millisecond)
		client.Wait()
	})
}

// TestStopCallsHooks uses requests that end when a hook of the program tells
// them that the server is shut down. The hook is called without waiting for
// them.
func TestStopCallsHooks(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			q, ln := quietEvent(), make(pipes)
			hook := make(chan struct{})
			var hooked time.Time
			srv := quietServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).Flush()
				<-hook
				answered(w, r)
			}))
			srv.RegisterOnShutdown(func() { hooked = time.Now(); close(hook) })
			transport := &http.Transport{DisableKeepAlives: true}
			want := linger / 2 // when the answer tells the client
			if http2 {
				srv.Protocols, transport.Protocols, want = h2c, h2c, linger
			}
			quithttp.Serve(q, srv, ln)
			client := ln.client(transport)
			var asked sync.WaitGroup
			if http2 {
				asked.Go(func() { wantAnswered(t, client, "http://x/") })
			} else {
				w := ln.dial(t)
				asked.Go(func() {
					time.Sleep(linger / 2)
					w.ask(true)
				})
			}
			if http2 {
				time.Sleep(7 * time.Second)
			}
			synctest.Wait()
			start := time.Now()
			if err := q.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			<-hook
			if took := hooked.Sub(start); took != want {
				t.Errorf("HTTP/2 %v: the hook was called after %v, want %v", http2, took, want)
			}
			asked.Wait()
		})
	}
}

func wantAnswered(t *testing.T, client *http.Client, url string) {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		t.Error(err)
		return
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); string(b) != "answered" || err != nil {
		t.Errorf("answer %q, %v", b, err)
	}
}

// TestStopHTTP2Idle uses an idle connection of HTTP/2 beside one that lingers.
// Its client can use it until it is told that the connection ends.
func TestStopHTTP2Idle(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := quietEvent(), make(pipes)
		srv := http2Server(answered)
		quithttp.Serve(q, srv, ln)
		client := ln.client(&http.Transport{Protocols: h2c})
		wantAnswered(t, client, "http://x/")
		time.Sleep(time.Minute)
		ln.dial(t) // sends nothing
		synctest.Wait()
		var asked sync.WaitGroup
		asked.Go(func() {
			time.Sleep(linger / 2)
			wantAnswered(t, client, "http://x/")
		})
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		asked.Wait()
	})
}

// TestStopSlowReader uses a client that is slow to read an answer, whose
// handler has returned before the stop. The client gets all of the answer, and
// can send another request.
func TestStopSlowReader(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := servePipes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Context().Err() != nil {
				t.Error("the context of the request is cancelled")
			}
			answered(w, r)
		}))
		slow, other := ln.dial(t), ln.dial(t)
		other.ask(false)
		slow.send(getSlash)
		time.Sleep(time.Minute)
		var client sync.WaitGroup
		client.Go(func() {
			time.Sleep(10 * time.Second)
			slow.wantAnswer(false)
			slow.wantEnd()
		})
		client.Go(other.wantEnd)
		stopTakes(t, q, 10*time.Second)
		client.Wait()
	})
	inBubble(t, func(t *testing.T) {
		q, ln := servePipes(answered)
		w := ln.dial(t)
		w.send(getSlash)
		time.Sleep(time.Minute)
		var client sync.WaitGroup
		client.Go(func() {
			time.Sleep(linger / 2)
			w.wantAnswer(false)
			time.Sleep(linger / 2)
			w.ask(true)
		})
		stopTakes(t, q, linger)
		client.Wait()
	})
}

// TestStopHTTP2Unused uses a connection of HTTP/2 without a request so far. Its
// client is told before the connection ends.
func TestStopHTTP2Unused(t *testing.T) {
	for _, idle := range []time.Duration{0, time.Minute} {
		inBubble(t, func(t *testing.T) {
			q, ln := quietEvent(), make(pipes)
			srv := http2Server(answered)
			quithttp.Serve(q, srv, ln)
			w := ln.dial(t)
			var client sync.WaitGroup
			client.Go(func() {
				const goAway = 7
				told := false
				for {
					var header [9]byte // of a frame: its length, its type and more
					if _, err := io.ReadFull(w.r, header[:]); err != nil {
						break
					}
					told = told || header[3] == goAway
					io.CopyN(io.Discard, w.r,
						int64(header[0])<<16|int64(header[1])<<8|int64(header[2]))
				}
				if !told {
					t.Errorf("idle for %v: the connection ended without a GOAWAY", idle)
				}
			})
			w.send(http2Preface)
			time.Sleep(idle)
			synctest.Wait()
			if err := q.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			client.Wait()
		})
	}
}

// TestStopShortOfTime gives the stop less time than the linger. When it is
// over, new and idle connections are ended, and busy ones are not.
func TestStopShortOfTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q, ln := quietEvent(), make(pipes)
		srv := http2Server(answered)
		quithttp.Serve(q, srv, ln, quithttp.Linger(time.Hour), quit.Timeout(8*time.Second))
		silent, idle, busy := ln.dial(t), ln.dial(t), ln.dial(t)
		multiplexed := ln.client(&http.Transport{Protocols: h2c})
		idle.ask(false)
		busy.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
		body, sent := io.Pipe()
		var clients sync.WaitGroup
		clients.Go(func() {
			res, err := multiplexed.Post("http://x/", "text/plain", body)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if b, err := io.ReadAll(res.Body); string(b) != "answered" {
				t.Errorf("answer %q, %v", b, err)
			}
		})
		clients.Go(func() {
			start := time.Now()
			time.Sleep(time.Millisecond)
			idle.wantEnd()
			silent.wantEnd() // Shutdown would wait for it
			// One second is an eighth of the share. Go 1.25 sets another
			// deadline on a new connection.
			if ended := time.Since(start); ended < time.Second ||
				ended > time.Second+50*time.Millisecond {
				t.Errorf("what is idle was ended after %v, want 1s", ended)
			}
			time.Sleep(time.Second)
			busy.send("a job")
			busy.wantAnswer(true)
			io.WriteString(sent, "a job")
			sent.Close()
		})
		synctest.Wait()
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		clients.Wait()
	})
}

// A closable is a listener that may be closed while a test connects to it.
type closable struct {
	pipes
	closed chan struct{}
}

func (l closable) Accept() (net.Conn, error) {
	select {
	case conn := <-l.pipes:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l closable) Close() error { close(l.closed); return nil }

// TestStopOtherListener uses a listener that cannot report pending connections.
// If one came recently, it accepts connections for a moment longer.
func TestStopOtherListener(t *testing.T) {
	bubble(t, map[string]struct {
		age    time.Duration // of the last connection
		accept bool          // whether another one is
	}{
		"just now":       {0, true},
		"5 seconds past": {5 * time.Second, true},
		"6 seconds past": {6 * time.Second, false},
		"a minute past":  {time.Minute, false},
	}, func(t *testing.T, test struct {
		age    time.Duration
		accept bool
	}) {
		q, ln := quietEvent(), closable{make(pipes), make(chan struct{})}
		quithttp.Serve(q, quietServer(answered), ln)
		first := ln.dial(t)
		first.ask(false)
		first.Close()
		time.Sleep(test.age)
		ended := make(chan error, 1)
		go func() { ended <- q.Shutdown(context.Background()) }()
		synctest.Wait()
		client, server := net.Pipe()
		accepted := false
		select {
		case <-ln.closed:
		case ln.pipes <- server:
			accepted = true
			newWire(t, client).ask(true)
		}
		if accepted != test.accept {
			t.Errorf("another connection is accepted: %v, want %v", accepted, test.accept)
		}
		if err := <-ended; err != nil {
			t.Errorf("Shutdown() = %v", err)
		}
	})
}
