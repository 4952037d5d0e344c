//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

const (
	// If this variable is set, the last closer returns only at the end of
	// stdin.
	closeLast = "EXAMPLE_CLOSER_CLOSE_LAST"
	// If this variable is set, the program says on stderr when it waits for the
	// mailer.
	sayHang = "EXAMPLE_CLOSER_SAY_HANG"
)

func TestMain(m *testing.M) {
	process.Main(m, func() {
		if os.Getenv(closeLast) != "" {
			quit.GetQuitEvent().RegisterStopFunc(func() {
				io.Copy(io.Discard, os.Stdin)
			}, quit.AfterDrain())
		}
		if os.Getenv(sayHang) != "" {
			go awaitHang()
		}
		main()
	})
}

func awaitHang() {
	for stacks := make([]byte, 1<<20); !bytes.Contains(
		stacks[:runtime.Stack(stacks, true)], []byte("(*mailer).shutDown(")); {
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Fprintln(os.Stderr, "the mailer hangs")
}

// accepted returns the letters that the program says it has accepted.
func accepted(p *process.Process) []string {
	var letters []string
	for line := range strings.Lines(p.Stdout()) {
		if letter, ok := strings.CutPrefix(line, "accepted "); ok {
			letters = append(letters, strings.TrimSuffix(letter, "\n"))
		}
	}
	return letters
}

// wantSent checks that each accepted letter is in the outbox, once and in
// order.
func wantSent(t *testing.T, p *process.Process, outbox string) {
	t.Helper()
	want := accepted(p)
	if got := strings.Split(strings.TrimSuffix(outbox, "\n"), "\n"); !slices.Equal(got, want) {
		t.Errorf("sent: %q\naccepted: %q, want the same", got, want)
	}
}

func wantStderr(t *testing.T, p *process.Process, patterns ...string) {
	t.Helper()
	for _, want := range patterns {
		if got := p.Stderr(); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("stderr = %s\nwant %s", got, want)
		}
	}
}

// fullPipe is an outbox that takes nothing until it is read.
type fullPipe struct {
	path string
	file *os.File
	fill int // number of bytes in it that are not letters
}

func newFullPipe(t *testing.T) *fullPipe {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(path, 0o600))
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	must(t, err)
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	p := &fullPipe{path: path, file: f}
	for _, chunk := range [][]byte{make([]byte, 4096), make([]byte, 1)} {
		n := 0
		for ; err == nil; n, err = syscall.Write(fd, chunk) {
			p.fill += n
		}
		if !errors.Is(err, syscall.EAGAIN) {
			t.Fatal(err)
		}
		err = nil
	}
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(fmt.Sprint(sig), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "outbox")
			p := process.Start(t, "-outbox="+path)
			p.Line("accepted letter 5") // sent 50 ms later, or during the shutdown
			p.Signal(sig)
			p.WantExit(0)
			outbox, err := os.ReadFile(path)
			must(t, err)
			wantSent(t, p, string(outbox))
		})
	}
}

// TestOutboxOfItsOwn lets the program choose the outbox, in a directory that
// all users share. The program must not write to another user's file.
func TestOutboxOfItsOwn(t *testing.T) {
	t.Parallel()
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	must(t, os.Symlink(victim, filepath.Join(dir, "outbox")))
	cmd := process.Command(t)
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	p := process.StartCommand(t, cmd)
	path := p.Line("outbox: ")
	p.Line("accepted letter 2")
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	outbox, err := os.ReadFile(path)
	must(t, err)
	wantSent(t, p, string(outbox))
	if _, err := os.Stat(victim); !os.IsNotExist(err) || filepath.Dir(path) != dir {
		t.Errorf("outbox = %s, Stat(victim) = %v, want a new file in %s", path, err, dir)
	}
}

