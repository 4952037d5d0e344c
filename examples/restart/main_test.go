//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

// With this variable the test binary is the program. A successor inherits it.
const asProgram = "EXAMPLE_RESTART_AS_PROGRAM"

// limit is how long a test waits for what is expected at once.
const limit = 3 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	process.Main(m, main)
}

// service is a process and all its successors, which are a process group, and
// write to the same two pipes.
type service struct {
	t      *testing.T
	path   string // of the program: each restart starts what is there
	cmd    *exec.Cmd
	out    *output // stdout
	err    *output // stderr
	exited chan struct{}
	pid    int // of the first process
	url    string
}

// startService starts the first process, and waits until it serves.
func startService(t *testing.T, args ...string) *service {
	t.Helper()
	s := newService(t)
	s.start(exec.Command(s.path, append([]string{"-addr=127.0.0.1:0"}, args...)...))
	return s
}

// newService puts the program at a path of its own.
func newService(t *testing.T) *service {
	t.Helper()
	s := &service{t: t, path: filepath.Join(t.TempDir(), "restart"), exited: make(chan struct{})}
	s.putProgram()
	return s
}

func (s *service) start(cmd *exec.Cmd) {
	s.t.Helper()
	s.cmd = cmd
	cmd.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Files, and not buffers: Wait is not to wait for the successors.
	var stdout, stderr *os.File
	s.out, stdout = newOutput(s.t)
	s.err, stderr = newOutput(s.t)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Start()
	stdout.Close()
	stderr.Close()
	must(s.t, err)
	go func() { // ends with the process, which the end of the test kills
		cmd.Wait() // its error is in the status
		close(s.exited)
	}()
	s.t.Cleanup(func() {
		select {
		case <-s.out.ended: // and so has the group, whose number may be another's by now
		default:
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		<-s.exited
		if s.t.Failed() {
			s.t.Logf("stdout:\n%s\nstderr:\n%s", s.out, s.err)
		}
	})
	s.pid = s.serving(1)
	_, s.url, _ = strings.Cut(s.out.String(), "listening on ")
	s.url = strings.TrimSpace(s.url)
}

// putProgram has the path lead to the program, in one step. It is a symlink, as
// deployments have them.
func (s *service) putProgram() {
	s.t.Helper()
	self, err := os.Executable()
	must(s.t, err)
	must(s.t, os.Symlink(self, s.path+".new"))
	must(s.t, os.Rename(s.path+".new", s.path))
}

// putScript puts a shell script there.
func (s *service) putScript(text string) {
	s.t.Helper()
	s.putFile("#!/bin/sh\n" + text + "\n")
}

func (s *service) putFile(text string) {
	s.t.Helper()
	// A process that another test starts now would have the file open for
	// writing, for a moment, and a file like that is not executed.
	syscall.ForkLock.RLock()
	err := os.WriteFile(s.path+".new", []byte(text), 0o700)
	syscall.ForkLock.RUnlock()
	must(s.t, errors.Join(err, os.Rename(s.path+".new", s.path)))
}

// hang never serves. It says its pid, as the program does.
const hang = `echo "pid $$: hanging"; exec sleep 1000`

var (
	listening = regexp.MustCompile(`(?m)^pid (\d+): listening on http://[\d.:]+$`)
	hanging   = regexp.MustCompile(`(?m)^pid (\d+): hanging$`)
)

// serving waits until n processes in all have said that they serve, and returns
// the pid of the last.
func (s *service) serving(n int) int { s.t.Helper(); return s.awaitPid(listening, n) }

func (s *service) awaitPid(line *regexp.Regexp, n int) (pid int) {
	s.t.Helper()
	s.await(fmt.Sprintf("%d lines of stdout match %v", n, line), func() bool {
		lines := line.FindAllStringSubmatch(s.out.String(), -1)
		if len(lines) < n {
			return false
		}
		pid, _ = strconv.Atoi(lines[n-1][1])
		return true
	})
	return pid
}

// stopped waits until the process has ended with status 0.
func (s *service) stopped(pid int) {
	s.t.Helper()
	s.awaitStdout(fmt.Sprintf("pid %d: stopped\n", pid))
}

func (s *service) awaitStdout(text string) {
	s.t.Helper()
	s.await(fmt.Sprintf("stdout has %q", text), func() bool { return strings.Contains(s.out.String(), text) })
}

func (s *service) awaitStderr(text string) {
	s.t.Helper()
	s.await(fmt.Sprintf("stderr has %q", text), func() bool { return strings.Contains(s.err.String(), text) })
}

func (s *service) await(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("waited too long until %s", what)
		}
	}
}

