//go:build unix

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

const (
	// If this variable is set, the cleanup hangs before it has removed
	// anything.
	hang = "EXAMPLE_COMMAND_HANG"
	// If this variable is set, the program cannot write a file longer than
	// fullAt bytes, as if the disk were full.
	smallDisk = "EXAMPLE_COMMAND_SMALL_DISK"
	fullAt    = 100_000
)

func TestMain(m *testing.M) {
	process.Main(m, func() {
		if os.Getenv(hang) != "" {
			quit.GetQuitEvent().RegisterStopFunc(func() { select {} }, quit.Name("hangs"))
		}
		if os.Getenv(smallDisk) != "" {
			limitFiles()
		}
		main()
	})
}

func limitFiles() {
	signal.Ignore(syscall.SIGXFSZ) // a write then fails with EFBIG
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit)
	limit.Cur = fullAt
	if err := errors.Join(err, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)); err != nil {
		panic(err)
	}
}

// tool is the program, with a directory for its output. Another directory is
// for its temporary files, unless they are beside the output.
type tool struct {
	t        *testing.T
	dir, tmp string
	*exec.Cmd
}

func newTool(t *testing.T, args ...string) *tool {
	t.Helper()
	c := &tool{t: t, dir: t.TempDir(), tmp: t.TempDir(), Cmd: process.Command(t, args...)}
	c.Dir = c.dir
	c.Env = append(c.Env, "TMPDIR="+c.tmp)
	return c
}

func (c *tool) file(name, text string) {
	c.t.Helper()
	must(c.t, os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600))
}

// start starts the program with a pipe as its stdin, and returns the other end.
func (c *tool) start() (p *process.Process, stdin *os.File) {
	c.t.Helper()
	r, stdin, err := os.Pipe()
	must(c.t, err)
	c.t.Cleanup(func() { stdin.Close() })
	c.Stdin = r
	p = process.StartCommand(c.t, c.Cmd)
	r.Close()
	return p, stdin
}

// startPiped starts the program with a pipe as its stdout, and returns the
// other end.
func (c *tool) startPiped() (stdout *os.File, stderr *bytes.Buffer) {
	c.t.Helper()
	stdout, w, err := os.Pipe()
	must(c.t, err)
	c.t.Cleanup(func() { stdout.Close() })
	stderr = new(bytes.Buffer)
	c.Stdout, c.Stderr = w, stderr
	must(c.t, c.Start())
	w.Close()
	return stdout, stderr
}

func (c *tool) wantExit(status int) {
	c.t.Helper()
	c.Wait() // its error is the status
	if got := c.ProcessState.ExitCode(); got != status {
		c.t.Errorf("%v, want exit status %d", c.ProcessState, status)
	}
}

// awaitTemporary waits until there is a temporary file with the given name.
func (c *tool) awaitTemporary(name string) {
	c.t.Helper()
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if len(c.temporary(name)) > 0 {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("there is no temporary file %s", name)
		}
	}
}

func (c *tool) temporary(name string) []string {
	beside, _ := filepath.Glob(filepath.Join(c.dir, ".sort-*", name))
	other, _ := filepath.Glob(filepath.Join(c.tmp, ".sort-*", name))
	return append(beside, other...)
}

