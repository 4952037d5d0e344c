//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

const (
	// If this variable is set, a signal arrives before the program begins to
	// serve.
	early = "EXAMPLE_WEBSOCKET_EARLY"
	// Unless this variable is set, the program's patience has no end, so that
	// no member is cut off for being slow.
	impatient = "EXAMPLE_WEBSOCKET_IMPATIENT"
)

func TestMain(m *testing.M) {
	process.Main(m, func() {
		if os.Getenv(early) != "" {
			quit.GetQuitEvent().Fail(&quit.SignalError{Signal: syscall.SIGTERM})
		}
		if os.Getenv(impatient) == "" {
			patience = time.Hour
		}
		main()
	})
}

// start starts the program and returns its address.
func start(t *testing.T, args ...string) (*process.Process, string) {
	t.Helper()
	return started(process.StartCommand(t, command(t, args...)))
}

func startImpatient(t *testing.T, args ...string) (*process.Process, string) {
	t.Helper()
	cmd := command(t, args...)
	cmd.Env = append(cmd.Env, impatient+"=1")
	return started(process.StartCommand(t, cmd))
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return process.Command(t, append([]string{"-addr=127.0.0.1:0", "-timeout=2m"}, args...)...)
}

func started(p *process.Process) (*process.Process, string) {
	return p, strings.TrimPrefix(p.Line("listening on "), "http://")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client is a member of the chat.
type client struct {
	*websocket.Conn
	addr string // its own
	ctx  context.Context
	got  []string // all messages that it has received
	end  error    // the error at the end of the connection
}

// join returns a client that has said hello.
func join(t *testing.T, addr, hello string) *client {
	t.Helper()
	return joinTLS(t, "ws://"+addr+"/chat", hello, nil)
}

func joinTLS(t *testing.T, url, hello string, config *tls.Config) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	c := &client{ctx: ctx}
	transport := &http.Transport{TLSClientConfig: config}
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			c.addr = conn.LocalAddr().String()
		}
		return conn, err
	}
	options := &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}}
	conn, _, err := websocket.Dial(ctx, url, options)
	must(t, err)
	t.Cleanup(func() { conn.CloseNow() })
	c.Conn = conn
	must(t, c.say(hello))
	return c
}

func (c *client) write(text string) error {
	return c.Write(c.ctx, websocket.MessageText, []byte(text))
}

// say returns when all members have got text, or will get it.
func (c *client) say(text string) error {
	if err := c.write(text); err != nil {
		return err
	}
	return c.readUntil(text)
}

func (c *client) readUntil(text string) error {
	for c.end == nil {
		_, b, err := c.Read(c.ctx)
		if err != nil {
			c.end = err
			break
		}
		c.got = append(c.got, string(b))
		if string(b) == text {
			return nil
		}
	}
	return c.end
}

// wantEnd reads everything, and checks that the connection ends with the given
// status.
func (c *client) wantEnd(t *testing.T, status websocket.StatusCode, reason string) {
	t.Helper()
	err := c.readUntil("never said")
	if got := websocket.CloseStatus(err); got != status || !strings.Contains(err.Error(), reason) {
		t.Errorf("the end of the connection: %v, want %v %q", err, status, reason)
	}
}

// wantGoodbye checks that all clients have got all messages from text on, then
// the goodbye, and the end.
func wantGoodbye(t *testing.T, text string, clients ...*client) {
	t.Helper()
	var want []string
	for i, c := range clients {
		c.wantEnd(t, websocket.StatusGoingAway, goodbye)
		from := slices.Index(c.got, text)
		if from < 0 || c.got[len(c.got)-1] != goodbye {
			t.Fatalf("client %d got %q, want %q, and %q at last", i, c.got, text, goodbye)
		}
		if got := c.got[from:]; i == 0 {
			want = got
		} else if !slices.Equal(got, want) {
			t.Errorf("client %d got\n%q, and client 0\n%q", i, got, want)
		}
	}
}

func wantStderr(t *testing.T, p *process.Process, want string) {
	t.Helper()
	if got := p.Stderr(); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("stderr = %q, want %v", got, want)
	}
}