func (s *service) signal(pid int, sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatalf("sending %v to %d: %v", sig, pid, err)
	}
}

// wantExit waits for the end of the first process.
func (s *service) wantExit(status int) {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(limit):
		s.t.Fatalf("pid %d does not end", s.pid)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != status {
		s.t.Errorf("pid %d: %v, want exit status %d", s.pid, s.cmd.ProcessState, status)
	}
}

// stop stops the process that serves, and wants it to be the last.
func (s *service) stop(pid int) {
	s.t.Helper()
	s.signal(pid, syscall.SIGTERM)
	s.stopped(pid)
	s.wantNoneLeft()
}

// wantNoneLeft waits for the end of stdout and stderr, which every process of
// the group has open as long as it lives.
func (s *service) wantNoneLeft() {
	s.t.Helper()
	for _, o := range []*output{s.out, s.err} {
		select {
		case <-o.ended:
		case <-time.After(limit):
			s.t.Fatal("a process is left")
		}
	}
	if conn, err := net.Dial("tcp", s.addr()); err == nil {
		conn.Close()
		s.t.Errorf("%s is open still", s.addr())
	}
	if strings.Contains(s.err.String(), "DATA RACE") {
		s.t.Error("a data race")
	}
}

func (s *service) addr() string { return strings.TrimPrefix(s.url, "http://") }

// answers waits until a new connection is answered by the process.
func (s *service) answers(pid int) {
	s.t.Helper()
	client := newClient(false)
	s.await(fmt.Sprintf("pid %d answers", pid), func() bool {
		got, err := client.ask("GET", s.url, "")
		if err != nil {
			s.t.Fatal(err)
		}
		return got == pid
	})
}

// files returns the number of files that the process has open, or 0 where that
// is not to be had.
func (s *service) files(pid int) int {
	s.t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(s.t, err)
	return len(files)
}

// output is what was written to a pipe so far.
type output struct {
	mu    sync.Mutex // guards text
	text  []byte
	ended chan struct{} // closed when nobody has the other end anymore
}

func newOutput(t *testing.T) (*output, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	o := &output{ended: make(chan struct{})}
	go func() { // ends when all processes have
		defer r.Close()
		defer close(o.ended)
		io.Copy(o, r)
	}()
	return o, w
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	return len(p), nil
}

// String returns the whole lines.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text[:strings.LastIndex(string(o.text), "\n")+1])
}

// client is for one request at a time, and has one connection at most.
type client struct{ http.Client }

func newClient(keepAlive bool) *client {
	return &client{http.Client{Transport: &http.Transport{DisableKeepAlives: !keepAlive}, Timeout: limit}}
}

// ask returns the pid of the process that answered. It asks once: net/http
// sends no body again that it cannot get anew.
func (c *client) ask(method, url, body string) (pid int, err error) {
	r, err := http.NewRequest(method, url, struct{ io.Reader }{strings.NewReader(body)})
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	return answer(resp, body)
}

// answer reads an answer, which should have the body of the request in it.
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

// held is a request of which the server waits for the body.
type held struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// hold begins a request, and returns when its handler runs.
func (s *service) hold(query string) *held {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr())
	must(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(limit))
	h := &held{s.t, conn, bufio.NewReader(conn)}
	h.begin(query)
	return h
}

