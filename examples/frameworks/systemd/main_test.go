//go:build unix

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// With this variable a signal comes before the program begins to serve.
const early = "EXAMPLE_SYSTEMD_EARLY"

func TestMain(m *testing.M) {
	process.Main(m, func() {
		if os.Getenv(early) != "" {
			quit.GetQuitEvent().Fail(&quit.SignalError{Signal: syscall.SIGTERM})
		}
		main()
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// manager is the end of the socket that is systemd's.
type manager struct {
	*net.UnixConn
	path string
	t    *testing.T
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // t.TempDir may be too long for a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &manager{conn, path, t}
}

// message returns the assignments of the next message.
func (m *manager) message() map[string]string {
	m.t.Helper()
	m.SetReadDeadline(time.Now().Add(3 * time.Minute))
	b := make([]byte, 4096)
	n, err := m.Read(b)
	must(m.t, err)
	message := map[string]string{}
	for line := range strings.Lines(string(b[:n])) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := message[key]; !ok || twice {
			m.t.Errorf("message %q, want assignments", b[:n])
		}
		message[key] = value
	}
	return message
}

// wantNoMore wants no message to be left. The program has ended.
func (m *manager) wantNoMore() {
	m.t.Helper()
	conn, err := net.Dial("unixgram", m.path)
	must(m.t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("END=1"))
	must(m.t, err)
	for got := m.message(); got["END"] != "1"; got = m.message() {
		m.t.Errorf("one more message: %q", got)
	}
}

// wantStep wants the message of the step that begins, and returns how long it
// may take.
func (m *manager) wantStep(name string) time.Duration {
	m.t.Helper()
	message := m.message()
	if got := message["STATUS"]; got != "Stopping: "+name || message["STOPPING"] != "1" {
		m.t.Fatalf("message %q, want STOPPING=1, STATUS=Stopping: %s", message, name)
	}
	usec, err := strconv.ParseInt(message["EXTEND_TIMEOUT_USEC"], 10, 64)
	must(m.t, err)
	return time.Duration(usec) * time.Microsecond
}

// start starts the program with NOTIFY_SOCKET, unless that is "".
func start(t *testing.T, socket string, args ...string) (p *process.Process, url string) {
	t.Helper()
	cmd := process.Command(t, append([]string{"-addr=127.0.0.1:0"}, args...)...)
	cmd.Env = slices.DeleteFunc(cmd.Env, func(s string) bool { return strings.HasPrefix(s, "NOTIFY_SOCKET=") })
	if socket != "" {
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+socket)
	}
	p = process.StartCommand(t, cmd)
	return p, p.Line("listening on ")
}

func wantHello(t *testing.T, url string) {
	t.Helper()
	res, err := http.Get(url)
	must(t, err)
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); string(body) != "hello\n" || err != nil {
		t.Errorf("GET %s = %q, %v, want hello", url, body, err)
	}
}

var steps = []string{"*http.Server", "drain", "shard 3", "shard 2", "shard 1"}

// TestProgress wants a message for each step, with a time that is nine tenths of
// what is left, and a second.
func TestProgress(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	const timeout, flush = 5 * time.Minute, 500 * time.Millisecond
	p, url := start(t, m.path, fmt.Sprint("-timeout=", timeout), fmt.Sprint("-flush=", flush))
	if got := m.message(); len(got) != 1 || got["READY"] != "1" {
		t.Errorf("the first message is %q, want READY=1", got)
	}
	wantHello(t, url)
	p.Signal(syscall.SIGTERM)
	for i, name := range steps {
		got, most := m.wantStep(name), timeout*9/10+time.Second
		least := most - 3*time.Minute*9/10 // since the process lives no longer
		if i > 2 {
			most -= flush * time.Duration(i-2) * 9 / 10
		}
		if got > most || got < least {
			t.Errorf("%s may take %v, want %v to %v", name, got, least, most)
		}
	}
	p.WantExit(0)
	m.wantNoMore()
}

// TestHang has each of the shards hang for longer than the stop may take. Each
// gets its time, and is abandoned: none is prolonged.
func TestHang(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	const timeout = 5 * time.Second
	p, _ := start(t, m.path, fmt.Sprint("-timeout=", timeout), "-flush=1h")
	m.message()
	p.Signal(syscall.SIGTERM)
	var sum time.Duration
	for _, name := range steps {
		got := m.wantStep(name)
		if strings.HasPrefix(name, "shard") {
			sum += got - time.Second
		}
	}
	if sum > timeout {
		t.Errorf("the three that hang may take %v, want %v at most", sum, timeout)
	}
	p.WantExit(1)
	m.wantNoMore()
	want := `(?m)^systemd: .*shard 3 .*abandoned.*\n.*shard 2 .*abandoned.*\n.*shard 1 .*abandoned.*\n\z`
	if got := p.Stderr(); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("stderr = %q, want %v", got, want)
	}
}