// TestBacklog stops the program before any letter has been sent, and then reads
// the outbox.
func TestBacklog(t *testing.T) {
	t.Parallel()
	pipe := newFullPipe(t)
	p := process.Start(t, "-outbox="+pipe.path)
	p.Line("accepted letter 8")
	p.Signal(syscall.SIGTERM)
	p.AwaitFired()
	select {
	case <-p.Exited():
		t.Error("the program has ended with letters that were not sent")
	default:
	}
	// Reading ends when nobody has the outbox open for writing.
	reader, err := os.OpenFile(pipe.path, os.O_RDONLY, 0)
	must(t, err)
	defer reader.Close()
	pipe.file.Close()
	outbox, err := io.ReadAll(reader)
	must(t, err)
	p.WantExit(0)
	wantSent(t, p, string(outbox[pipe.fill:]))
}

// TestOutboxGone removes the outbox while the mailer sends the remaining
// letters.
func TestOutboxGone(t *testing.T) {
	t.Parallel()
	pipe := newFullPipe(t)
	p := process.Start(t, "-outbox="+pipe.path)
	p.Line("accepted letter 3")
	p.Signal(syscall.SIGTERM)
	p.AwaitFired()
	pipe.file.Close() // the only reader
	p.WantExit(1)
	wantStderr(t, p, fmt.Sprintf(`(?m)^(closer: )?quit: \*main\.mailer \(closer/main\.go:\d+\): `+
		`%d letters were accepted and not sent: `+
		`write %s: broken pipe$`, len(accepted(p)), pipe.path))
}

// TestOutboxFull makes the first batch fail, so that the program ends by
// itself.
func TestOutboxFull(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("there is no /dev/full")
	}
	p := process.Start(t, "-outbox=/dev/full")
	p.WantExit(1)
	wantStderr(t, p,
		`(?m)^closer: quit: goroutine writer: write /dev/full: no space left on device$`,
		fmt.Sprintf(`(?m)^(closer: )?quit: \*main\.mailer \(closer/main\.go:\d+\): %d letters `+
			`were accepted and not sent: `+
			`write /dev/full: no space left on device$`, len(accepted(p))))
}

// TestHang uses an outbox that takes nothing during the shutdown. The program
// waits until the time of the mailer, or of the whole shutdown, runs out.
func TestHang(t *testing.T) {
	t.Parallel()
	for timeout, took := range map[string]string{
		"6s": `(\d+ms|[0-4](\.\d+)?s|5(\.[0-4]\d*)?s)`,
		"1h": `5\.625s`,
	} {
		t.Run(timeout, func(t *testing.T) {
			t.Parallel()
			pipe := newFullPipe(t)
			cmd := process.Command(t, "-outbox="+pipe.path, "-timeout="+timeout)
			cmd.Env = append(cmd.Env, closeLast+"=1")
			stdin, err := cmd.StdinPipe()
			must(t, err)
			p := process.StartCommand(t, cmd)
			p.Line("accepted letter 3")
			p.Signal(syscall.SIGTERM)
			p.AwaitStderr("quit: step abandoned")
			p.AwaitStderr("(*mailer).shutDown") // the stacks of a slow program come later
			stdin.Close()
			p.WantExit(1)
			wantStderr(t, p,
				`(?m)^(closer: )?quit: \*main\.mailer \(closer/main\.go:\d+\): abandoned after `+
					took+`: context deadline exceeded$`,
				`\(\*mailer\)\.shutDown\\n\\t\\t\S*/examples/closer/main\.go:`+
					fmt.Sprint(lineOf(t, "<-m.ended"))+`\\n`)
		})
	}
}