// begin begins a request on a connection that has had its answers.
func (h *held) begin(query string) {
	h.t.Helper()
	fmt.Fprintf(h.conn, "POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", query)
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// load is clients that ask all the time.
type load struct {
	s       *service
	stopped chan struct{}
	clients sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	answers  int
	last     map[string]int // the pid that answered last, by client
	failures []error
}

// startLoad starts all four kinds of clients: each method, on connections that
// are kept and on new ones.
func (s *service) startLoad() *load {
	l := &load{s: s, stopped: make(chan struct{}), last: make(map[string]int)}
	for i, c := range []struct {
		method    string
		keepAlive bool
	}{{"GET", false}, {"POST", false}, {"GET", true}, {"POST", true}, {"POST", true}} {
		name := fmt.Sprintf("client %d, %s, keep-alive %v", i, c.method, c.keepAlive)
		l.mu.Lock() // the clients before it run already
		l.last[name] = 0
		l.mu.Unlock()
		l.clients.Go(func() { l.run(name, c.method, newClient(c.keepAlive)) })
	}
	s.t.Cleanup(l.stop)
	return l
}

func (l *load) run(name, method string, c *client) {
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
		pid, err := c.ask(method, l.s.url, body)
		l.mu.Lock()
		if err != nil {
			l.failures = append(l.failures, fmt.Errorf("%s, request %d, after an answer of pid %d: %w", name, i, l.last[name], err))
		} else {
			l.answers++
			l.last[name] = pid
		}
		failed := len(l.failures) > 20
		l.mu.Unlock()
		if failed {
			return
		}
	}
}

// await waits until the process answers all clients, and wants no failure.
func (l *load) await(pid int) {
	l.s.t.Helper()
	l.awaitAnswers(pid)
	l.want()
}

// awaitAnswers waits until the process answers all clients, or one has failed.
func (l *load) awaitAnswers(pid int) {
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

func (l *load) want() {
	l.s.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failures) > 0 {
		l.s.t.Fatalf("%d of %d requests failed:\n%v", len(l.failures), l.answers+len(l.failures), errors.Join(l.failures...))
	}
}

func (l *load) stop() {
	select {
	case <-l.stopped:
	default:
		close(l.stopped)
	}
	l.clients.Wait()
}

// restart sends SIGHUP, and returns the pid of the successor, the n-th process
// that serves, once its predecessor has stopped.
func (s *service) restart(pid, n int) int {
	s.t.Helper()
	s.signal(pid, syscall.SIGHUP)
	next := s.serving(n)
	s.stopped(pid)
	return next
}

// noSuccessor waits until the process says why it goes on, and reports how.
func (s *service) noSuccessor(pid int, why string) {
	s.t.Helper()
	line := fmt.Sprintf("restart: pid %d has no successor: ", pid)
	s.awaitStderr(line)
	_, text, _ := strings.Cut(s.err.String(), line)
	text, _, _ = strings.Cut(text, "\n")
	if !strings.HasSuffix(text, why) {
		s.t.Errorf("stderr = %q, want %q at the end", line+text, why)
	}
}

// wantGone wants no such process, not even one that was not waited for.
func (s *service) wantGone(pid int) {
	s.t.Helper()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		s.t.Errorf("pid %d is there still: %v", pid, err)
	}
}

// Ten restarts under load, and two attempts with versions that are broken: no
// request fails, and nothing is left.
func TestRestarts(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=3s", "-ready-timeout=8s") // each client asks once in 3 s, on any machine
	files := s.files(s.pid)
	l := s.startLoad()
	pid := s.pid
	for n := 2; n <= 11; n++ {
		l.await(pid)
		if broken := map[int]string{4: "exit 3", 8: hang}[n]; broken != "" {
			s.putScript(broken)
			s.signal(pid, syscall.SIGHUP)
			s.noSuccessor(pid, map[int]string{4: "it ended before it served (exit status 3)",
				8: "it did not serve within 8s (signal: terminated)"}[n])
			l.await(pid)
			s.putProgram()
		}
		pid = s.restart(pid, n)
	}
	s.wantExit(0)
	l.await(pid)
	l.stop()
	l.want()
	t.Log(l.answers, "requests")
	s.await("the last process has no more files open than the first", func() bool { return s.files(pid) <= files })
	s.stop(pid)
}

