//go:build unix

package main

import (
	"errors"
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

// If this variable is set, a signal arrives before the program begins to serve.
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

// fake is systemd's end of the socket.
type fake struct {
	*net.UnixConn
	path       string
	t          *testing.T
	keepAlives int // skipped by message
}

func newFake(t *testing.T) *fake {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // t.TempDir may be too long for a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &fake{UnixConn: conn, path: path, t: t}
}

// message returns the assignments of the next message that is not a keep-alive.
func (m *fake) message() map[string]string {
	m.t.Helper()
	for {
		message := m.any(3 * time.Minute)
		if message == nil {
			m.t.Fatal("no message comes")
		}
		if message["WATCHDOG"] != "1" || len(message) != 1 {
			return message
		}
		m.keepAlives++
	}
}

// any returns the assignments of the next message, or nil if none comes.
func (m *fake) any(limit time.Duration) map[string]string {
	m.t.Helper()
	m.SetReadDeadline(time.Now().Add(limit))
	b := make([]byte, 4096)
	n, err := m.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
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

// wantKeepAlives checks that the next n messages are keep-alives.
func (m *fake) wantKeepAlives(n int) {
	m.t.Helper()
	for range n {
		if got := m.any(3 * time.Minute); got["WATCHDOG"] != "1" {
			m.t.Fatalf("message %q, want WATCHDOG=1", got)
		}
	}
}

// wantNoMore checks that no message is left. The program has ended.
func (m *fake) wantNoMore() {
	m.t.Helper()
	conn, err := net.Dial("unixgram", m.path)
	must(m.t, err)
	defer conn.Close()
	go conn.Write([]byte("END=1")) // it waits while the socket is full
	for got := m.message(); got["END"] != "1"; got = m.message() {
		m.t.Errorf("one more message: %q", got)
	}
}

// wantStep checks the message of the step that begins, and returns the time
// that it may take.
func (m *fake) wantStep(name string) time.Duration {
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
	return startCommand(t, socket,
		process.Command(t, append([]string{"-addr=127.0.0.1:0"}, args...)...))
}

func startCommand(t *testing.T, socket string, cmd *exec.Cmd) (p *process.Process, url string) {
	t.Helper()
	cmd.Env = slices.DeleteFunc(cmd.Env, func(s string) bool {
		return strings.HasPrefix(s, "NOTIFY_SOCKET=")
	})
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

// TestProgress checks that there is a message for each step, with nine tenths
// of the remaining time plus a second.
func TestProgress(t *testing.T) {
	t.Parallel()
	m := newFake(t)
	const timeout, flush = 5 * time.Minute, 500 * time.Millisecond
	p, url := start(t, m.path, fmt.Sprint("-timeout=", timeout), fmt.Sprint("-flush=", flush))
	if got := m.message(); len(got) != 1 || got["READY"] != "1" {
		t.Errorf("the first message is %q, want READY=1", got)
	}
	wantHello(t, url)
	p.Signal(syscall.SIGTERM)
	for i, name := range steps {
		got, most := m.wantStep(name), timeout*9/10+time.Second
		least := most - 3*time.Minute*9/10 // since the process no longer lives
		if i > 2 {
			most -= flush * time.Duration(i-2) * 9 / 10
		}
		if got > most || got < least {
			t.Errorf("%s may take %v, want %v to %v", name, got, least, most)
		}
	}
	p.WantExit(0)
	m.wantNoMore()
	if m.keepAlives > 0 {
		t.Errorf("%d keep-alives without a watchdog", m.keepAlives)
	}
}

// watched returns a command for a program whose watchdog has the given
// interval.
func watched(t *testing.T, interval string, args ...string) *exec.Cmd {
	t.Helper()
	d, err := time.ParseDuration(interval)
	must(t, err)
	cmd := process.Command(t, append([]string{"-addr=127.0.0.1:0"}, args...)...)
	cmd.Env = append(cmd.Env, fmt.Sprint("WATCHDOG_USEC=", d.Microseconds()))
	return cmd
}

// TestWatchdog checks that there are keep-alives until the program is no longer
// well, and again during the whole shutdown.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	m := newFake(t)
	p, url := startCommand(t, m.path, watched(t, "50ms", "-timeout=-1s"))
	if got := m.message(); got["READY"] != "1" || m.keepAlives > 0 {
		t.Errorf("the first message is %q, after %d keep-alives, want READY=1", got, m.keepAlives)
	}
	m.wantKeepAlives(3)
	wantHello(t, url)
	m.wantKeepAlives(3)

	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	must(t, err)
	defer conn.Close()
	fmt.Fprint(conn, "GET /?hold=1h HTTP/1.1\r\nHost: x\r\n\r\n")
	// 40 times the time between two.
	for end := time.Now().Add(3 * time.Minute); m.any(time.Second) != nil; {
		if time.Now().After(end) {
			t.Fatal("keep-alives go on while the program hangs")
		}
	}

	p.Signal(os.Interrupt)
	if got := m.message(); got["STATUS"] != "Stopping: *http.Server" {
		t.Errorf("message %q, want that of the server", got)
	}
	m.wantKeepAlives(10) // of a shutdown that hangs
	p.InterruptAgain()
	p.WantExit(130)
}

// TestOthersWatchdog sets WATCHDOG_PID to the pid of another process.
func TestOthersWatchdog(t *testing.T) {
	t.Parallel()
	m := newFake(t)
	cmd := watched(t, "1us", "-flush=1ms")
	cmd.Env = append(cmd.Env, fmt.Sprint("WATCHDOG_PID=", os.Getpid()))
	p, _ := startCommand(t, m.path, cmd)
	m.message()
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	for range steps {
		m.message()
	}
	m.wantNoMore()
	if m.keepAlives > 0 {
		t.Errorf("%d keep-alives for another's watchdog", m.keepAlives)
	}
}

// inheriting returns a command that gets the listeners as systemd passes them.
func inheriting(t *testing.T, fds int, files ...interface{ File() (*os.File, error) }) *exec.Cmd {
	t.Helper()
	cmd := process.Command(t, "-addr=nowhere", "-flush=1ms")
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`}, cmd.Args...)
	sh, err := exec.LookPath("sh")
	must(t, err)
	cmd.Path = sh
	cmd.Env = append(cmd.Env, fmt.Sprint("LISTEN_FDS=", fds))
	for _, f := range files {
		file, err := f.File()
		must(t, err)
		t.Cleanup(func() { file.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	return cmd
}

// TestSocket stops and starts the service while a client waits: the socket is
// systemd's.
func TestSocket(t *testing.T) {
	t.Parallel()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer ln.Close()
	for range 2 {
		answered := make(chan error, 1)
		go func() {
			res, err := http.Get("http://" + ln.Addr().String())
			if err == nil {
				res.Body.Close()
			}
			answered <- err
		}()
		p, url := startCommand(t, newFake(t).path, inheriting(t, 1, ln))
		must(t, <-answered)
		if url != "http://"+ln.Addr().String() {
			t.Errorf("it listens on %s, want %v", url, ln.Addr())
		}
		p.Signal(syscall.SIGTERM)
		p.WantExit(0)
	}

	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer udp.Close()
	for fds, cmd := range map[int]*exec.Cmd{1: inheriting(t, 1, udp), 2: inheriting(t, 2, ln, ln)} {
		p := process.StartCommand(t, cmd)
		p.WantExit(1)
		if got, want := p.Stderr(), fmt.Sprintf(
			"systemd: LISTEN_FDS=%d: want one socket, which listens\n", fds); got != want {
			t.Errorf("stderr = %q, want %q", got, want)
		}
	}
}

// TestHang makes each of the shards hang for longer than the shutdown may take.
// Each gets its share and is abandoned. Nothing prolongs the share, not even
// the keep-alives.
func TestHang(t *testing.T) {
	t.Parallel()
	m := newFake(t)
	const timeout = 5 * time.Second
	p, _ := startCommand(t, m.path,
		watched(t, "50ms", fmt.Sprint("-timeout=", timeout), "-flush=1h"))
	m.message()
	p.Signal(syscall.SIGTERM)
	var sum time.Duration
	for i, name := range steps {
		got := m.wantStep(name)
		if i == 0 {
			m.keepAlives = 0 // those before the shutdown
		}
		if strings.HasPrefix(name, "shard") {
			sum += got - time.Second
		}
	}
	if sum > timeout {
		t.Errorf("the three that hang may take %v, want %v at most", sum, timeout)
	}
	if m.keepAlives == 0 {
		t.Error("no keep-alive in the stop")
	}
	p.WantExit(1)
	m.wantNoMore()
	want := `(?m)^systemd: .*shard 3 .*abandoned.*\n` +
		`.*shard 2 .*abandoned.*\n.*shard 1 .*abandoned.*\n\z`
	if got := p.Stderr(); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("stderr = %q, want %v", got, want)
	}
}

// TestNoLimit checks that nothing is promised if there is no limit.
func TestNoLimit(t *testing.T) {
	t.Parallel()
	m := newFake(t)
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

// TestBrokenSocket uses a socket on which nobody listens, and one that nobody
// reads.
func TestBrokenSocket(t *testing.T) {
	t.Parallel()
	full := newFake(t)
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: full.path, Net: "unixgram"})
	must(t, err)
	defer conn.Close()
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { // it does not block
		for err == nil {
			_, err = syscall.Write(int(fd), []byte("STATUS=one more"))
		}
	}))
	if err != syscall.EAGAIN && err != syscall.ENOBUFS { // BSDs say it this way
		t.Fatal(err)
	}
	for _, test := range []struct{ socket, want string }{
		{filepath.Join(t.TempDir(), "nobody"), "connect: no such file or directory"},
		{full.path, "i/o timeout"},
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

// TestStopAtStart checks that an early signal is not a failure.
func TestStopAtStart(t *testing.T) {
	t.Parallel()
	cmd := process.Command(t, "-addr=127.0.0.1:0", "-flush=1ms")
	cmd.Env = append(cmd.Env, early+"=1")
	process.StartCommand(t, cmd).WantExit(0)
}

func TestClientNeverReads(t *testing.T) {
	t.Parallel()
	p, url := start(t, newFake(t).path, "-flush=0", "-timeout=3s")
	process.NeverRead(t, strings.TrimPrefix(url, "http://"), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	p.Signal(syscall.SIGTERM)
	p.WantExit(1)
	if got := p.Stderr(); !strings.Contains(got, "systemd: quit: *http.Server (systemd/main.go:") {
		t.Errorf("stderr = %q, want it to name the server", got)
	}
}

func TestSlowClient(t *testing.T) {
	t.Parallel()
	p, url := start(t, newFake(t).path, "-flush=0")
	wantAnswer := process.SlowToSend(t, strings.TrimPrefix(url, "http://"), "/")
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	wantAnswer()
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	m := newFake(t)
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

// TestBadStart checks that a start that fails does not send READY=1.
func TestBadStart(t *testing.T) {
	m := newFake(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	for _, test := range []struct {
		arg    string
		status int
		stderr string
	}{
		{"-addr=" + process.TakenAddr(t), 1, "address already in use"},
		{"-flush=soon", 2, `invalid value "soon" for flag -flush`},
		{"-port=80", 2, "flag provided but not defined: -port"},
		{"serve", 2, `unexpected argument "serve"`},
	} {
		process.WantBadStart(t, test.status, test.stderr, test.arg)
	}
	t.Setenv("WATCHDOG_USEC", "often")
	process.WantBadStart(t, 1, `WATCHDOG_USEC: strconv.Atoi: parsing "often"`)
	m.wantNoMore()
}

// TestUnit checks that the times in quit.service fit together, and lets systemd
// verify both files, with an existing program.
func TestUnit(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("quit.service")
	must(t, err)
	value := func(setting string) time.Duration {
		t.Helper()
		words := regexp.MustCompile(`(?m)^` + setting + `(\S+)$`).FindStringSubmatch(string(unit))
		if words == nil {
			t.Fatalf("the unit has no %s", setting)
		}
		d, err := time.ParseDuration(words[1])
		must(t, err)
		return d
	}
	timeout, stop, watchdog := value("ExecStart=.* -timeout="), value("TimeoutStopSec="),
		value("WatchdogSec=")
	if stop <= timeout {
		t.Errorf("TimeoutStopSec is %v, want more than -timeout, %v", stop, timeout)
	}
	if watchdog >= stop || value("TimeoutAbortSec=") >= stop {
		t.Errorf("WatchdogSec or TimeoutAbortSec is not less than TimeoutStopSec, %v", stop)
	}

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip(err)
	}
	self, err := os.Executable()
	must(t, err)
	dir := t.TempDir()
	service, socket := filepath.Join(dir, "quit.service"), filepath.Join(dir, "quit.socket")
	must(t, os.WriteFile(service, []byte(strings.Replace(string(unit),
		"/usr/local/bin/quit-systemd", self, 1)), 0o666))
	unit, err = os.ReadFile("quit.socket")
	must(t, err)
	must(t, os.WriteFile(socket, unit, 0o666))
	if out, err := process.Other(
		t, analyze, "verify", service, socket).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v, %s", err, out)
	}
}
