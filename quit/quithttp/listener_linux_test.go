package quithttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// socketAddrs returns an address of ListenAndServe for each kind of socket.
func socketAddrs(t *testing.T) map[string]string {
	return map[string]string{
		"IPv4":       "127.0.0.1:0",
		"IPv6":       "[::1]:0",
		"dual-stack": ":0",
		"Unix":       "unix:" + filepath.Join(t.TempDir(), "socket"),
		"abstract":   fmt.Sprintf("unix:@quit-test-%d-%d", os.Getpid(), time.Now().UnixNano()),
	}
}

// dialAddrs returns the addresses at which clients reach a listener.
func dialAddrs(ln net.Addr) []string {
	tcp, ok := ln.(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		return []string{fmt.Sprintf("127.0.0.1:%d", tcp.Port), fmt.Sprintf("[::1]:%d", tcp.Port)}
	}
	return []string{ln.String()}
}

func dialSocket(network, addr string) (net.Conn, error) {
	return net.DialTimeout(network, addr, generous)
}

// awaitRefused waits until new connections are refused.
func awaitRefused(t *testing.T, network, addr string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		conn, err := dialSocket(network, addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			conn.Close()
		}
		if time.Since(began) > generous {
			t.Fatalf("dialing in a stop: %v, want it refused", err)
		}
	}
}

// A gate keeps a server from accepting until it is closed. The server calls
// BaseContext first, which waits for that.
type gate chan struct{}

func (g gate) server(addr string, h http.Handler) *http.Server {
	srv := quietServer(h)
	srv.Addr = addr
	srv.BaseContext = func(net.Listener) context.Context { <-g; return context.Background() }
	return srv
}

// TestStopBeforeAccept begins a stop before the server has accepted anything,
// with each kind of socket. From then on the kernel refuses connections.
// Clients that have connected before are answered.
func TestStopBeforeAccept(t *testing.T) {
	for name, addr := range socketAddrs(t) {
		t.Run(name, func(t *testing.T) {
			q, open := quietEvent(), make(gate)
			bound, err := quithttp.ListenAndServe(q, open.server(addr, answered))
			if err != nil {
				t.Skip(err) // no IPv6 here
			}
			network := bound.Network()
			var pending []*wire
			for i := range 20 {
				to := dialAddrs(bound)
				conn, err := dialSocket(network, to[i%len(to)])
				if err != nil {
					t.Fatal(err)
				}
				w := newWire(t, conn)
				w.send(getSlash)
				pending = append(pending, w)
			}
			ended := make(chan error)
			go func() { ended <- q.Shutdown(context.Background()) }()
			for _, to := range dialAddrs(bound) {
				awaitRefused(t, network, to)
			}
			close(open)
			for _, w := range pending {
				// The first client may be answered before all are accepted.
				// Then it is not told that its connection ends.
				if body, _ := w.answer(); body != "answered" {
					t.Errorf("answer = %q", body)
				}
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if path, ok := strings.CutPrefix(addr, "unix:/"); ok {
				if _, err := os.Stat("/" + path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the socket's file is still there: %v", err)
				}
			}
		})
	}
}

// TestStopAbandonedConnections uses clients that close or reset their
// connections before these are accepted.
func TestStopAbandonedConnections(t *testing.T) {
	q, open := quietEvent(), make(gate)
	bound, err := quithttp.ListenAndServe(q, open.server("127.0.0.1:0", answered))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		conn, err := net.Dial("tcp", bound.String())
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			conn.(*net.TCPConn).SetLinger(0) // a reset
		}
		conn.Close()
	}
	conn, err := net.Dial("tcp", bound.String())
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, conn)
	w.send(getSlash)
	ended := make(chan error)
	go func() { ended <- q.Shutdown(context.Background()) }()
	awaitRefused(t, "tcp", bound.String())
	close(open)
	if body, _ := w.answer(); body != "answered" {
		t.Errorf("answer = %q", body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// shared listens, and returns two listeners with the socket. other is closed
// at the end of the test.
func shared(t *testing.T, network, addr string) (other, ln net.Listener) {
	t.Helper()
	other, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	file, err := other.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if ln, err = net.FileListener(file); err != nil {
		t.Fatal(err)
	}
	return other, ln
}

// TestStopSharedListener uses a listener that is shared, as with a successor or
// with systemd. It never refuses a connection. The other holder accepts the
// connections that are pending when the server has ended.
func TestStopSharedListener(t *testing.T) {
	for name, addr := range map[string]string{
		"tcp":  "127.0.0.1:0",
		"unix": filepath.Join(t.TempDir(), "socket"),
	} {
		t.Run(name, func(t *testing.T) {
			other, ln := shared(t, name, addr)
			q, open := quietEvent(), make(gate)
			quithttp.Serve(q, open.server("", answered), ln)
			dial := func() *wire {
				conn, err := dialSocket(name, other.Addr().String())
				if err != nil {
					t.Fatalf("dialing: %v", err)
				}
				w := newWire(t, conn)
				w.send(getSlash)
				return w
			}
			pending := dial()
			q.Fire()
			ended := make(chan error)
			go func() { ended <- q.Shutdown(context.Background()) }()
			close(open)
			if body, _ := pending.answer(); body != "answered" {
				t.Errorf("answer = %q", body)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			// Now the successor serves.
			var served sync.WaitGroup
			srv := quietServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, "successor")
			}))
			later := dial()
			served.Go(func() { srv.Serve(other) })
			if body, _ := later.answer(); body != "successor" {
				t.Errorf("answer = %q, want the successor's", body)
			}
			srv.Close()
			served.Wait()
		})
	}
}