// Ten restarts under load without a delay lose no request either. A client has
// a quarter of a second to come back to its connection. On a slow machine one
// may need longer, and so there is another try.
func TestRestartsWithoutDelay(t *testing.T) {
	t.Parallel()
	for range 3 {
		s := startService(t, "-delay=0")
		l := s.startLoad()
		pid := s.pid
		for n := 2; n <= 11; n++ {
			l.awaitAnswers(pid)
			pid = s.restart(pid, n)
		}
		l.awaitAnswers(pid)
		l.stop()
		s.stop(pid)
		if len(l.failures) == 0 {
			return
		}
		t.Logf("%d of %d requests failed:\n%v", len(l.failures), l.answers+len(l.failures), errors.Join(l.failures...))
	}
	t.Error("each time requests failed")
}

// Once the successor serves, its predecessor answers what still comes on its
// connections, and asks the client to leave.
func TestClientsAreAskedToLeave(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=15s") // longer than the test takes
	c := s.hold("")
	c.send()
	resp := c.response()
	if _, err := answer(resp, "hello"); err != nil || resp.Close {
		t.Fatalf("POST before = %+v, %v, want an answer that keeps the connection", resp, err)
	}
	s.signal(s.pid, syscall.SIGHUP)
	next := s.serving(2)
	s.awaitStderr("quit: fired")
	c.begin("")
	c.send()
	resp = c.response()
	pid, err := answer(resp, "hello")
	must(t, err)
	if pid != s.pid || !resp.Close {
		t.Errorf("pid %d answered, Connection: close %v, want pid %d and true", pid, resp.Close, s.pid)
	}
	// New connections are not for it anymore.
	in := 0
	s.await("the successor has answered 100 in a row", func() bool {
		pid, err := newClient(false).ask("GET", s.url, "")
		must(t, err)
		if in++; pid != next {
			in = 0
		}
		return in == 100
	})
}

func TestRequestInFlight(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0")
	h := s.hold("")
	idle := s.hold("")
	idle.send()
	_, err := answer(idle.response(), "hello")
	must(t, err)
	s.signal(s.pid, syscall.SIGHUP)
	next := s.serving(2)
	if _, err := idle.r.ReadByte(); err != io.EOF { // which Shutdown does, once it has closed the listener
		t.Errorf("the idle connection: %v, want it closed", err)
	}
	s.answers(next)
	h.send()
	if pid, err := answer(h.response(), "hello"); pid != s.pid || err != nil {
		t.Errorf("the request in flight: pid %d, %v, want pid %d", pid, err, s.pid)
	}
	s.stopped(s.pid)
	s.wantExit(0)
	s.stop(next)
}

// A request that does not end does not keep the old process, and it says so.
func TestRequestNeverEnds(t *testing.T) {
	t.Parallel()
	process.Patiently(t, 10*time.Second, func(timeout time.Duration) bool { // of which the request has half a second to say so
		s := startService(t, "-delay=0", fmt.Sprint("-timeout=", timeout))
		h := s.hold("?d=1h")
		h.send()
		s.signal(s.pid, syscall.SIGHUP)
		next := s.serving(2)
		s.wantExit(1)
		resp, err := http.ReadResponse(h.r, nil)
		if err == nil && resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("the request that never ends: %s, want 503", resp.Status)
		}
		s.awaitStderr("restart: quit: *http.Server (restart/main.go:")
		s.answers(next)
		s.stop(next)
		return err == nil
	})
}

