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

// Program is one of several programs in a test binary, for tests that each need
// a small one. It is a package-level variable next to its test:
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
// Say and Expect, like Tell and Listen, use a pipe of their own: file
// descriptor 3 and stdin. Through these pipes, the program and the test report
// their progress to each other, so neither has to guess it from the time. A
// test can read stdout and stderr, or make them full or broken pipes.
type Program struct{ name string }

// programs has the main functions of all programs, by name. It does not change
// after the call to Main.
var programs = make(map[string]func(args []string))

// NewProgram returns a new program. Its name must be unique in the test binary.
// main is called with the args of Start. When it returns, the exit status is 0.
// NewProgram is for the initialization of package-level variables.
func NewProgram(name string, main func(args []string)) *Program {
	if _, taken := programs[name]; taken {
		panic("process: two programs are named " + name)
	}
	programs[name] = main
	return &Program{name: name}
}

// Command is like [Command], for the program g.
func (g *Program) Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	return command(t, g.name, args)
}

// Start is like [Start], for the program g.
func (g *Program) Start(t testing.TB, args ...string) *Process {
	t.Helper()
	return g.StartCommand(t, g.Command(t, args...))
}

// StartCommand is like [StartCommand], for a cmd that g.Command returned. It
// sets cmd.Stdin and cmd.ExtraFiles.
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

// toTest is the pipe to which Say writes; nil if the process is not a Program.
var toTest *os.File

// Say is called by a Program. It sends a line to the test.
func Say(format string, args ...any) {
	if _, err := fmt.Fprintf(toTest, format+"\n", args...); err != nil {
		panic(err) // the test has ended
	}
}

// Listen is called by a Program. It waits for the next call to Tell in the
// test.
func Listen() { os.Stdin.Read(make([]byte, 1)) }

// Next returns the next line of Say, or "" if the Program has ended.
func (p *Process) Next() string {
	line, _ := p.said.ReadString('\n')
	return strings.TrimSuffix(line, "\n")
}

// Expect fails the test unless the next lines of Say are these.
func (p *Process) Expect(want ...string) {
	p.t.Helper()
	for _, want := range want {
		if got := p.Next(); got != want {
			p.t.Fatalf("the process said %q, want %q", got, want)
		}
	}
}

// Tell makes one Listen in the Program return. If the process has ended, Tell
// does nothing, and the next Expect fails.
func (p *Process) Tell() { io.WriteString(p.stdin, "\n") }

// IgnoreHangups changes cmd, before it is started, so that its process ignores
// SIGHUP and SIGINT from the start, as under nohup or in a shell's background.
func IgnoreHangups(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = append([]string{sh, "-c", `trap "" HUP INT; exec "$0" "$@"`}, cmd.Args...)
	cmd.Path = sh
}

// BrokenPipe returns the writing end of a pipe that has no reader.
func BrokenPipe(t testing.TB) *os.File {
	t.Helper()
	r, w := pipe(t)
	r.Close()
	return w
}

// FullPipe returns the writing end of a pipe that is full, and that is not read
// before the end of the test.
func FullPipe(t testing.TB) *os.File {
	t.Helper()
	_, w := pipe(t)
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Write(func(fd uintptr) bool { // non-blocking until a process has the pipe
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