// TestStopSharedTLS uses a shared listener with TLS. It refuses no connection
// either.
func TestStopSharedTLS(t *testing.T) {
	other, ln := shared(t, "tcp", "127.0.0.1:0")
	q, srv := quietEvent(), quietServer(answered)
	srv.TLSConfig = certified()
	quithttp.ServeTLS(q, srv, ln, "", "")
	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	conn, err := dialSocket("tcp", other.Addr().String())
	if err != nil {
		t.Fatalf("dialing after the stop: %v", err)
	}
	conn.Close()
}

// TestStopSharedUnderLoad uses a successor that already accepts connections. A
// client that connects during the stop is answered by one of the two servers.
func TestStopSharedUnderLoad(t *testing.T) {
	other, ln := shared(t, "tcp", "127.0.0.1:0")
	q := quietEvent()
	quithttp.Serve(q, quietServer(answered), ln)
	srv := quietServer(answered)
	var all sync.WaitGroup
	all.Go(func() { srv.Serve(other) })
	over := make(chan struct{})
	warm := make(chan struct{}, 8)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				conn, err := net.Dial("tcp", other.Addr().String())
				if err != nil {
					t.Errorf("dialing: %v", err)
					return
				}
				w := newWire(t, conn)
				w.send(getSlash)
				if body, _ := w.answer(); body != "answered" {
					t.Errorf("answer = %q", body)
				}
				conn.Close()
				if i == 10 {
					warm <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-warm
	}
	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	close(over)
	clients.Wait()
	srv.Close()
	all.Wait()
}

// A limited is a listener with a limited number of connections, like that of
// golang.org/x/net/netutil.
type limited struct {
	net.Listener
	free chan struct{}
	once sync.Once
	done chan struct{}
}

func limit(ln net.Listener, n int) *limited {
	return &limited{Listener: ln, free: make(chan struct{}, n), done: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.free })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error { defer c.release(); return c.Conn.Close() }

// TestStopLimited uses a listener that is not of package net. It has room for
// another connection, or none.
func TestStopLimited(t *testing.T) {
	for _, room := range []int{1, 10} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		q := quietEvent()
		release, begun := make(chan struct{}), make(chan struct{})
		quithttp.Serve(q, quietServer(http.HandlerFunc(func(
			w http.ResponseWriter, r *http.Request,
		) {
			close(begun)
			<-release
			answered(w, r)
		})), limit(ln, room))
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		w := newWire(t, conn)
		w.send(getSlash)
		<-begun
		ended := make(chan error)
		go func() { ended <- q.Shutdown(context.Background()) }()
		awaitRefused(t, "tcp", ln.Addr().String())
		close(release)
		if body, _ := w.answer(); body != "answered" {
			t.Errorf("room for %d: answer = %q", room, body)
		}
		if err := <-ended; err != nil {
			t.Errorf("room for %d: %v", room, err)
		}
	}
}

