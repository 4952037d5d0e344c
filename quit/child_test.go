//go:build unix

package quit_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What ends a process is tested with a child: this test binary once more, which
// runs one of programs instead of the tests. A child and its test tell each other
// over pipes how far they are, so that neither has to guess it by the time:
//
//	child               test
//	say("closing")  →   c.expect("closing")
//	listen()        ←   c.tell()
//
// stdout and stderr are not among these pipes, and are free to be read, full or broken.

// programs are what a child can run, by name; args are those given to newChild.
var programs = map[string]func(args []string){}

// program adds to programs, and returns the name. It is for package-level
// variables, so that a program stands beside the test that uses it.
func program(name string, main func(args []string)) string {
	programs[name] = main
	return name
}

const programEnv = "QUIT_TEST_PROGRAM"

// toTest is, in a child, where say writes to.
var toTest *os.File

func TestMain(m *testing.M) {
	if name, ok := os.LookupEnv(programEnv); ok {
		// A child whose test was killed ends by itself. A timer is no goroutine.
		time.AfterFunc(4*time.Minute, func() { panic("nobody ended this child") })
		toTest = os.NewFile(3, "pipe to the test")
		programs[name](os.Args[1:])
		os.Exit(0)
	}
	// Children inherit which signals are ignored, as they are in the background of
	// a script, but not which are caught.
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	os.Exit(m.Run())
}

// say tells the test a line.
func say(format string, args ...any) { fmt.Fprintf(toTest, format+"\n", args...) }

// listen waits until the test tells the child to go on.
func listen() { os.Stdin.Read(make([]byte, 1)) }

// hang waits forever.
func hang() { <-make(chan int) }

// child is a process that runs a program. Its methods fail the test of t.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	cancel context.CancelFunc
	stdin  io.Writer
	lines  *bufio.Reader // what it says

	// output is stdout and stderr, unless cmd has others; complete after wantEnd.
	output bytes.Buffer
}

// newChild returns a child that has not been started, for cmd to be changed.
func newChild(t *testing.T, program string, args ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The limit ends a child that hangs, and is far from what a slow machine needs.
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	c := &child{t: t, cmd: exec.CommandContext(ctx, self, args...), cancel: cancel}
	c.cmd.Env = append(os.Environ(), programEnv+"="+program, "GOTRACEBACK=single",
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // by default each exit takes a second
	if testing.CoverMode() != "" {
		c.cmd.Env = append(c.cmd.Env, "GOCOVERDIR="+t.TempDir()) // or it complains on stderr
	}
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	return c
}

// ignoreHangupAndInterrupt has the process started as nohup and a shell's
// background jobs are.
func (c *child) ignoreHangupAndInterrupt() {
	sh, err := exec.LookPath("sh")
	if err != nil {
		c.t.Fatal(err)
	}
	c.cmd.Args = append([]string{sh, "-c", `trap "" HUP INT; exec "$0" "$@"`}, c.cmd.Args...)
	c.cmd.Path = sh
}

// start starts the child, which is killed at the end of the test if it still runs then.
func (c *child) start() *child {
	c.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.lines = bufio.NewReader(r)
	c.cmd.ExtraFiles = []*os.File{w} // file descriptor 3
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	w.Close()
	c.t.Cleanup(func() {
		c.kill()
		r.Close()
	})
	return c
}

// startChild is newChild and start.
func startChild(t *testing.T, program string, args ...string) *child {
	t.Helper()
	return newChild(t, program, args...).start()
}

// next returns the next line that the child says, or "" if it has ended.
func (c *child) next() string {
	line, _ := c.lines.ReadString('\n')
	return strings.TrimSuffix(line, "\n")
}

// expect wants the next lines that the child says to be these.
func (c *child) expect(want ...string) {
	c.t.Helper()
	for _, want := range want {
		if got := c.next(); got != want {
			c.kill()
			c.t.Fatalf("the child said %q, want %q; %v, output:\n%s", got, want, c.cmd.ProcessState, &c.output)
		}
	}
}

// tell tells the child to go on. One that has ended is found by who expects it to say more.
func (c *child) tell() { c.stdin.Write([]byte("\n")) }

// signal sends the child a signal, which is then on its way: only by what the
// child says does the test know that it has come.
func (c *child) signal(s os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// wait waits for the end of the child, and returns how it ended: "exit status
// 1", "signal: terminated".
func (c *child) wait() string {
	c.t.Helper()
	if rest, _ := io.ReadAll(c.lines); len(rest) > 0 {
		c.t.Errorf("the child said %q, want nothing more", rest)
	}
	c.cmd.Wait() // an error is in the ProcessState too
	return c.cmd.ProcessState.String()
}

// wantEnd wants the child to end with this status, which is as in wait.
func (c *child) wantEnd(want string) {
	c.t.Helper()
	if got := c.wait(); got != want {
		c.t.Errorf("the child ended with %q, want %q; output:\n%s", got, want, &c.output)
	}
}

// endAtOnce sends the interrupt that ends the child at once. It reports false if that took so
// long that the child may have had no time for the stacks: within a second they must be there.
func (c *child) endAtOnce() (inTime bool) {
	c.t.Helper()
	start := time.Now()
	c.signal(syscall.SIGINT)
	c.wantEnd("exit status 130")
	return time.Since(start) < time.Second
}

// untilInTime calls run until it reports that the machine was not too slow for it.
func untilInTime(t *testing.T, run func() (inTime bool)) {
	t.Helper()
	for range 50 {
		if run() || t.Failed() {
			return
		}
	}
	t.Error("too slow, 50 times of 50")
}

// wantOutput wants each of these in the output. It is for after wantEnd.
func (c *child) wantOutput(want ...string) {
	c.t.Helper()
	for _, want := range want {
		if got := c.output.String(); !strings.Contains(got, want) {
			c.t.Errorf("the child's output has no %q:\n%s", want, got)
		}
	}
}

func (c *child) kill() {
	c.cancel()
	c.cmd.Wait()
}

// brokenPipe returns the end of a pipe for a child to write to that nobody can read.
func brokenPipe(t *testing.T) *os.File {
	t.Helper()
	r, w := pipe(t)
	r.Close()
	return w
}

// fullPipe returns the end of a pipe for a child to write to that is full and stays so.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	_, w := pipe(t)
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Write(func(fd uintptr) bool { // not blocking until the child has it
		for err == nil || err == syscall.EINTR {
			_, err = syscall.Write(int(fd), []byte("x"))
		}
		return true
	})
	if err != syscall.EAGAIN {
		t.Fatalf("writing to a pipe that nobody reads: %v, want %v", err, syscall.EAGAIN)
	}
	return w
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}
