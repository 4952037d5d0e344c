//go:build unix

package process

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Program is one of several programs in a test binary, for tests that need a
// small one each. It is a package-level variable beside its test:
//
//	var closing = process.NewProgram("closing", func(args []string) {
//		process.Say("closing")
//		process.Listen()
//		process.Say("closed")
//	})
//
//	func TestClosing(t *testing.T) {
//		p := closing.Start(t)
//		p.Expect("closing")
//		…
//		p.Tell()
//		p.Expect("closed")
//		p.WantEnd("exit status 0")
//	}
//
// Say and Expect, and Tell and Listen, use pipes that are there for nothing
// else: file descriptor 3, and stdin. The program and the test tell each other
// over them how far they are, so that neither has to guess it by the time.
// stdout and stderr stay free to be read, full or broken.
type Program struct{ name string }

// programs holds the main functions of all programs, by name. It does not
// change after Main was called.
var programs = make(map[string]func(args []string))

// NewProgram returns a new program, whose name no other one in the test binary
// has. Its main function gets the args that it is started with; when it
// returns, the exit status is 0. NewProgram is for the initialization of
// package-level variables.
func NewProgram(name string, main func(args []string)) *Program {
	if _, taken := programs[name]; taken {
		panic("process: two programs are named " + name)
	}
	programs[name] = main
	return &Program{name: name}
}

// Command is [Command] for g.
func (g *Program) Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	return command(t, g.name, args)
}

// Start is [Start] for g.
func (g *Program) Start(t testing.TB, args ...string) *Process {
	t.Helper()
	return g.StartCommand(t, g.Command(t, args...))
}

// StartCommand is [StartCommand] for a cmd that g.Command returned. It takes
// Stdin and ExtraFiles too.
func (g *Program) StartCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	said, w := pipe(t)
	defer w.Close()
	cmd.ExtraFiles = []*os.File{w}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := StartCommand(t, cmd)
	p.said, p.stdin = bufio.NewReader(said), stdin
	return p
}

// toTest is the pipe that Say writes to; nil if the process is not a Program.
var toTest *os.File

// Say is called by a Program. It says a line to the test.
func Say(format string, args ...any) {
	if _, err := fmt.Fprintf(toTest, format+"\n", args...); err != nil {
		panic(err) // nobody tests this process any longer
	}
}

// Listen is called by a Program. It waits until the test calls Tell once more.
func Listen() { os.Stdin.Read(make([]byte, 1)) }

// Next returns the next line that the Program says, or "" if it has ended.
func (p *Process) Next() string {
	line, _ := p.said.ReadString('\n')
	return strings.TrimSuffix(line, "\n")
}

// Expect wants the next lines that the Program says to be these.
func (p *Process) Expect(want ...string) {
	p.t.Helper()
	for _, want := range want {
		if got := p.Next(); got != want {
			p.t.Fatalf("the process said %q, want %q", got, want)
		}
	}
}

// Tell tells the Program to go on: one Listen returns. If the process has
// ended, Tell does nothing, and the next Expect fails.
func (p *Process) Tell() { io.WriteString(p.stdin, "\n") }

// IgnoreHangups has cmd, which has not been started, ignore SIGHUP and SIGINT
// from the start, as nohup and the background jobs of a shell do.
func IgnoreHangups(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = append([]string{sh, "-c", `trap "" HUP INT; exec "$0" "$@"`}, cmd.Args...)
	cmd.Path = sh
}

// BrokenPipe returns a pipe for a process to write to that has no reader.
func BrokenPipe(t testing.TB) *os.File {
	t.Helper()
	r, w := pipe(t)
	r.Close()
	return w
}

// FullPipe returns a pipe for a process to write to that is full, and is not
// read before the end of the test.
func FullPipe(t testing.TB) *os.File {
	t.Helper()
	_, w := pipe(t)
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Write(func(fd uintptr) bool { // not blocking until a process has it
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

// pipe returns a pipe that is closed at the end of the test.
func pipe(t testing.TB) (r, w *os.File) {
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