// noDescriptors is a server that has no descriptor left during its stop until a
// request is answered. Its connections use all the descriptors that it may
// have.
var noDescriptors = process.NewProgram("no descriptors", func(args []string) {
	q := quietEvent()
	open, release := make(gate), make(chan struct{})
	srv := open.server(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-release
		answered(w, r)
	}))
	bound, err := quithttp.ListenAndServe(q, srv)
	if err != nil {
		panic(err)
	}
	process.Say("%v", bound)
	process.Listen()
	few := syscall.Rlimit{Cur: 24, Max: 24}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- q.Shutdown(context.Background()) }()
	<-q.Done()
	close(open)
	// No descriptor is left once no file can be opened.
	for full := false; !full; time.Sleep(time.Millisecond) {
		f, err := os.Open(os.DevNull)
		if full = errors.Is(err, syscall.EMFILE); !full {
			f.Close()
		}
	}
	// Accept may now fail for lack of a descriptor. If it has not done so yet,
	// the test proves less.
	time.Sleep(10 * time.Millisecond)
	close(release)
	if err := <-ended; err != nil {
		process.Say("%v", err)
	}
})

// TestStopWithoutDescriptors checks that pending connections are answered even
// if the server has too few descriptors to accept them all at once.
func TestStopWithoutDescriptors(t *testing.T) {
	for name, addr := range map[string]string{
		"TCP":  "127.0.0.1:0",
		"Unix": "unix:" + filepath.Join(t.TempDir(), "socket"),
	} {
		t.Run(name, func(t *testing.T) {
			p := noDescriptors.Start(t, addr)
			bound := p.Next()
			network := "tcp"
			if name == "Unix" {
				network = "unix"
			}
			var pending []*wire
			for range 60 {
				conn, err := dialSocket(network, bound)
				if err != nil {
					t.Fatal(err)
				}
				w := newWire(t, conn)
				w.send(getSlash)
				pending = append(pending, w)
			}
			p.Tell()
			for _, w := range pending {
				if body, _ := w.answer(); body != "answered" {
					t.Errorf("answer = %q", body)
				}
			}
			p.WantEnd("exit status 0")
		})
	}
}