// TestGoodbye sends a message just before the signal, to clients that have not
// read it when the signal arrives.
func TestGoodbye(t *testing.T) {
	t.Parallel()
	p, addr := start(t)
	var clients []*client
	for i := range 20 {
		clients = append(clients, join(t, addr, fmt.Sprint("hello ", i)))
	}
	must(t, clients[7].say("last words"))
	p.Signal(syscall.SIGTERM)
	p.AwaitPortClosed(addr)
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() { wantGoodbye(t, "last words", c) })
	}
	all.Wait()
	p.WantExit(0)
	if got := p.Stderr(); strings.Contains(got, "member") {
		t.Errorf("stderr = %q, want no complaint about a member", got)
	}
}

// TestUnderLoad sends the signal while all members talk at once. If one member
// has got a message, then all have, including its author.
func TestUnderLoad(t *testing.T) {
	t.Parallel()
	const n, each = 20, maxQueue / 20 // so that none can be too slow
	p, addr := start(t)
	var clients []*client
	for i := range n {
		clients = append(clients, join(t, addr, fmt.Sprint("hello ", i)))
	}
	var said atomic.Int64
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() {
			for j := range each - 1 {
				if c.say(fmt.Sprint(i, " says ", j)) != nil {
					return
				}
				if said.Add(1) == n*each/3 {
					p.Process.Signal(syscall.SIGTERM)
				}
			}
		})
	}
	all.Wait()
	wantGoodbye(t, fmt.Sprint("hello ", n-1), clients...)
	p.WantExit(0)
}

// TestSilentMember uses a member that does not read when it is told to leave,
// and so does not answer. The others do not wait for it.
func TestSilentMember(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, p *process.Process, addr string, status int, stderr string) (
		cutOff bool,
	) {
		t.Helper()
		silent, other := join(t, addr, "hello from silent"), join(t, addr, "hello")
		p.Signal(syscall.SIGTERM)
		wantGoodbye(t, "hello", other)
		p.WantExit(status)
		wantStderr(t, p, stderr)
		if got := p.Stderr(); strings.Contains(got, other.addr) {
			t.Errorf("stderr = %q, want nothing of %v", got, other.addr)
		}
		return strings.Contains(p.Stderr(), "cut off member="+silent.addr+"\n")
	}
	t.Run("no patience", func(t *testing.T) {
		t.Parallel()
		p, addr := startImpatient(t)
		if !test(t, p, addr, 0, `failures=0\n\z`) {
			t.Errorf("stderr = %q, want it to name who was cut off", p.Stderr())
		}
	})
	t.Run("no time", func(t *testing.T) {
		t.Parallel()
		// A tenth of the timeout is left for the message. With 6 s, conn.Close
		// would return in time, since it waits for 5 s.
		const timeout = 5 * time.Second
		process.Patiently(t, timeout, func(time.Duration) bool {
			p, addr := start(t, fmt.Sprint("-timeout=", timeout))
			return test(t, p, addr, 1, `(?m)^websocket: quit: drain: 1 goroutine left after .*: `+
				`context deadline exceeded\n\z`)
		})
	})
}

// fill sends messages until a member that does not read must leave.
func fill(t *testing.T, p *process.Process, c *client) {
	t.Helper()
	for i := 0; !strings.Contains(p.Stderr(), "too slow"); i++ {
		must(t, c.say(fmt.Sprintf("%0*d", maxMessage, i)))
	}
}

// TestMemberNeverReads uses a member whose buffers are all full.
func TestMemberNeverReads(t *testing.T) {
	t.Parallel()
	p, addr := startImpatient(t)
	lazy, other := join(t, addr, "hello from lazy"), join(t, addr, "hello")
	fill(t, p, other)
	p.Signal(syscall.SIGTERM)
	wantGoodbye(t, "hello", other)
	p.WantExit(0)
	wantStderr(t, p, "too slow member="+lazy.addr+"\n")
	wantStderr(t, p, "cut off member="+lazy.addr+"\n")
}

