//go:build unix

package recipes_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// lines prints each line of stdin. It prints the line "wait" after the fire.
func lines() {
	q := quit.GetQuitEvent()
	q.NotifySignal()
	os.Exit(recipes.RunTool(q, func(context.Context) error {
		return recipes.EachLine(q, func(ctx context.Context, line string) error {
			if line == "wait\n" {
				fmt.Println("waits")
				<-q.Done()
				// The deadline has usually been set by then. The result is the
				// same if it comes later.
				time.Sleep(100 * time.Millisecond)
			}
			fmt.Print("did ", line)
			return ctx.Err()
		})
	}))
}

// startLines starts lines with the given stdin.
func startLines(t *testing.T, stdin *os.File) *process.Process {
	t.Helper()
	cmd := process.Command(t)
	cmd.Stdin = stdin
	return process.StartCommand(t, cmd)
}

// did returns the lines that p has done.
func did(p *process.Process) string {
	var all strings.Builder
	for line := range strings.Lines(p.Stdout()) {
		if line, ok := strings.CutPrefix(line, "did "); ok {
			all.WriteString(line)
		}
	}
	return all.String()
}

// many returns more lines than fit into a pipe. A Read of a full buffer ends
// within a line.
func many() string {
	var all strings.Builder
	for n := range 20_000 {
		if n == 50 {
			all.WriteString("wait\n")
		}
		fmt.Fprintf(&all, "line %d\n", n)
	}
	return all.String()
}

// TestStdin stops the program in the middle of its input, from a pipe and from
// a file. The lines done and the lines left to read together are all lines,
// without a gap.
func TestStdin(t *testing.T) {
	all := many()
	for name, stdin := range map[string]func(t *testing.T) *os.File{
		"pipe": func(t *testing.T) *os.File {
			pipeAnew(t)
			r, w, err := os.Pipe()
			must(t, err)
			go func() { // ends when all is read, or when r is closed
				io.WriteString(w, all)
				w.Close()
			}()
			return r
		},
		"file": func(t *testing.T) *os.File {
			path := filepath.Join(t.TempDir(), "lines")
			must(t, os.WriteFile(path, []byte(all), 0o600))
			file, err := os.Open(path)
			must(t, err)
			return file
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := stdin(t)
			defer in.Close()
			p := startLines(t, in)
			p.AwaitStdout("waits\n")
			p.Signal(syscall.SIGTERM)
			p.WantExit(143)
			left, err := io.ReadAll(in)
			must(t, err)
			t.Logf("%d bytes done, %d left", len(did(p)), len(left))
			if did(p)+string(left) != all || len(left) == 0 {
				t.Errorf("%d bytes done, %d left, of %d: want all of them, without a gap",
					len(did(p)), len(left), len(all))
			}
		})
	}
}

// pipeAnew skips a test of pipes where they cannot be opened again.
func pipeAnew(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux opens a pipe anew")
	}
}

// TestStdinEnds ends stdin before the program is told to end, and before it has
// opened its own copy.
func TestStdinEnds(t *testing.T) {
	const all = "one\ntwo\nno newline"
	for name, open := range map[string]func(t *testing.T) (r, w *os.File){
		"pipe": func(t *testing.T) (r, w *os.File) {
			r, w, err := os.Pipe()
			must(t, err)
			return r, w
		},
		"named pipe": func(t *testing.T) (r, w *os.File) {
			path := filepath.Join(t.TempDir(), "fifo")
			must(t, syscall.Mkfifo(path, 0o600))
			r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
			must(t, err)
			w, err = os.OpenFile(path, os.O_WRONLY, 0)
			must(t, err)
			return r, w
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := open(t)
			defer r.Close()
			io.WriteString(w, all)
			w.Close()
			p := startLines(t, r)
			p.WantExit(0)
			if did(p) != all {
				t.Errorf("done: %q, want %q", did(p), all)
			}
		})
	}
}

// TestStdinWaits stops the program while it waits for a line.
func TestStdinWaits(t *testing.T) {
	pipeAnew(t)
	t.Parallel()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	p := startLines(t, r)
	io.WriteString(w, "one\n")
	p.AwaitStdout("did one\n")
	p.Signal(syscall.SIGTERM)
	p.WantExit(143)
	if strings.Contains(p.Stderr(), "within the line") {
		t.Errorf("stderr = %q", p.Stderr())
	}
	io.WriteString(w, "two\n")
	w.Close()
	if left, err := io.ReadAll(r); err != nil || string(left) != "two\n" {
		t.Errorf("left = %q, %v, want the line that was written after the end", left, err)
	}
}

// TestStdinWithinLine stops the program within a line that does not end.
func TestStdinWithinLine(t *testing.T) {
	pipeAnew(t)
	t.Parallel()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	p := startLines(t, r)
	io.WriteString(w, "one\nhal") // in one Read
	p.AwaitStdout("did one\n")
	p.Signal(syscall.SIGTERM)
	p.WantExit(143)
	if want := `within the line "hal"`; !strings.Contains(p.Stderr(), want) || did(p) != "one\n" {
		t.Errorf("done: %q, stderr = %q, want in it: %s", did(p), p.Stderr(), want)
	}
}

// TestStdinSocket uses a stdin that cannot be opened again.
func TestStdinSocket(t *testing.T) {
	t.Parallel()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	must(t, err)
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()
	p := startLines(t, theirs)
	theirs.Close()
	io.WriteString(ours, "one\n")
	p.AwaitStdout("did one\n")
	p.Signal(syscall.SIGTERM)
	p.WantExit(143)
	if strings.Contains(p.Stderr(), "drain") {
		t.Errorf("stderr = %q, want no drain that was given up", p.Stderr())
	}
}