// TestStopSilentSocket uses a client on a real socket that sends nothing. It
// reads the end of the connection, not a reset.
func TestStopSilentSocket(t *testing.T) {
	q := quietEvent()
	accepted := make(chan struct{})
	srv := quietServer(answered)
	srv.Addr = "127.0.0.1:0"
	srv.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			close(accepted)
		}
	}
	bound, err := quithttp.ListenAndServe(q, srv, quithttp.Linger(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", bound.String())
	if err != nil {
		t.Fatal(err)
	}
	<-accepted
	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	newWire(t, conn).wantEnd()
}

// TestStopUnread uses a request in the kernel that the server has not read yet.
// It is read even if the linger of its connection is over.
func TestStopUnread(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	q := quietEvent()
	reading, goOn := make(chan struct{}, 10), make(chan struct{})
	quithttp.Serve(q, quietServer(answered), pausing{ln, reading, goOn},
		quithttp.Linger(20*time.Millisecond))
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, conn)
	<-reading // blocks until goOn is closed
	w.send(getSlash)
	ended := make(chan error)
	go func() { ended <- q.Shutdown(context.Background()) }()
	awaitRefused(t, "tcp", ln.Addr().String())
	// This is longer than the linger. A shorter sleep would prove nothing.
	time.Sleep(50 * time.Millisecond)
	close(goOn)
	w.wantAnswer(true)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestStopHalfRequest uses an idle connection on which the server has read half
// a request. The other half comes in time.
func TestStopHalfRequest(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		q, srv := quietEvent(), quietServer(answered)
		if encrypted {
			srv.TLSConfig = certified()
			quithttp.ServeTLS(q, srv, ln, "", "")
		} else {
			quithttp.Serve(q, srv, ln)
		}
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if encrypted {
			conn = tls.Client(conn, &tls.Config{
				InsecureSkipVerify: true,
				NextProtos:         []string{"http/1.1"},
			})
		}
		w := newWire(t, conn)
		w.ask(false)
		time.Sleep(linger + linger/5) // its linger is over when the stop begins
		w.send(getSlash[:10])
		time.Sleep(linger / 5)
		ended := make(chan error)
		go func() { ended <- q.Shutdown(context.Background()) }()
		awaitRefused(t, "tcp", ln.Addr().String())
		time.Sleep(linger / 5)
		w.send(getSlash[10:])
		w.wantAnswer(true)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// A pausing is a listener whose connections block in Read until goOn is closed.
type pausing struct {
	net.Listener
	reading chan struct{}
	goOn    chan struct{}
}

func (p pausing) Accept() (net.Conn, error) {
	conn, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &pausingConn{conn.(*net.TCPConn), p}, nil
}

type pausingConn struct {
	*net.TCPConn
	p pausing
}

func (c *pausingConn) Read(b []byte) (int, error) {
	select {
	case c.p.reading <- struct{}{}:
	default:
	}
	<-c.p.goOn
	return c.TCPConn.Read(b)
}

// TestListenAndServeUnix serves on a Unix socket. The shutdown leaves nothing
// behind, so the address can be used again.
func TestListenAndServeUnix(t *testing.T) {
	for name, addr := range socketAddrs(t) {
		if name != "Unix" && name != "abstract" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			q := quietEvent()
			bound, err := quithttp.ListenAndServe(q, &http.Server{Addr: addr, Handler: answered})
			if err != nil {
				t.Fatal(err)
			}
			if got := "unix:" + bound.String(); got != addr || bound.Network() != "unix" {
				t.Errorf("ListenAndServe() = %s, want %s", got, addr)
			}
			conn, err := net.Dial("unix", bound.String())
			if err != nil {
				t.Fatal(err)
			}
			newWire(t, conn).ask(false)
			conn.Close()
			_, err = quithttp.ListenAndServe(q, &http.Server{Addr: addr})
			if !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("ListenAndServe() of a taken address = %v", err)
			}
			if err := q.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if _, err := net.Dial("unix", bound.String()); err == nil {
				t.Error("the socket is open still")
			}
			again := quietEvent()
			if _, err := quithttp.ListenAndServe(again, &http.Server{Addr: addr}); err != nil {
				t.Errorf("ListenAndServe() anew = %v", err)
			}
			again.GracefulStop()
		})
	}
}

// TestStopHandshakeUnderWay uses clients that are connecting over a slow link
// when the stop begins. They are answered or refused.
func TestStopHandshakeUnderWay(t *testing.T) {
	on, down := newLink(t, 20*time.Millisecond)
	defer down()
	var p *process.Process
	on.server.do(func() { p = stoppedServer.Start(t, "quithttp", "tcp", on.serverAddr+":0") })
	bound := p.Next()
	type result struct {
		body string
		err  error
	}
	const n = 20
	results := make(chan result, n)
	connected := make(chan struct{}, n)
	for range n {
		go func() {
			var conn net.Conn
			var err error
			on.client.do(func() {
				conn, err = net.Dial("tcp", bound)
			})
			connected <- struct{}{}
			if err != nil {
				results <- result{err: err}
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(generous))
			io.WriteString(conn, getSlash)
			b := make([]byte, 15)
			_, err = io.ReadFull(conn, b)
			results <- result{string(b), err}
		}()
	}
	<-connected // the first is connected, and the next is connecting
	p.Signal(syscall.SIGTERM)
	answers := 0
	for range n {
		switch r := <-results; {
		case errors.Is(r.err, syscall.ECONNREFUSED):
		case r.err != nil || r.body != "HTTP/1.1 200 OK":
			t.Errorf("a client got %q, %v", r.body, r.err)
		default:
			answers++
		}
	}
	if answers == 0 {
		t.Error("nobody was answered")
	}
	if took := p.Next(); !strings.HasPrefix(took, "stopped after") {
		t.Errorf("the server said %q", took)
	}
}