// TestSlowMember is like TestMemberNeverReads, but the member begins to read in
// time. It misses no message up to the moment when it must leave.
func TestSlowMember(t *testing.T) {
	t.Parallel()
	p, addr := start(t)
	slow, other := join(t, addr, "hello from slow"), join(t, addr, "hello")
	fill(t, p, other)
	slow.wantEnd(t, websocket.StatusPolicyViolation, "too slow")
	if n := len(slow.got) - 1; n < maxQueue || n > len(other.got) ||
		!slices.Equal(slow.got[1:], other.got[:n]) {
		t.Errorf("%d messages until it had to go, want %d at least, and the same as others",
			n, maxQueue)
	}
	p.Signal(syscall.SIGTERM)
	wantGoodbye(t, "hello", other)
	p.WantExit(0)
}

// TestUnheard checks that no member gets a message that its author does not get
// back. The author treats such a message as not said, and sends it again.
func TestUnheard(t *testing.T) {
	t.Parallel()
	c := newChat()
	author := &member{queue: make(chan []byte, 1), cancel: func() {}}
	other := &member{queue: make(chan []byte, 3), cancel: func() {}}
	c.join(author)
	c.join(other)
	for i, text := range []string{"heard", "no room for that", "to go already"} {
		c.say(author, []byte(text))
		if len(author.queue) != 1 || len(other.queue) != 1 {
			t.Errorf("after %d messages the author gets %d, and the other %d, want 1",
				i+1, len(author.queue), len(other.queue))
		}
	}
}

// TestLeave checks that nobody waits for a member that has left, with a closing
// handshake or without one.
func TestLeave(t *testing.T) {
	t.Parallel()
	p, addr := start(t)
	polite, rude, loud := join(t, addr, "hello"), join(t, addr, "hello"), join(t, addr, "hello")
	last := join(t, addr, "hello from the last")
	must(t, polite.Close(websocket.StatusNormalClosure, "bye"))
	rude.CloseNow()
	must(t, loud.write(strings.Repeat("x", maxMessage+1)))
	loud.wantEnd(t, websocket.StatusMessageTooBig, "")
	must(t, last.say("alone at last"))
	p.Signal(syscall.SIGTERM)
	wantGoodbye(t, "alone at last", last)
	p.WantExit(0)
}

// TestNotUTF8 checks that text messages contain only valid UTF-8: browsers
// close the connection on anything else.
func TestNotUTF8(t *testing.T) {
	t.Parallel()
	_, addr := start(t)
	c := join(t, addr, "hello")
	must(t, c.Write(c.ctx, websocket.MessageBinary, []byte("caf\xe9")))
	must(t, c.readUntil("caf\uFFFD"))
}

func TestStopAtStart(t *testing.T) {
	t.Parallel()
	cmd := process.Command(t, "-addr=127.0.0.1:0")
	cmd.Env = append(cmd.Env, early+"=1")
	process.StartCommand(t, cmd).WantExit(0)
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	p, addr := start(t)
	join(t, addr, "hello from silent")
	p.Signal(os.Interrupt)
	p.AwaitPortClosed(addr) // only the server is stopped before the drain
	p.InterruptAgain()
	p.WantExit(130)
	wantStderr(t, p, `(?s)ending at once.*drain.*\.\(\*chat\)\.ServeHTTP`)
}

// TestTimeouts waits until a client that sends too slowly is cut off. The time
// limit for a request ends neither a WebSocket nor an idle connection.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", encrypted), func(t *testing.T) {
			t.Parallel()
			var addr string
			var config *tls.Config
			dial, scheme := net.Dial, "ws://"
			if encrypted {
				_, addr, config = startTLS(t)
				dial, scheme = tlsDial(config), "wss://"
			} else {
				_, addr = start(t)
			}
			member := joinTLS(t, scheme+addr+"/chat", "hello", config)
			idle, err := dial("tcp", addr)
			must(t, err)
			defer idle.Close()
			get := func() error {
				io.WriteString(idle, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
				_, err := http.ReadResponse(bufio.NewReader(idle), &http.Request{Method: "HEAD"})
				return err
			}
			must(t, get())

			slow, err := dial("tcp", addr)
			must(t, err)
			defer slow.Close()
			slow.SetDeadline(time.Now().Add(3 * time.Minute))
			io.WriteString(slow, "GET / HTTP/1.1\r\nHost:")
			if _, err := io.ReadAll(slow); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the slow client has not been cut off")
			}
			if err := get(); err != nil {
				t.Error("the idle connection:", err)
			}
			if err := member.say("still here"); err != nil {
				t.Error("the WebSocket:", err)
			}
		})
	}
}

