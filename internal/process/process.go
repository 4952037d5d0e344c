//go:build unix

// Package process runs a program under test the way a shell or a container
// does: as a process, with real signals, pipes and an exit status.
//
// The process is the test binary itself, run again as the program, so that what
// -race or -cover adds is in it too:
//
//	func TestMain(m *testing.M) { process.Main(m, main) }
//
//	func TestStop(t *testing.T) {
//		p := process.Start(t, "-addr=127.0.0.1:0")
//		url := p.Line("listening on ")
//		…
//		p.Signal(syscall.SIGTERM)
//		p.WantExit(0)
//	}
//
// A test binary can also be several programs: see [Program].
package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// With this variable the test binary is a program: the one of NewProgram with
// that name, or main.
const asProgram = "QUIT_TEST_AS_PROGRAM"

// mainName is the name of Main's main.
const mainName = "main()"

// With this variable the test binary is run by that command, as is needed for a
// machine that is emulated. It is what -exec is for go test.
const runner = "QUIT_TEST_EXEC"

// limit is how long a process may live, and how long a test waits for something
// that is expected at once: far more than a slow machine needs.
const limit = 3 * time.Minute

// Main runs the tests, or, in a process that a test has started, the program.
// main is the program of Start and Command; it may be nil if there are only
// those of NewProgram.
//
// If Go finds goroutines that can never end ([runtime/pprof] has the profile
// goroutineleak), the tests fail, unless such a goroutine is in one of the
// functions in leaks, which leak it on purpose.
func Main(m *testing.M, main func(), leaks ...string) {
	if name := os.Getenv(asProgram); name != "" {
		os.Unsetenv(asProgram)
		// A process whose test was killed ends by itself. A timer is no
		// goroutine.
		time.AfterFunc(2*limit, func() { panic("no test has ended this process") })
		if name == mainName {
			main()
		} else {
			toTest = os.NewFile(3, "pipe to the test")
			programs[name](os.Args[1:])
		}
		os.Exit(0)
	}
	// A process inherits which signals are ignored, as they are in the
	// background of a shell, but not which are handled.
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	status := m.Run()
	if status == 0 && !noLeaks(leaks) {
		status = 1
	}
	os.Exit(status)
}

// Command returns Main's main with args, not started yet. If it lives longer
// than three minutes, SIGQUIT ends it, with its stacks on stderr.
func Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	return command(t, mainName, args)
}

func command(t testing.TB, program string, args []string) *exec.Cmd {
	t.Helper()
	cmd := Self(t, args...)
	cmd.Env = append(cmd.Env, asProgram+"="+program, "GOTRACEBACK=single",
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // by default each exit takes a second
	if testing.CoverMode() != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+t.TempDir()) // without it, a warning is on stderr
	}
	return cmd
}

// Self is Command for the test binary as it is: it runs tests.
func Self(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	line := append(strings.Fields(os.Getenv(runner)), self)
	return Other(t, line[0], append(line[1:], args...)...)
}

// Other is Command for another program than the one that is tested.
func Other(t testing.TB, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = time.Minute // also for what is left in the pipes when it has ended
	cmd.Env = os.Environ()
	return cmd
}

// Process is a program that runs, or has ended. Its methods are for the test's
// own goroutine.
type Process struct {
	*exec.Cmd
	t              testing.TB
	stdout, stderr output
	read           int // of stdout, by Line
	exited         chan struct{}

	// The test's ends of the pipes of a Program; of no use in another process.
	said  *bufio.Reader
	stdin io.Writer
}

// Start starts Main's main with args.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	return StartCommand(t, Command(t, args...))
}

// StartCommand starts cmd. Where cmd has no Stdout or Stderr, the methods of
// the Process read it. At the end of the test the process is killed if it still
// runs, and what it wrote is logged if the test has failed.
func StartCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, t: t, exited: make(chan struct{}),
		said: bufio.NewReader(strings.NewReader("")), stdin: io.Discard}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which the end of the test kills
		cmd.Wait() // its error is in the status
		p.stdout.close()
		p.stderr.close()
		close(p.exited)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("%v: %v, stdout:\n%s\nstderr:\n%s", cmd, p.ProcessState, p.Stdout(), p.Stderr())
		}
	})
	return p
}

// Line returns the rest of the next line of stdout that begins with prefix. It
// skips others.
func (p *Process) Line(prefix string) string {
	p.t.Helper()
	for {
		from := p.read
		text, ok := p.stdout.await(func(s string) bool { return strings.Contains(s[from:], "\n") })
		if !ok {
			p.t.Fatalf("stdout has no line with %q", prefix)
		}
		line, _, _ := strings.Cut(text[from:], "\n")
		p.read += len(line) + 1
		if rest, found := strings.CutPrefix(line, prefix); found {
			return rest
		}
	}
}

// Signal sends sig.
func (p *Process) Signal(sig os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		p.t.Errorf("sending %v: %v", sig, err)
	}
}

// InterruptAgain sends an interrupt that counts as a second Ctrl-C: within half
// a second after the first one it would count as the same one, arriving twice.
func (p *Process) InterruptAgain() {
	p.t.Helper()
	time.Sleep(600 * time.Millisecond)
	p.Signal(os.Interrupt)
}

// AwaitStdout waits until stdout has text, and AwaitStderr until stderr has.
func (p *Process) AwaitStdout(text string) { p.t.Helper(); p.await(&p.stdout, "stdout", text) }
func (p *Process) AwaitStderr(text string) { p.t.Helper(); p.await(&p.stderr, "stderr", text) }