// Whatever is at the path instead of a good version: the old process says why
// it goes on, waits for what it started, and has nothing left of it. It can be
// replaced later, and it can be stopped.
func TestNoSuccessor(t *testing.T) {
	for name, test := range map[string]struct{ file, why string }{
		"exits":         {"#!/bin/sh\nexit 1\n", "it ended before it served (exit status 1)"},
		"ends well":     {"#!/bin/sh\n", "it ended before it served (exit status 0)"},
		"crashes":       {"#!/bin/sh\nkill -KILL $$\n", "it ended before it served (signal: killed)"},
		"no program":    {"hello\n", "exec format error"},
		"nothing there": {"", "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startService(t, "-delay=0")
			files := s.files(s.pid)
			s.answers(s.pid)
			if test.file == "" {
				must(t, os.Remove(s.path))
			} else {
				s.putFile(test.file)
			}
			s.signal(s.pid, syscall.SIGHUP)
			s.noSuccessor(s.pid, test.why)
			s.answers(s.pid)
			s.await("no more files are open than before", func() bool { return s.files(s.pid) <= files })
			s.putProgram()
			next := s.restart(s.pid, 2)
			s.wantExit(0)
			s.answers(next)
			s.stop(next)
		})
	}
}

// One that hangs, and does not heed SIGTERM either, is killed.
func TestSuccessorHangs(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0", "-ready-timeout=500ms")
	s.putScript("trap '' TERM; " + hang)
	line := fmt.Sprintf("restart: pid %d has no successor: pid ", s.pid)
	for n := 1; !hanging.MatchString(s.out.String()); n++ { // on a slow machine, none may come as far at first
		s.signal(s.pid, syscall.SIGHUP)
		s.await("it has no successor", func() bool { return strings.Count(s.err.String(), line) == n })
		if n == 100 {
			t.Fatal("no successor comes to hang")
		}
	}
	successor := s.awaitPid(hanging, 1)
	s.awaitStderr(fmt.Sprintf("%s%d: it did not serve within 500ms (signal: killed)\n", line, successor))
	s.wantGone(successor)
	s.answers(s.pid)
	s.stop(s.pid)
	s.wantExit(0)
}

// A socket in blocking mode would have its Accept hold up the stop.
func TestStopAfterFailedRestart(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0")
	s.putScript("exit 1")
	s.signal(s.pid, syscall.SIGHUP)
	s.noSuccessor(s.pid, "(exit status 1)")
	s.answers(s.pid) // and is in Accept again
	s.stop(s.pid)
	s.wantExit(0)
}

func TestSignalWhileSuccessorStarts(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := startService(t, "-delay=0", "-ready-timeout=10m")
			s.putScript(hang)
			s.signal(s.pid, syscall.SIGHUP)
			successor := s.awaitPid(hanging, 1)
			s.signal(s.pid, sig)
			s.noSuccessor(s.pid, fmt.Sprintf("quit: received signal: %v (signal: terminated)", sig))
			s.wantGone(successor)
			s.stopped(s.pid)
			s.wantExit(0)
			s.wantNoneLeft()
		})
	}
	t.Run("not heeded", func(t *testing.T) {
		t.Parallel()
		process.Patiently(t, 2*time.Second, func(timeout time.Duration) bool { // of which it has a tenth to say so
			s := startService(t, "-delay=0", "-ready-timeout=10m", fmt.Sprint("-timeout=", timeout))
			s.putScript("trap '' TERM; " + hang)
			s.signal(s.pid, syscall.SIGHUP)
			s.awaitPid(hanging, 1)
			s.signal(s.pid, syscall.SIGTERM)
			s.wantExit(1) // since the time was not enough
			s.awaitStderr("restart: quit: ")
			if !strings.Contains(s.err.String(), "quit: received signal: terminated (signal: killed)") {
				return false
			}
			s.wantNoneLeft()
			return true
		})
	})
	t.Run("of the successor", func(t *testing.T) {
		t.Parallel()
		s := startService(t, "-delay=0", "-ready-timeout=10m")
		s.putScript(hang)
		s.signal(s.pid, syscall.SIGHUP)
		s.signal(s.awaitPid(hanging, 1), syscall.SIGTERM)
		s.noSuccessor(s.pid, "it ended before it served (signal: terminated)")
		s.answers(s.pid)
		s.stop(s.pid)
	})
}

