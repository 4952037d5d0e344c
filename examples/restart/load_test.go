//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// client sends one request at a time, and has one connection at most.
type client struct {
	http.Client
	url string
}

// newClient returns a client of the socket with the given name, or of "http/2",
// which uses the socket of https.
func (s *service) newClient(name string, keepAlive bool) *client {
	socket, h2 := strings.CutSuffix(name, "/2")
	if h2 {
		socket = "https"
	}
	transport := testServer().Client().Transport.(*http.Transport).Clone() // knows the certificate
	transport.DisableKeepAlives = !keepAlive
	transport.ForceAttemptHTTP2 = h2
	if !h2 {
		transport.TLSClientConfig.NextProtos = nil
		transport.TLSNextProto = nil
	}
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		return dial(socket, s.addr[socket])
	}
	url := "http://restart/"
	if socket == "https" {
		url = "https://example.com/" // the name in the certificate
	}
	return &client{http.Client{Transport: transport, Timeout: limit}, url}
}

// ask returns the pid of the process that answered. It sends the request
// exactly once: net/http does not retry a request whose body it cannot get
// again.
func (c *client) ask(method, body string) (pid int, err error) {
	r, err := http.NewRequest(method, c.url, struct{ io.Reader }{strings.NewReader(body)})
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	return answer(resp, body)
}

// answer reads an answer, which must contain the body of the request.
func answer(resp *http.Response, body string) (pid int, err error) {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	var said string
	if _, err := fmt.Sscanf(string(text), "pid %d:", &pid); err == nil {
		_, said, _ = strings.Cut(strings.TrimSuffix(string(text), "\n"), ": ")
	}
	if pid == 0 || said != body || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("answer = %s %q, want 200 and %q", resp.Status, text, body)
	}
	return pid, nil
}

// load is a set of clients that send requests all the time.
type load struct {
	s       *service
	stopped chan struct{}
	clients sync.WaitGroup

	mu       sync.Mutex     // guards the fields below
	answers  map[string]int // by socket
	last     map[string]int // the pid that answered last, by client
	failures []error
}

// startLoad starts all kinds of clients: for each socket and each method, on
// kept and on new connections.
func (s *service) startLoad() *load {
	l := &load{s: s, stopped: make(chan struct{}), answers: make(map[string]int),
		last: make(map[string]int)}
	for socket := range s.addr {
		for _, c := range []struct {
			method    string
			keepAlive bool
		}{{"POST", false}, {"GET", true}, {"POST", true}} {
			l.start(socket, c.method, c.keepAlive)
		}
	}
	if s.addr["https"] != "" {
		l.start("http/2", "POST", true)
	}
	s.t.Cleanup(l.stop)
	return l
}

func (l *load) start(socket, method string, keepAlive bool) {
	l.mu.Lock()
	name := fmt.Sprintf("client %d, %s of %s, keep-alive %v",
		len(l.last), method, socket, keepAlive)
	l.last[name] = 0
	l.mu.Unlock()
	l.clients.Go(func() { l.run(name, socket, method, l.s.newClient(socket, keepAlive)) })
}

func (l *load) run(name, socket, method string, c *client) {
	defer c.CloseIdleConnections()
	for i := 0; ; i++ {
		select {
		case <-l.stopped:
			return
		default:
		}
		body := ""
		if method == "POST" {
			body = fmt.Sprint("message ", i)
		}
		pid, err := c.ask(method, body)
		l.mu.Lock()
		if err != nil {
			l.failures = append(l.failures,
				fmt.Errorf("%s, request %d, after an answer of pid %d: %w",
					name, i, l.last[name], err))
		} else {
			l.answers[socket]++
			l.last[name] = pid
		}
		failed := len(l.failures) > 20
		l.mu.Unlock()
		if failed {
			return
		}
	}
}

// await waits until the process answers all clients, or one has failed.
func (l *load) await(pid int) {
	l.s.t.Helper()
	l.s.await(fmt.Sprintf("pid %d answers all clients", pid), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, last := range l.last {
			if last != pid && len(l.failures) == 0 {
				return false
			}
		}
		return true
	})
}

// result reports whether no request has failed so far, and logs the number of
// requests.
func (l *load) result() bool {
	l.s.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.t.Logf("answers: %v, failures: %d\n%v",
		l.answers, len(l.failures), errors.Join(l.failures...))
	return len(l.failures) == 0
}

func (l *load) stop() {
	select {
	case <-l.stopped:
	default:
		close(l.stopped)
	}
	l.clients.Wait()
}

// held is a request whose body the server waits for.
type held struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// hold begins a request, and returns when its handler runs.
func (s *service) hold(query string) *held { s.t.Helper(); return s.holdOn("http", query) }

func (s *service) holdOn(socket, query string) *held {
	s.t.Helper()
	conn, err := dial(socket, s.addr[socket])
	must(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(limit))
	h := &held{s.t, conn, bufio.NewReader(conn)}
	h.begin(query)
	return h
}

// begin begins a request on a connection that has received its answers.
func (h *held) begin(query string) {
	h.t.Helper()
	fmt.Fprintf(h.conn,
		"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", query)
	if line, err := h.r.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100") {
		h.t.Fatalf("first line = %q, %v, want 100", line, err)
	}
	h.r.ReadString('\n') // the empty line
}

// send sends the body.
func (h *held) send() {
	h.t.Helper()
	_, err := io.WriteString(h.conn, "hello")
	must(h.t, err)
}

func (h *held) response() *http.Response {
	h.t.Helper()
	resp, err := http.ReadResponse(h.r, nil)
	must(h.t, err)
	return resp
}