// TestNoLimit wants no promise where nothing is known.
func TestNoLimit(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	p, _ := start(t, m.path, "-timeout=-1s", "-flush=1ms")
	m.message()
	p.Signal(syscall.SIGTERM)
	for range steps {
		if got := m.message(); len(got) != 2 || got["STOPPING"] != "1" || got["STATUS"] == "" {
			t.Errorf("message %q, want STOPPING=1 and STATUS", got)
		}
	}
	p.WantExit(0)
	m.wantNoMore()
}

func TestWithoutSystemd(t *testing.T) {
	t.Parallel()
	p, url := start(t, "", "-flush=1ms")
	wantHello(t, url)
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	if got := p.Stderr(); strings.Contains(got, "systemd") {
		t.Errorf("stderr = %q, want nothing of systemd", got)
	}
}

// TestBrokenSocket has a socket that nobody listens on, and one that nobody reads.
func TestBrokenSocket(t *testing.T) {
	t.Parallel()
	full := newManager(t)
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: full.path, Net: "unixgram"})
	must(t, err)
	defer conn.Close()
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { // which does not block
		for err == nil {
			_, err = syscall.Write(int(fd), []byte("STATUS=one more"))
		}
	}))
	if err != syscall.EAGAIN && err != syscall.ENOBUFS { // as BSDs say it
		t.Fatal(err)
	}
	for _, test := range []struct{ socket, want string }{
		{filepath.Join(t.TempDir(), "nobody"), "connect: no such file or directory"},
		{full.path, "nobody reads"},
	} {
		p, url := start(t, test.socket, "-flush=1ms")
		wantHello(t, url)
		p.AwaitStderr(test.want) // as early as at READY=1
		p.Signal(syscall.SIGTERM)
		p.WantExit(0)
		if n := strings.Count(p.Stderr(), "systemd was not told"); n != 1 {
			t.Errorf("%s: it says so %d times, want once", test.want, n)
		}
	}
}

// TestStopAtStart wants a signal that comes early to be no failure.
func TestStopAtStart(t *testing.T) {
	t.Parallel()
	cmd := process.Command(t, "-addr=127.0.0.1:0", "-flush=1ms")
	cmd.Env = append(cmd.Env, early+"=1")
	process.StartCommand(t, cmd).WantExit(0)
}

func TestClientNeverReads(t *testing.T) {
	t.Parallel()
	p, url := start(t, newManager(t).path, "-flush=0", "-timeout=3s")
	process.NeverRead(t, strings.TrimPrefix(url, "http://"), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	p.Signal(syscall.SIGTERM)
	p.WantExit(1)
	if got := p.Stderr(); !strings.Contains(got, "systemd: quit: *http.Server (systemd/main.go:") {
		t.Errorf("stderr = %q, want it to name the server", got)
	}
}

func TestSlowClient(t *testing.T) {
	t.Parallel()
	p, url := start(t, newManager(t).path, "-flush=0")
	wantAnswer := process.SlowToSend(t, strings.TrimPrefix(url, "http://"), "/")
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	wantAnswer()
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	p, _ := start(t, m.path, "-flush=1h")
	m.message()
	p.Signal(os.Interrupt)
	for _, name := range steps[:3] {
		m.wantStep(name)
	}
	p.InterruptAgain()
	p.WantExit(130)
	if got := p.Stderr(); !strings.Contains(got, "shard 3") {
		t.Errorf("stderr = %q, want it to name what still ran", got)
	}
}

// TestBadStart wants systemd not to be told that the program is ready.
func TestBadStart(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	for _, test := range []struct {
		arg    string
		status int
		stderr string
	}{
		{"-addr=" + taken, 1, `\Asystemd: .*address already in use\n\z`},
		{"-flush=soon", 2, `\Ainvalid value "soon"`},
		{"-port=80", 2, `\Aflag provided but not defined: -port\n`},
		{"serve", 2, `\Asystemd: unexpected argument "serve"\n\z`},
	} {
		m := newManager(t)
		cmd := process.Command(t, test.arg)
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path)
		p := process.StartCommand(t, cmd)
		p.WantExit(test.status)
		if got := p.Stderr(); !regexp.MustCompile(test.stderr).MatchString(got) || p.Stdout() != "" {
			t.Errorf("%s: stdout = %q, stderr = %q, want none, and %v", test.arg, p.Stdout(), got, test.stderr)
		}
		m.wantNoMore()
	}
}

// TestUnit has systemd look at quit.service, with a program that there is.
func TestUnit(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip(err)
	}
	unit, err := os.ReadFile("quit.service")
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	path := filepath.Join(t.TempDir(), "quit.service")
	must(t, os.WriteFile(path, []byte(strings.Replace(string(unit), "/usr/local/bin/quit-systemd", self, 1)), 0o666))
	if out, err := process.Other(t, analyze, "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v, %s", err, out)
	}
}