func TestSecondHangup(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0", "-ready-timeout=10m")
	s.putScript(hang)
	s.signal(s.pid, syscall.SIGHUP)
	successor := s.awaitPid(hanging, 1)
	s.signal(s.pid, syscall.SIGHUP)
	s.awaitStderr(fmt.Sprintf("restart: pid %d: SIGHUP ignored: pid %d is being started\n", s.pid, successor))
	s.signal(successor, syscall.SIGTERM)
	s.noSuccessor(s.pid, "it ended before it served (signal: terminated)")
	s.putProgram()
	next := s.restart(s.pid, 2)
	s.stop(next)
}

// What is started is what is at the path by then, and not what was.
func TestNewVersion(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0")
	self, err := os.Executable()
	must(t, err)
	s.putScript(`echo "version 2"; exec ` + self + ` "$@"`)
	next := s.restart(s.pid, 2)
	s.awaitStdout("version 2\n")
	s.answers(next)
	s.stop(next)
}

func TestPidfile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pid")
	s := startService(t, "-delay=0", "-pidfile="+path)
	want := func(pid int) {
		t.Helper()
		if content, err := os.ReadFile(path); string(content) != fmt.Sprintln(pid) {
			t.Errorf("pidfile = %q, %v, want %d", content, err, pid)
		}
	}
	want(s.pid)
	// One that was too late may have written its own.
	s.putScript("echo $$ >" + path + "; " + hang)
	s.signal(s.pid, syscall.SIGHUP)
	s.signal(s.awaitPid(hanging, 1), syscall.SIGTERM)
	s.noSuccessor(s.pid, "it ended before it served (signal: terminated)")
	want(s.pid)
	s.putProgram()
	next := s.restart(s.pid, 2)
	want(next)
	s.stop(next)
	if files, err := os.ReadDir(filepath.Dir(path)); len(files) > 0 || err != nil {
		t.Errorf("files = %v, %v, want none left", files, err)
	}
}

func TestUnderNohup(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.start(exec.Command("/bin/sh", "-c", `trap '' HUP; exec "$0" "$@"`, s.path, "-addr=127.0.0.1:0", "-delay=0"))
	next := s.restart(s.pid, 2)
	last := s.restart(next, 3)
	s.stop(last)
}

func TestClientNeverReads(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0", "-timeout=3s")
	body := strings.Repeat("x", 1<<20) // which is answered
	process.NeverRead(t, strings.TrimPrefix(s.url, "http://"), fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	s.signal(s.pid, syscall.SIGTERM)
	s.wantExit(1)
	s.wantNoneLeft()
	if got := s.err.String(); !strings.Contains(got, "\nrestart: quit: *http.Server (restart/main.go:") {
		t.Errorf("stderr = %q, want it to name the server", got)
	}
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0")
	s.hold("")
	s.signal(s.pid, syscall.SIGINT)
	s.awaitStderr("quit: fired")
	time.Sleep(600 * time.Millisecond) // sooner, it would be taken for the same Ctrl-C
	s.signal(s.pid, syscall.SIGINT)
	s.wantExit(130)
	s.wantNoneLeft()
	if got := s.err.String(); !strings.Contains(got, "*http.Server") || !strings.Contains(got, "ending at once") {
		t.Errorf("stderr = %q, want the report", got)
	}
}

func TestStartFails(t *testing.T) {
	taken := process.TakenAddr(t)
	nowhere := filepath.Join(t.TempDir(), "no", "pid")
	for _, test := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"-addr", taken}, 1, "restart: listen tcp " + taken + ": bind: address already in use\n"},
		{[]string{"-addr=127.0.0.1:0", "-delay=0", "-pidfile", nowhere}, 1, "no such file or directory\n"},
		{[]string{"-adr=:0"}, 2, "restart: flag provided but not defined: -adr\n"},
		{[]string{"-ready-timeout=0"}, 2, "restart: -ready-timeout=0s is no time\n"},
		{[]string{"now"}, 2, "restart: unexpected argument \"now\"\n"},
	} {
		p := process.Start(t, test.args...)
		p.WantExit(test.status)
		if p.Stdout() != "" || !strings.HasSuffix(p.Stderr(), test.stderr) {
			t.Errorf("%v: stdout = %q, stderr = %q, want nothing and %q at the end", test.args, p.Stdout(), p.Stderr(), test.stderr)
		}
	}
}