// listenDeferred listens on a socket of TCP whose handshakes last until their
// clients send something.
func listenDeferred(t *testing.T, addr string) net.Listener {
	t.Helper()
	var err error
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return errors.Join(err, c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_DEFER_ACCEPT, 60)
		}))
	}}
	ln, listenErr := listen.Listen(context.Background(), "tcp", addr)
	if err := errors.Join(err, listenErr); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { ln.Close() })
	if _, err := quithttp.Handshakes(ln.Addr()); err != nil {
		t.Skip(err)
	}
	return ln
}

// TestHandshakes checks that the handshakes with a socket are counted, and no
// others.
func TestHandshakes(t *testing.T) {
	begin := func(t *testing.T, ln net.Listener) (n int) {
		for _, to := range dialAddrs(ln.Addr()) {
			for range 2 {
				conn, err := dialSocket("tcp", to)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				n++
			}
		}
		return n
	}
	for name, addr := range socketAddrs(t) {
		t.Run(name, func(t *testing.T) {
			if path, ok := strings.CutPrefix(addr, "unix:"); ok {
				if n, err := quithttp.Handshakes(&net.UnixAddr{Name: path}); n != 0 || err != nil {
					t.Errorf("%d handshakes of a Unix socket, %v", n, err)
				}
				return
			}
			ln := listenDeferred(t, addr)
			begin(t, listenDeferred(t, addr)) // at another port
			if n, err := quithttp.Handshakes(ln.Addr()); n != 0 || err != nil {
				t.Errorf("%d handshakes, %v, want none", n, err)
			}
			want := begin(t, ln)
			before := descriptors(t)
			const calls = 100
			for range calls {
				if n, err := quithttp.Handshakes(ln.Addr()); n != want || err != nil {
					t.Fatalf("%d handshakes, %v, want %d", n, err, want)
				}
			}
			if now := descriptors(t); now >= before+calls {
				t.Errorf("%d descriptors are open after %d calls, %d were before",
					now, calls, before)
			}
			if name == "IPv4" {
				_, port, _ := net.SplitHostPort(ln.Addr().String())
				begin(t, listenDeferred(t, "[::1]:"+port))
				if n, err := quithttp.Handshakes(ln.Addr()); n != want || err != nil {
					t.Errorf("%d handshakes with those of IPv6, %v, want %d", n, err, want)
				}
			}
		})
	}
}