func (p *Process) await(o *output, name, text string) {
	p.t.Helper()
	if _, ok := o.await(func(s string) bool { return strings.Contains(s, text) }); !ok {
		p.t.Fatalf("%s has no %q", name, text)
	}
}

// AwaitFired waits until the program's log says that it quits.
func (p *Process) AwaitFired() { p.t.Helper(); p.AwaitStderr("quit: fired") }

// AwaitPortClosed waits until nothing listens on addr any longer.
func (p *Process) AwaitPortClosed(addr string) {
	p.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			conn.Close()
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s is open still", addr)
		}
	}
}

// Stdout and Stderr return what there is so far; all there was, after the end.
func (p *Process) Stdout() string { return p.stdout.String() }
func (p *Process) Stderr() string { return p.stderr.String() }

// WantEnd waits for the end of the process, and wants it to be as in "exit
// status 130" or "signal: terminated". A Program is to have said nothing more.
func (p *Process) WantEnd(want string) {
	p.t.Helper()
	if rest, _ := io.ReadAll(p.said); len(rest) > 0 {
		p.t.Errorf("the process said %q, want nothing more", rest)
	}
	<-p.exited
	if got := p.ProcessState.String(); got != want {
		p.t.Errorf("the process ended with %q, want %q", got, want)
	}
}

// WantExit is WantEnd for an exit status.
func (p *Process) WantExit(status int) {
	p.t.Helper()
	p.WantEnd(fmt.Sprint("exit status ", status))
}

// WantBadStart starts the program with args, and wants it to end with that
// status, having written nothing but one line on stderr, which begins with the
// name of its folder and contains why.
func WantBadStart(t testing.TB, status int, why string, args ...string) {
	t.Helper()
	folder, err := os.Getwd() // of a test: that of its package
	if err != nil {
		t.Fatal(err)
	}
	p := Start(t, args...)
	p.WantExit(status)
	got, prefix := p.Stderr(), filepath.Base(folder)+": "
	oneLine := strings.Index(got, "\n") == len(got)-1
	if p.Stdout() != "" || !oneLine || !strings.HasPrefix(got, prefix) ||
		!strings.Contains(got, why) {
		t.Errorf("%q: stdout = %q, stderr = %q, want only the latter, one line: %s… %s…",
			args, p.Stdout(), got, prefix, why)
	}
}

// Patiently calls try with a timeout for the program. The last steps of a stop
// have a part of that time only, which may be too short on a slow machine. Then
// try reports false, and is called again with twice as much, at most two times.
// A test that has failed is not tried again.
func Patiently(t testing.TB, timeout time.Duration, try func(timeout time.Duration) bool) {
	t.Helper()
	for range 3 {
		if try(timeout) || t.Failed() {
			return
		}
		t.Logf("-timeout=%v was not enough", timeout)
		timeout *= 2
	}
	t.Error("no time is enough")
}

// NeverRead sends request to addr again and again, and reads no answer, until
// the server is stuck in a write: then it does not read any longer either. The
// connection is open until the end of the test.
func NeverRead(t testing.TB, addr, request string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// A small buffer, and requests that are not small: whenever a server that
	// is merely slow reads one, there is room for more to be sent.
	conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
	padded := "\r\nPad: " + strings.Repeat("x", 256) + "\r\n\r\n"
	request = strings.Replace(request, "\r\n\r\n", padded, 1)
	batch := strings.Repeat(request, 1+64<<10/len(request))
	// Several times in a row, and each time it answers another client: so the
	// server does not just stand still.
	for rest, stuck := batch, 0; stuck < 6; {
		conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := io.WriteString(conn, rest)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if stuck++; n > 0 {
			stuck = 0
		} else {
			ask(t, addr)
		}
		if rest = rest[n:]; rest == "" {
			rest = batch
		}
	}
}

// SlowToSend has a client send the head of a GET to addr, which announces a
// body, and never the body. That delays a stop until the server waits no
// longer. It returns a func to call after the stop, which wants the client to
// have its answer.
func SlowToSend(t testing.TB, addr, path string) (wantAnswer func()) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", path)
	ask(t, addr) // accepted later than the other
	return func() {
		t.Helper()
		conn.SetDeadline(time.Now().Add(limit))
		if line, err := bufio.NewReader(conn).ReadString('\n'); line != "HTTP/1.1 200 OK\r\n" {
			t.Errorf("the client that is slow to send was answered %q, %v, want 200", line, err)
		}
	}
}

// ask waits until the server at addr answers a new client, whatever it says.
func ask(t testing.TB, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
}

// TakenAddr returns an address on which somebody listens until the end of the
// test.
func TakenAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// output is what a process has written so far.
type output struct {
	mu      sync.Mutex // guards the fields below
	text    []byte
	ended   bool
	changed chan struct{} // closed by the next change; nil if nobody waits
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	o.tell()
	return len(p), nil
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.tell()
}

// tell is called with mu held.
func (o *output) tell() {
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// await waits until the text fulfils is, and reports false once it never will.
func (o *output) await(is func(text string) bool) (text string, ok bool) {
	timeout := time.After(limit)
	for {
		o.mu.Lock()
		text, ended := string(o.text), o.ended
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if is(text) {
			return text, true
		}
		if ended {
			return text, false
		}
		select {
		case <-changed:
		case <-timeout:
			return text, false
		}
	}
}
