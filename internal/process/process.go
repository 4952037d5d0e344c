//go:build unix

// Package process runs a program under test as a shell or a container does: as
// a process, with real signals, pipes and an exit status.
//
// The process is the test binary itself, run again as the program. So it is
// also built with -race or -cover if the tests are:
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
// A test binary can be several programs: see [Program].
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

// asProgram is the environment variable that makes the test binary a program.
// Its value is the name of a NewProgram, or mainName.
const asProgram = "QUIT_TEST_AS_PROGRAM"

// mainName is the name of the func main passed to Main.
const mainName = "main()"

// runner is the environment variable with a command that runs the test binary,
// such as the emulator of another machine. It is like the flag -exec of go
// test.
const runner = "QUIT_TEST_EXEC"

// limit bounds the life of a process, and the wait of a test for an event that
// should follow at once. It is far more than a slow machine needs.
const limit = 3 * time.Minute

// Main runs the tests or, in a process that a test has started, the program.
// Start and Command use main as their program. It may be nil if all programs
// are made by NewProgram.
//
// The tests fail if the profile goroutineleak of [runtime/pprof] finds
// goroutines that can never end. The functions in leaks are exceptions, since
// they leak a goroutine on purpose.
func Main(m *testing.M, main func(), leaks ...string) {
	if name := os.Getenv(asProgram); name != "" {
		os.Unsetenv(asProgram)
		// A process whose test was killed ends by itself. The timer needs no
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
	// Child processes inherit ignored signals, such as those that a shell
	// ignores for background jobs, but not handled ones.
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

// Command returns a command that runs the main of Main with args. If the
// process lives longer than three minutes, SIGQUIT ends it, with its stacks on
// stderr.
func Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	return command(t, mainName, args)
}

func command(t testing.TB, program string, args []string) *exec.Cmd {
	t.Helper()
	cmd := Self(t, args...)
	cmd.Env = append(cmd.Env, asProgram+"="+program, "GOTRACEBACK=single",
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // by default an exit takes a second
	if testing.CoverMode() != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+t.TempDir()) // or else stderr has a warning
	}
	return cmd
}

// Self is Command for the test binary itself, which then runs tests.
func Self(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	line := append(strings.Fields(os.Getenv(runner)), self)
	return Other(t, line[0], append(line[1:], args...)...)
}

// Other is Command for a program that is not the one under test.
func Other(t testing.TB, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = time.Minute // also to read the pipes after the process has ended
	cmd.Env = os.Environ()
	return cmd
}

// Process is a program that runs or has ended. Its methods are for the test's
// own goroutine.
type Process struct {
	*exec.Cmd
	t              testing.TB
	stdout, stderr output
	read           int // of stdout, by Line
	exited         chan struct{}

	// The test's ends of the pipes of a Program. Other processes have no such
	// pipes.
	said  *bufio.Reader
	stdin io.Writer
}

// Start starts the main of Main with args.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	return StartCommand(t, Command(t, args...))
}

// StartCommand starts cmd. The methods of the Process read stdout and stderr,
// unless cmd has its own Stdout or Stderr. At the end of the test the process
// is killed if it still runs. If the test has failed, its output is logged.
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
		cmd.Wait() // ProcessState has its error
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
// skips other lines.
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

// Signal sends sig to the process.
func (p *Process) Signal(sig os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		p.t.Errorf("sending %v: %v", sig, err)
	}
}

// InterruptAgain sends an interrupt that counts as a second Ctrl-C. Within half
// a second after the first, it would count as the first one arriving twice.
func (p *Process) InterruptAgain() {
	p.t.Helper()
	time.Sleep(600 * time.Millisecond)
	p.Signal(os.Interrupt)
}

// AwaitStdout waits until stdout contains text. AwaitStderr does the same for
// stderr.
func (p *Process) AwaitStdout(text string) { p.t.Helper(); p.await(&p.stdout, "stdout", text) }
func (p *Process) AwaitStderr(text string) { p.t.Helper(); p.await(&p.stderr, "stderr", text) }

func (p *Process) await(o *output, name, text string) {
	p.t.Helper()
	if _, ok := o.await(func(s string) bool { return strings.Contains(s, text) }); !ok {
		p.t.Fatalf("%s has no %q", name, text)
	}
}

// AwaitFired waits until the program logs that the event has fired.
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

// Stdout and Stderr return the output so far, or all of it after the end.
func (p *Process) Stdout() string { return p.stdout.String() }
func (p *Process) Stderr() string { return p.stderr.String() }

// WantEnd waits for the end of the process. It fails the test unless the end is
// want, such as "exit status 130" or "signal: terminated". It also fails the
// test if a Program has sent lines that the test did not expect.
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

// WantExit is WantEnd with an exit status.
func (p *Process) WantExit(status int) {
	p.t.Helper()
	p.WantEnd(fmt.Sprint("exit status ", status))
}

// WantBadStart starts the program with args. It fails the test unless the
// program ends with the status and writes only one line, on stderr. That line
// has to begin with the name of the program's folder, and to contain why.
func WantBadStart(t testing.TB, status int, why string, args ...string) {
	t.Helper()
	folder, err := os.Getwd() // a test runs in the folder of its package
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

// Patiently calls try with a timeout for the program. The last steps of a
// shutdown get only a part of the timeout, which may be too short on a slow
// machine. If try reports false, Patiently doubles the timeout and calls it
// again, at most twice. It does not try again after the test has failed.
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
// the server is stuck in a write and so no longer reads. The connection stays
// open until the end of the test.
func NeverRead(t testing.TB, addr, request string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// The buffer is small, and the requests are not. So whenever a server that
	// is only slow reads a request, there is room to send more.
	conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
	padded := "\r\nPad: " + strings.Repeat("x", 256) + "\r\n\r\n"
	request = strings.Replace(request, "\r\n\r\n", padded, 1)
	batch := strings.Repeat(request, 1+64<<10/len(request))
	// The server counts as stuck after several failed writes in a row. It
	// answers another client after each failed write, so it is not merely slow.
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

// SlowToSend starts a client that sends the head of a GET request to addr. The
// head announces a body, which the client never sends. This delays the shutdown
// until the server stops waiting. The func that SlowToSend returns is called
// after the shutdown, and fails the test unless the client gets its answer.
func SlowToSend(t testing.TB, addr, path string) (wantAnswer func()) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", path)
	ask(t, addr) // accepted after the slow client
	return func() {
		t.Helper()
		conn.SetDeadline(time.Now().Add(limit))
		if line, err := bufio.NewReader(conn).ReadString('\n'); line != "HTTP/1.1 200 OK\r\n" {
			t.Errorf("the client that is slow to send was answered %q, %v, want 200", line, err)
		}
	}
}

// ask waits until the server at addr answers a new client, with any answer.
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

// TakenAddr returns an address that is in use until the end of the test.
func TakenAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

// Exited returns a channel that is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// output is the output of a process so far.
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

// tell wakes await. It is called with mu held.
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

// await waits until is returns true for the output. It reports false if the
// process ends, or the limit passes, before that.
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