// wantFiles checks that exactly these files are left.
func (c *tool) wantFiles(want ...string) {
	c.t.Helper()
	var got []string
	for _, dir := range []string{c.dir, c.tmp} {
		entries, err := os.ReadDir(dir)
		must(c.t, err)
		for _, e := range entries {
			got = append(got, e.Name())
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		c.t.Errorf("files left = %q, want %q", got, want)
	}
}

func (c *tool) wantText(name, want string) {
	c.t.Helper()
	got, err := os.ReadFile(filepath.Join(c.dir, name))
	must(c.t, err)
	if string(got) != want {
		c.t.Errorf("%s has %d bytes, want %d: those that were expected", name, len(got), len(want))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lines returns n lines, unsorted and sorted.
func lines(n int) (text, sorted string) {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%08d %s\n", i*7919%n, strings.Repeat("x", rand.IntN(30))))
	}
	text = strings.Join(all, "")
	slices.Sort(all)
	return text, strings.Join(all, "")
}

func TestSorts(t *testing.T) {
	t.Parallel()
	text, sorted := lines(5000)
	for _, size := range []string{"-size=8000", "-size=1000000"} {
		// Stdin among the inputs, output to a file.
		c := newTool(t, size, "-o=out", "a", "-", "b")
		c.file("a", "no newline")
		c.file("b", "\n00\n")
		p, stdin := c.start()
		io.WriteString(stdin, text)
		stdin.Close()
		p.WantExit(0)
		if p.Stdout()+p.Stderr() != "" {
			t.Errorf("stdout = %q, stderr = %q, want neither", p.Stdout(), p.Stderr())
		}
		c.wantText("out", "\n00\n"+sorted+"no newline\n")
		c.wantFiles("a", "b", "out")

		// To stdout.
		c = newTool(t, size, "a")
		c.file("a", text)
		p, _ = c.start()
		p.WantExit(0)
		if got := p.Stdout(); got != sorted || p.Stderr() != "" {
			t.Errorf("stdout has %d bytes, want %d: those that were expected; stderr = %q",
				len(got), len(sorted), p.Stderr())
		}
		c.wantFiles("a")
	}

	// In place: all input is read before the file is replaced. An empty input
	// adds no line.
	c := newTool(t, "-o=a", "a", "empty")
	c.file("a", "2\n1\n")
	c.file("empty", "")
	p, _ := c.start()
	p.WantExit(0)
	c.wantText("a", "1\n2\n")
	c.wantFiles("a", "empty")
	// A private file stays private.
	info, err := os.Stat(filepath.Join(c.dir, "a"))
	must(t, err)
	if got := info.Mode(); got != 0o600 {
		t.Errorf("mode of a = %v, want %v, as it was", got, os.FileMode(0o600))
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		why  string
	}{
		{args: nil, why: "no file to sort"},
		{args: []string{"-v"}, why: "no file to sort"},
		{args: []string{"-no-such-flag", "a"}, why: "not defined: -no-such-flag"},
		{args: []string{"-size=some", "a"}, why: `invalid value "some" for flag -size`},
		{args: []string{"-size=0", "a"}, why: "-size must be more than 0, not 0"},
	} {
		process.WantBadStart(t, 2, test.why, test.args...)
	}
	c := newTool(t, "-h")
	p, _ := c.start()
	p.WantExit(0)
	if !strings.HasPrefix(p.Stdout(), "usage: command [flags] file…\n") ||
		!strings.Contains(p.Stdout(), "  -o file\n") || p.Stderr() != "" {
		t.Errorf("-h: stdout = %q, stderr = %q, want the usage on stdout", p.Stdout(), p.Stderr())
	}
	c.wantFiles()
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string // the end of the line
	}{
		{[]string{"a", "missing"}, "open missing: no such file or directory\n"},
		{[]string{"-o=old", "a", "missing"}, "open missing: no such file or directory\n"},
		{[]string{"-o=old", "a", "."}, "read .: is a directory\n"},
		{[]string{"-o=.", "a"}, ". is not a regular file\n"},
		{[]string{"-o=no/such/dir", "a"}, ": no such file or directory\n"},
	} {
		c := newTool(t, append([]string{"-size=1"}, test.args...)...)
		c.file("a", "2\n1\n")
		c.file("old", "as it was")
		p, _ := c.start()
		p.WantExit(1)
		if got := p.Stderr(); !strings.HasPrefix(got, "command: ") ||
			!strings.HasSuffix(got, test.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("command %q: stderr = %q, want a line with %q", test.args, got, test.want)
		}
		c.wantText("old", "as it was")
		c.wantFiles("a", "old")
	}
}

func TestDiskGetsFull(t *testing.T) {
	t.Parallel()
	text, _ := lines(10_000)
	for _, args := range [][]string{{"-o=old"}, {"-o=new"}, {"-size=1000000"}} {
		c := newTool(t, append(append([]string{"-size=50000"}, args...), "a")...)
		c.Env = append(c.Env, smallDisk+"=1")
		c.file("a", text)
		c.file("old", "as it was")
		p, _ := c.start()
		p.WantExit(1)
		if got, want := p.Stderr(), syscall.EFBIG.Error()+"\n"; !strings.HasSuffix(got, want) ||
			strings.Count(got, "\n") != 1 {
			t.Errorf("command %q: stderr = %q, want a line with %q", args, got, want)
		}
		c.wantText("old", "as it was")
		c.wantFiles("a", "old")
	}
}

// TestSignalWhileItWaits stops the program while it waits for stdin, which no
// signal can interrupt, for a named pipe to be opened, or for a reader of its
// output.
func TestSignalWhileItWaits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sig    os.Signal
		status int
	}{{os.Interrupt, 130}, {syscall.SIGTERM, 143}, {syscall.SIGHUP, 129}} {
		for _, args := range [][]string{{"a", "-"}, {"-o=out", "a", "-"}, {"-o=old", "a", "fifo"}} {
			c := newTool(t, append([]string{"-size=1"}, args...)...)
			c.file("a", "2\n1\n")
			c.file("old", "as it was")
			must(t, syscall.Mkfifo(filepath.Join(c.dir, "fifo"), 0o600))
			p, stdin := c.start()
			c.awaitTemporary("piece-1")
			if slices.Contains(args, "-") {
				io.WriteString(stdin, "0\n")
				c.awaitTemporary("piece-2")
			}
			p.Signal(test.sig)
			p.WantExit(test.status)
			if p.Stdout()+p.Stderr() != "" {
				t.Errorf("command %q: stdout = %q, stderr = %q, want neither",
					args, p.Stdout(), p.Stderr())
			}
			c.wantText("old", "as it was")
			c.wantFiles("a", "fifo", "old")
		}

		// More than a pipe holds, in many lines and in one.
		text, sorted := lines(50_000)
		long := strings.Repeat("x", 1<<20) + "\n"
		for _, file := range []struct{ text, sorted string }{{text, sorted}, {long, long}} {
			c := newTool(t, "a")
			c.file("a", file.text)
			stdout, stderr := c.startPiped()
			first, err := io.ReadAll(io.LimitReader(stdout, 1000)) // and no more of it
			must(t, err)
			must(t, c.Process.Signal(test.sig))
			c.wantExit(test.status)
			if string(first) != file.sorted[:1000] || stderr.Len() > 0 {
				t.Errorf("stdout begins with %q, stderr = %q, want the first lines, and nothing",
					first, stderr)
			}
			c.wantFiles("a")
		}
	}
}