// lineOf returns the number of the line of main.go that begins with code.
func lineOf(t *testing.T, code string) int {
	t.Helper()
	source, err := os.ReadFile("main.go")
	must(t, err)
	before, _, ok := bytes.Cut(source, []byte("\n\t"+code))
	if !ok {
		t.Fatalf("main.go has no %q", code)
	}
	return bytes.Count(before, []byte("\n")) + 2
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	pipe := newFullPipe(t)
	cmd := process.Command(t, "-outbox="+pipe.path)
	cmd.Env = append(cmd.Env, sayHang+"=1")
	p := process.StartCommand(t, cmd)
	p.Line("accepted letter 3")
	p.Signal(os.Interrupt)
	p.AwaitStderr("the mailer hangs")
	p.InterruptAgain()
	p.WantExit(130)
	wantStderr(t, p, `ending at once`, `mailer +closer/main\.go:\d+`, `\(\*mailer\)\.shutDown\n`)
}

func TestBadStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, test := range []struct {
		arg    string
		status int
		why    string
	}{
		{arg: "-outbox=" + filepath.Join(dir, "none", "outbox"), status: 1,
			why: "no such file or directory"},
		{arg: "-outbox=" + dir, status: 1, why: "is a directory"},
		{arg: "-timeout=soon", status: 2, why: `invalid value "soon" for flag -timeout`},
		{arg: "-inbox=x", status: 2, why: "not defined: -inbox"},
		{arg: "start", status: 2, why: `unexpected argument "start"`},
	} {
		process.WantBadStart(t, test.status, test.why, test.arg)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	p := process.Start(t, "-h")
	p.WantExit(0)
	if !strings.HasPrefix(p.Stdout(), "usage: closer [flags]\n") ||
		!strings.Contains(p.Stdout(), "  -outbox file\n") || p.Stderr() != "" {
		t.Errorf("-h: stdout = %q, stderr = %q, want the usage on stdout", p.Stdout(), p.Stderr())
	}
}

// TestMailer closes a mailer twice at the same time, while many goroutines add
// letters. Each accepted letter is sent, and none is accepted after Close.
func TestMailer(t *testing.T) {
	t.Parallel()
	for range 20 {
		path := filepath.Join(t.TempDir(), "outbox")
		m, err := newMailer(path)
		must(t, err)
		go m.run()
		var mu sync.Mutex // guards want
		var want []string
		var adders, closers sync.WaitGroup
		some := make(chan struct{})
		begun := sync.OnceFunc(func() { close(some) })
		for i := range 8 {
			adders.Go(func() {
				for n := 0; ; n++ {
					letter := fmt.Sprintf("%d from %d", n, i)
					switch err := m.Add(letter); err {
					case nil:
						mu.Lock()
						want = append(want, letter)
						mu.Unlock()
						begun()
					case errFull:
						time.Sleep(time.Millisecond)
					case errClosed:
						return
					default:
						t.Errorf("Add = %v", err)
						return
					}
				}
			})
		}
		<-some
		for range 2 {
			closers.Go(func() {
				if err := m.Close(); err != nil {
					t.Errorf("Close() = %v, want nil", err)
				}
			})
		}
		closers.Wait()
		adders.Wait()
		content, err := os.ReadFile(path)
		must(t, err)
		got := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%d letters sent, %d accepted, want the same", len(got), len(want))
		}
		if err := m.Add("late"); err != errClosed {
			t.Errorf("Add after Close = %v, want %v", err, errClosed)
		}
		if err := m.Close(); err != nil {
			t.Errorf("Close() once more = %v, want nil", err)
		}
	}
}

// TestMailerFull checks that a letter for which there is no room is refused.
func TestMailerFull(t *testing.T) {
	t.Parallel()
	m, err := newMailer(filepath.Join(t.TempDir(), "outbox"))
	must(t, err)
	for n := range maxWaiting { // run has not started yet
		if err := m.Add("letter"); err != nil {
			t.Fatalf("Add of letter %d = %v, want nil", n, err)
		}
	}
	if err := m.Add("one more"); err != errFull {
		t.Errorf("Add = %v, want %v", err, errFull)
	}
	go m.run()
	if err := m.Close(); err != nil {
		t.Errorf("Close() = %v, want nil", err)
	}
}