// TestClosed checks that nobody can join a closed chat.
func TestClosed(t *testing.T) {
	t.Parallel()
	c := newChat()
	c.close()
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest("GET", "/chat", nil))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), goodbye) {
		t.Errorf("GET /chat = %d, %q, want 503, %s", w.Code, w.Body, goodbye)
	}
}

// certificate returns the files of a certificate for 127.0.0.1, and the
// configuration of a client that trusts it.
func certificate(t *testing.T) (cert, key string, config *tls.Config) {
	t.Helper()
	srv := httptest.NewTLSServer(nil) // it has one
	srv.Close()
	pair := srv.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(t, err)
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		block := &pem.Block{Type: kind, Bytes: der}
		must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
		return path
	}
	config = &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(srv.Certificate())
	return file("cert.pem", "CERTIFICATE", pair.Certificate[0]),
		file("key.pem", "PRIVATE KEY", der), config
}

func startTLS(t *testing.T) (p *process.Process, addr string, config *tls.Config) {
	t.Helper()
	cert, key, config := certificate(t)
	p = process.StartCommand(t, command(t, "-cert="+cert, "-key="+key))
	return p, p.Line("listening on https://"), config
}

func tlsDial(config *tls.Config) func(network, addr string) (net.Conn, error) {
	return func(network, addr string) (net.Conn, error) { return tls.Dial(network, addr, config) }
}

func TestTLS(t *testing.T) {
	t.Parallel()
	p, addr, config := startTLS(t)
	c := joinTLS(t, "wss://"+addr+"/chat", "hello", config)
	other := joinTLS(t, "wss://"+addr+"/chat", "hello from the other", config)
	must(t, c.say("last words"))
	p.Signal(syscall.SIGTERM)
	wantGoodbye(t, "last words", c, other)
	p.WantExit(0)
}

func TestPage(t *testing.T) {
	t.Parallel()
	p, addr := start(t)
	for _, test := range []struct {
		path   string
		status int
		body   string
	}{
		{"/", http.StatusOK, "chat.js"},
		{"/chat.js", http.StatusOK, "new WebSocket"},
		{"/chat", http.StatusUpgradeRequired, "WebSocket"},
		{"/other", http.StatusNotFound, ""},
	} {
		res, err := http.Get("http://" + addr + test.path)
		must(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if res.StatusCode != test.status || !strings.Contains(string(body), test.body) ||
			err != nil {
			t.Errorf("GET %s = %d, %q, %v, want %d, %q",
				test.path, res.StatusCode, body, err, test.status, test.body)
		}
	}
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
}

func TestBadStart(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	cert, key, _ := certificate(t)
	for _, test := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"-addr=" + taken}, 1, "address already in use"},
		{[]string{"-addr=" + taken, "-cert=" + cert, "-key=" + key}, 1,
			"websocket: quit: listen tcp " + taken},
		{[]string{"-cert=missing.pem", "-key=" + key}, 1, "open missing.pem: no such file"},
		{[]string{"-cert=" + cert, "-key=missing.pem"}, 1, "open missing.pem: no such file"},
		{[]string{"-cert=chat.go", "-key=" + key}, 1,
			`certificate "chat.go", key "` + key + `": tls: `},
		{[]string{"-cert=" + cert, "-key=chat.go"}, 1,
			`certificate "` + cert + `", key "chat.go": tls: `},
		{[]string{"-cert=" + cert}, 2, "-cert needs -key"},
		{[]string{"-key=" + key}, 2, "-key needs -cert"},
		{[]string{"-timeout=soon"}, 2, `invalid value "soon"`},
		{[]string{"-port=80"}, 2, "not defined: -port"},
		{[]string{"serve"}, 2, `unexpected argument "serve"`},
	} {
		process.WantBadStart(t, test.status, test.stderr,
			append([]string{"-addr=127.0.0.1:0"}, test.args...)...)
	}
}