// TestSignalAtAnyTime stops the program in the middle of its work. The output
// must be complete or absent.
func TestSignalAtAnyTime(t *testing.T) {
	t.Parallel()
	text, sorted := lines(20_000)
	for i := range 6 {
		c := newTool(t, "-size=20000", "-o=out", "a")
		c.file("a", text)
		p, _ := c.start()
		name := []string{"piece-0", "piece-9", "piece-20", "out", "out", "out"}[i]
		// The file may exist for a moment only.
		for ended := false; !ended && len(c.temporary(name)) == 0; {
			select {
			case <-p.Exited():
				ended = true
			case <-time.After(time.Millisecond):
			}
		}
		p.Process.Signal(os.Interrupt) // unless it has ended
		<-p.Exited()
		if _, err := os.Stat(filepath.Join(c.dir, "out")); err == nil {
			c.wantText("out", sorted)
			c.wantFiles("a", "out")
		} else {
			p.WantExit(130)
			c.wantFiles("a")
		}
	}
}

func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	c := newTool(t, "-size=100000", "a")
	text, sorted := lines(50_000) // more than a pipe holds
	c.file("a", text)
	stdout, stderr := c.startPiped()
	first, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	stdout.Close()
	c.wantExit(141)
	if !strings.HasPrefix(sorted, first) || stderr.Len() > 0 {
		t.Errorf("first line = %q, stderr = %q, want the first line, and nothing", first, stderr)
	}
	c.wantFiles("a")
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	c := newTool(t, "-v", "-size=1", "-o=out", "a", "-")
	c.Env = append(c.Env, hang+"=1")
	c.file("a", "2\n1\n")
	p, _ := c.start()
	c.awaitTemporary("piece-1")
	p.Signal(os.Interrupt)
	p.AwaitFired()
	p.InterruptAgain()
	p.WantExit(130)
	for _, want := range []string{"ending at once", "hangs"} {
		if !strings.Contains(p.Stderr(), want) {
			t.Errorf("stderr = %q, want it with %q", p.Stderr(), want)
		}
	}
	if _, err := os.Stat(filepath.Join(c.dir, "out")); !os.IsNotExist(err) {
		t.Errorf("Stat(out) = %v, want no such file", err)
	}
}
