package quithttp_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// BenchmarkRequest measures a request on a connection that is kept alive. Over
// loopback, the connection is a real one. In memory, the cost of quithttp is
// easiest to see.
func BenchmarkRequest(b *testing.B) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "ok")
	})
	ways := []struct {
		name  string
		serve func(net.Listener) (stop func())
	}{
		{"quit", func(ln net.Listener) func() {
			q := &quit.QuitEvent{Logger: slog.New(slog.DiscardHandler)}
			quithttp.Serve(q, &http.Server{Handler: answer}, ln)
			return q.GracefulStop
		}},
		{"quit.Track", func(ln net.Listener) func() {
			q := &quit.QuitEvent{Logger: slog.New(slog.DiscardHandler)}
			quithttp.Serve(q, &http.Server{Handler: quithttp.Track(q, answer)}, ln)
			return q.GracefulStop
		}},
		{"baseline=net_http", func(ln net.Listener) func() {
			srv := &http.Server{Handler: answer}
			go srv.Serve(ln) // ends when stop is called
			return func() { srv.Close() }
		}},
	}
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, way := range ways {
		b.Run(way.name+"/memory", func(b *testing.B) {
			conn := &endless{request: request, left: b.N, end: make(chan struct{})}
			ln := make(pipes, 1)
			ln <- conn
			stop := way.serve(ln)
			<-conn.end
			b.StopTimer()
			stop()
		})
	}
	for _, way := range ways {
		b.Run(way.name+"/loopback", func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			stop := way.serve(ln)
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			r := bufio.NewReader(conn)
			for b.Loop() {
				io.WriteString(conn, request)
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
			}
			conn.Close()
			stop()
		})
	}
}

// BenchmarkTracked measures the cost that quithttp adds to a request.
func BenchmarkTracked(b *testing.B) {
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	tracked, ctx := quithttp.Tracked(h)
	// net/http derives these contexts for a connection and for its request.
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, new(net.TCPAddr))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, cancelRequest := context.WithCancel(ctx)
	defer cancelRequest()
	r = r.WithContext(ctx)
	b.Run("quit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tracked(w, r)
		}
	})
	b.Run("baseline=handler", func(b *testing.B) {
		for b.Loop() {
			h.ServeHTTP(w, r)
		}
	})
}

// An endless is the connection of a client that sends its requests without
// waiting for an answer.
type endless struct {
	net.Conn
	request string
	left    int // the number of requests that are still to be read
	rest    string
	end     chan struct{} // closed when the server has closed the connection
}

func (c *endless) Read(p []byte) (int, error) {
	if c.rest == "" {
		if c.left == 0 {
			return 0, io.EOF
		}
		c.left--
		c.rest = c.request
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *endless) Write(p []byte) (int, error)      { return len(p), nil }
func (c *endless) Close() error                     { close(c.end); return nil }
func (c *endless) LocalAddr() net.Addr              { return new(net.TCPAddr) }
func (c *endless) RemoteAddr() net.Addr             { return new(net.TCPAddr) }
func (c *endless) SetDeadline(time.Time) error      { return nil }
func (c *endless) SetReadDeadline(time.Time) error  { return nil }
func (c *endless) SetWriteDeadline(time.Time) error { return nil }
