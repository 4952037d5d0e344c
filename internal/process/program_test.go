//go:build unix

package process_test

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) {
	process.Main(m, func() {
		fmt.Println("main", os.Args[1:])
		os.Exit(7)
	})
}

func TestMainProgram(t *testing.T) {
	t.Parallel()
	p := process.Start(t, "a", "b")
	if got, want := p.Line("main "), "[a b]"; got != want {
		t.Errorf("args = %s, want %s", got, want)
	}
	p.WantExit(7)
}

// echo sends its args to the test, one for each call to Tell.
var echo = process.NewProgram("echo", func(args []string) {
	for _, arg := range args {
		process.Say("%s", arg)
		process.Listen()
	}
	fmt.Println("on stdout")
	fmt.Fprintln(os.Stderr, "on stderr")
})

func TestProgram(t *testing.T) {
	t.Parallel()
	p := echo.Start(t, "one", "two")
	p.Expect("one")
	p.Tell()
	p.Expect("two")
	select {
	case <-p.Exited():
		t.Error("the program has ended before Tell")
	default:
	}
	p.Tell()
	p.WantEnd("exit status 0")
	if got := p.Next(); got != "" {
		t.Errorf("Next() = %q after the end, want none", got)
	}
	if p.Stdout() != "on stdout\n" || p.Stderr() != "on stderr\n" {
		t.Errorf("stdout, stderr = %q, %q", p.Stdout(), p.Stderr())
	}
}

// recorder is a testing.TB that records failures.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...) }

// TestProgramFails runs programs that do not behave as their tests expect.
func TestProgramFails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		try  func(p *process.Process)
		want string
	}{
		{
			name: "another line",
			try:  func(p *process.Process) { p.Expect("two") },
			want: `the process said "one", want "two"`,
		},
		{
			name: "too little said",
			try:  func(p *process.Process) { p.Tell(); p.Expect("one", "two") },
			want: `the process said "", want "two"`,
		},
		{
			name: "too much said",
			try:  func(p *process.Process) { p.Tell(); p.WantEnd("exit status 0") },
			want: `the process said "one\n", want nothing more`,
		},
		{
			name: "another end",
			try:  func(p *process.Process) { p.Expect("one"); p.Tell(); p.WantExit(1) },
			want: `the process ended with "exit status 0", want "exit status 1"`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{TB: t}
			test.try(echo.Start(r, "one"))
			if got := strings.Join(r.failures, "; "); got != test.want {
				t.Errorf("the test failed with %q, want %q", got, test.want)
			}
		})
	}
}

// ignoring tells the test which signals are ignored, and writes to stdout.
var ignoring = process.NewProgram("ignoring", func([]string) {
	process.Say("SIGHUP %v, SIGINT %v, SIGTERM %v", signal.Ignored(syscall.SIGHUP),
		signal.Ignored(syscall.SIGINT), signal.Ignored(syscall.SIGTERM))
	_, err := os.Stdout.WriteString("x")
	process.Say("broken pipe %v", errors.Is(err, syscall.EPIPE))
})

func TestIgnoreHangups(t *testing.T) {
	t.Parallel()
	ignoring.Start(t).Expect("SIGHUP false, SIGINT false, SIGTERM false")
	cmd := ignoring.Command(t)
	process.IgnoreHangups(t, cmd)
	p := ignoring.StartCommand(t, cmd)
	p.Expect("SIGHUP true, SIGINT true, SIGTERM false", "broken pipe false")
	p.WantEnd("exit status 0")
}

func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	cmd := ignoring.Command(t)
	cmd.Stdout = process.BrokenPipe(t)
	p := ignoring.StartCommand(t, cmd)
	p.Expect("SIGHUP false, SIGINT false, SIGTERM false")
	p.WantEnd("signal: broken pipe")
}

func TestFullPipe(t *testing.T) {
	t.Parallel()
	w := process.FullPipe(t)
	w.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := w.WriteString("x"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing to a full pipe: %v, want %v", err, os.ErrDeadlineExceeded)
	}
}
