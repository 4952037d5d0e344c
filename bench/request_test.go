package bench_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2/log"
	kratoshttp "github.com/go-kratos/kratos/v2/transport/http"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func BenchmarkRequest(b *testing.B) {
	answer := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }
	request := func(serve func(net.Listener) (stop func())) func(b *testing.B, over string) {
		return func(b *testing.B, over string) {
			if over == "memory" {
				requestInMemory(b, serve)
			} else {
				requestOverLoopback(b, serve)
			}
		}
	}
	compare(b, []string{"memory", "loopback"},
		way[string]{peer: "quit", run: request(func(ln net.Listener) func() {
			q := &quit.QuitEvent{Logger: slog.New(slog.DiscardHandler)}
			quithttp.Serve(q, &http.Server{Handler: http.HandlerFunc(answer)}, ln)
			return q.GracefulStop
		})},
		way[string]{peer: "quit.Track", run: request(func(ln net.Listener) func() {
			q := &quit.QuitEvent{Logger: slog.New(slog.DiscardHandler)}
			quithttp.Serve(q,
				&http.Server{Handler: quithttp.Track(q, http.HandlerFunc(answer))}, ln)
			return q.GracefulStop
		})},
		way[string]{peer: "hand", run: request(func(ln net.Listener) func() {
			srv := &http.Server{Handler: http.HandlerFunc(answer)}
			go srv.Serve(ln) // ends when stop is called
			return func() { srv.Close() }
		})},
		way[string]{peer: "kratos", run: request(func(ln net.Listener) func() {
			log.SetLogger(log.NewStdLogger(io.Discard))
			srv := kratoshttp.NewServer(kratoshttp.Listener(ln))
			srv.HandleFunc("/", answer)
			go srv.Start(context.Background()) // ends when stop is called
			return func() { srv.Close() }
		})},
	)
}

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func requestOverLoopback(b *testing.B, serve func(net.Listener) (stop func())) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	stop := serve(ln)
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
}

func requestInMemory(b *testing.B, serve func(net.Listener) (stop func())) {
	conn := &endless{left: b.N, ended: make(chan struct{})}
	ln := &oneConn{conns: make(chan net.Conn, 1)}
	ln.conns <- conn
	stop := serve(ln)
	<-conn.ended
	b.StopTimer()
	stop()
}

// oneConn is a listener with a connection in memory.
type oneConn struct {
	conns chan net.Conn // closed by Close
	close sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	l.close.Do(func() { close(l.conns) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// endless is a connection of a client that sends left requests, and waits for
// no answer.
type endless struct {
	left  int
	rest  string
	ended chan struct{} // closed when the server has closed the connection
}

func (c *endless) Read(p []byte) (int, error) {
	if c.rest == "" {
		if c.left == 0 {
			return 0, io.EOF
		}
		c.left--
		c.rest = request
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *endless) Write(p []byte) (int, error)      { return len(p), nil }
func (c *endless) Close() error                     { close(c.ended); return nil }
func (c *endless) LocalAddr() net.Addr              { return new(net.TCPAddr) }
func (c *endless) RemoteAddr() net.Addr             { return new(net.TCPAddr) }
func (c *endless) SetDeadline(time.Time) error      { return nil }
func (c *endless) SetReadDeadline(time.Time) error  { return nil }
func (c *endless) SetWriteDeadline(time.Time) error { return nil }