// descriptors returns the number of descriptors that this process has open.
func descriptors(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestStopInHandshake begins a stop while a client is in its handshake with the
// kernel. If its request comes before the longest wait is over, the client is
// answered. Nothing else has connected.
func TestStopInHandshake(t *testing.T) {
	for began := time.Now(); ; {
		q, ln := quietEvent(), listenDeferred(t, "127.0.0.1:0")
		quithttp.ServeOwn(q, quietServer(answered), ln)
		conn, err := dialSocket("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ended := make(chan error)
		go func() { ended <- q.Shutdown(context.Background()) }()
		// A shorter sleep would prove nothing.
		time.Sleep(quithttp.MaxHandshakes * 3 / 4)
		io.WriteString(conn, getSlash)
		inTime := time.Since(start) < quithttp.MaxHandshakes
		if w := newWire(t, conn); inTime {
			if body, _ := w.answer(); body != "answered" {
				t.Errorf("answer = %q", body)
			}
		}
		conn.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if inTime || time.Since(began) > generous {
			return
		}
	}
}

// TestStopEndlessHandshake uses a client whose handshake does not end. The stop
// waits for it, and ends nonetheless.
func TestStopEndlessHandshake(t *testing.T) {
	q, ln := quietEvent(), listenDeferred(t, "127.0.0.1:0")
	q.Timeout = -1
	quithttp.ServeOwn(q, quietServer(answered), ln)
	conn, err := dialSocket("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	start := time.Now()
	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < quithttp.MaxHandshakes {
		t.Errorf("the stop took %v, want %v at least", took, quithttp.MaxHandshakes)
	}
}

// TestStopSharedInHandshake uses a listener that was handed in, and clients
// that keep connecting to it. The stop does not wait for their handshakes, and
// ends.
func TestStopSharedInHandshake(t *testing.T) {
	q, ln := quietEvent(), listenDeferred(t, "127.0.0.1:0")
	q.Timeout = -1
	quithttp.Serve(q, quietServer(answered), ln)
	conn, err := dialSocket("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var client sync.WaitGroup
	client.Go(func() {
		for conn != nil {
			next, _ := dialSocket("tcp", ln.Addr().String())
			select {
			case <-over:
			case <-time.After(quithttp.MaxHandshakes / 20):
			}
			io.WriteString(conn, getSlash)
			conn.Close()
			conn = next
		}
	})
	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	close(over)
	client.Wait()
}

// TestReceived checks that the kernel tells whether a client has sent anything,
// and how long ago.
func TestReceived(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := dialSocket("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if has, _, known := quithttp.Received(conn); !known {
		t.Skip("this kernel does not tell")
	} else if has {
		t.Error("a client that has sent nothing has sent something")
	}
	sent := time.Now()
	io.WriteString(client, "x")
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	read := time.Now()
	for {
		least := time.Since(read)
		has, last, _ := quithttp.Received(conn)
		since := time.Since(sent)
		if !has {
			t.Fatal("a client that has sent something has sent nothing")
		}
		const ticks = 20 * time.Millisecond // in which the kernel counts
		if last > since+ticks || last < least-ticks {
			t.Fatalf("the client has sent something %v ago, after %v to %v", last, least, since)
		}
		if last >= 50*time.Millisecond {
			break
		}
		if since > generous {
			t.Fatalf("the client has sent something %v ago, after %v", last, since)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestReceivedUnix checks that a Unix socket does not tell what a client has
// sent.
func TestReceivedUnix(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := dialSocket("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, _, known := quithttp.Received(client); known {
		t.Error("a Unix socket tells when something was sent")
	}
}

// TestAcceptNowClosed checks that a closed listener accepts nothing.
func TestAcceptNowClosed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := quithttp.AcceptNow(ln.(*net.TCPListener)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the error of a closed listener is %v", err)
	}
}

// TestStopAtOnce uses sockets to which nobody is connecting. The stop does not
// wait for handshakes. One of its attempts shows that, even on a slow machine.
func TestStopAtOnce(t *testing.T) {
	for name, addr := range socketAddrs(t) {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				q := quietEvent()
				srv := quietServer(answered)
				srv.Addr = addr
				if _, err := quithttp.ListenAndServe(q, srv); err != nil {
					t.Skip(err) // no IPv6 here
				}
				start := time.Now()
				if err := q.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
				if time.Since(start) < quithttp.MaxHandshakes {
					return
				}
			}
			t.Errorf("each stop took %v or more", quithttp.MaxHandshakes)
		})
	}
}

// TestStopIdleSocket uses an idle connection on a real socket. The stop waits
// for it as for one on which nothing more has come. One of its attempts shows
// that, even on a slow machine.
func TestStopIdleSocket(t *testing.T) {
	const short = 100 * time.Millisecond
	for range 20 {
		q, srv := quietEvent(), quietServer(answered)
		srv.Addr = "127.0.0.1:0"
		bound, err := quithttp.ListenAndServe(q, srv, quithttp.Linger(short))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := dialSocket("tcp", bound.String())
		if err != nil {
			t.Fatal(err)
		}
		newWire(t, conn).ask(false)
		start := time.Now()
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if time.Since(start) < 4*short { // the longest wait
			return
		}
	}
	t.Errorf("each stop took %v or more", 4*short)
}
