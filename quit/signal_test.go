//go:build unix

package quit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

const (
	// apart is the time between signals: closer together, two of one number can
	// arrive as one. It is also how long a signal that should change nothing
	// has for doing so: a test on a slow machine may miss a bug, but never
	// finds one too many.
	apart = 100 * time.Millisecond

	// windowOver is more than the half second after the first signal in which
	// an interrupt is taken for the first one's double.
	windowOver = 700 * time.Millisecond
)

var signalNamed = map[string]syscall.Signal{
	"SIGHUP":  syscall.SIGHUP,
	"SIGINT":  syscall.SIGINT,
	"SIGQUIT": syscall.SIGQUIT,
	"SIGTERM": syscall.SIGTERM,
	"SIGUSR1": syscall.SIGUSR1,
}

func signalsNamed(names []string) (sigs []os.Signal) {
	for _, name := range names {
		sigs = append(sigs, signalNamed[name])
	}
	return sigs
}

func TestMain(m *testing.M) { process.Main(m, nil) }

// sayReady has the program say "ready" once n calls of WaitSignal, all of them
// to come, have their signals.
func sayReady(n int32) {
	var waiting atomic.Int32
	quit.OnWait(func(*quit.QuitEvent) {
		if waiting.Add(1) == n {
			process.Say("ready")
		}
	})
}

// hang waits forever.
func hang() { <-make(chan int) }

// wantStderr wants each of these in what p, which has ended, has written to
// stderr.
func wantStderr(t *testing.T, p *process.Process, want ...string) {
	t.Helper()
	for _, want := range want {
		if got := p.Stderr(); !strings.Contains(got, want) {
			t.Errorf("stderr has no %q:\n%s", want, got)
		}
	}
}

func TestSignalError(t *testing.T) {
	for _, test := range []struct {
		signal   os.Signal
		exitCode int
	}{
		{signal: os.Interrupt, exitCode: 130},
		{signal: syscall.SIGTERM, exitCode: 143},
		{signal: syscall.SIGHUP, exitCode: 129},
		{signal: unnumberedSignal{}, exitCode: 1},
	} {
		err := &quit.SignalError{Signal: test.signal}
		if got := err.ExitCode(); got != test.exitCode {
			t.Errorf("ExitCode() of %v = %d, want %d", test.signal, got, test.exitCode)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("errors.Is(%v, context.Canceled) = false, want true", err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("errors.Is(%v, context.DeadlineExceeded) = true, want false", err)
		}
		if !strings.Contains(err.Error(), test.signal.String()) {
			t.Errorf("Error() = %q, want it to name %v", err, test.signal)
		}
	}
}

type unnumberedSignal struct{}

func (unnumberedSignal) String() string { return "note" }
func (unnumberedSignal) Signal()        {}

// importing does nothing with the package, but has it in the binary.
var importing = process.NewProgram("importing", func([]string) {
	process.Say("%d goroutine", runtime.NumGoroutine())
	hang()
})

func TestChildImportDoesNothing(t *testing.T) {
	t.Parallel()
	p := importing.Start(t)
	p.Expect("1 goroutine")
	p.Signal(syscall.SIGTERM)
	p.WantEnd("signal: terminated")
	if p.Stdout() != "" || p.Stderr() != "" {
		t.Errorf("stdout = %q, stderr = %q, want none", p.Stdout(), p.Stderr())
	}
}

// waiting waits for the signals args[1:], and ends with the status args[0]:
// main's choice.
var waiting = process.NewProgram("waiting", func(args []string) {
	q := quit.GetQuitEvent()
	q.RegisterStopFunc(func() { process.Say("closed") })
	sayReady(1)
	err := quit.WaitSignal(signalsNamed(args[1:])...)

	var sig *quit.SignalError
	cause := q.Cause()
	errors.As(cause, &sig)
	process.Say("returned %v", err)
	process.Say("%T %v, the context's %t, canceled %t", cause, sig.Signal, context.Cause(q.Context()) == cause, errors.Is(cause, context.Canceled))
	if args[0] == "ExitCode" {
		os.Exit(sig.ExitCode())
	}
})

func TestChildWaitSignal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		listed string // for WaitSignal; "": none
		send   string
		cause  string
		choice string // of main: see waiting
		want   string
	}{
		{send: "SIGTERM", cause: "terminated", choice: "0", want: "exit status 0"},
		{send: "SIGTERM", cause: "terminated", choice: "ExitCode", want: "exit status 143"},
		{send: "SIGINT", cause: "interrupt", choice: "0", want: "exit status 0"},
		{send: "SIGINT", cause: "interrupt", choice: "ExitCode", want: "exit status 130"},
		{listed: "SIGTERM SIGHUP", send: "SIGHUP", cause: "hangup", choice: "ExitCode", want: "exit status 129"},
		{listed: "SIGUSR1", send: "SIGUSR1", cause: "user defined signal 1", choice: "0", want: "exit status 0"},
		{listed: "SIGQUIT", send: "SIGQUIT", cause: "quit", choice: "ExitCode", want: "exit status 131"},
	} {
		t.Run(fmt.Sprintf("listed=%s/%s/%s", test.listed, test.send, test.choice), func(t *testing.T) {
			t.Parallel()
			p := waiting.Start(t, append([]string{test.choice}, strings.Fields(test.listed)...)...)
			p.Expect("ready")
			p.Signal(signalNamed[test.send])
			p.Expect("closed", "returned <nil>", "*quit.SignalError "+test.cause+", the context's true, canceled true")
			p.WantEnd(test.want)
		})
	}
}

// TestChildNotTaken sends a program that waits for other signals one that
// should have its usual effect.
func TestChildNotTaken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		listed  string
		ignored bool // SIGHUP and SIGINT are, from the start of the process
		send    string
		want    string
		stderr  []string
	}{
		{name: "SIGQUIT dumps the goroutines", send: "SIGQUIT", want: "exit status 2",
			stderr: []string{"SIGQUIT: quit", "goroutine 1 ", ".WaitSignal("}},
		{name: "SIGHUP is not among the default ones", send: "SIGHUP", want: "signal: hangup"},
		{name: "listed are others", listed: "SIGUSR1", send: "SIGTERM", want: "signal: terminated"},
		{name: "all that are listed are ignored", listed: "SIGHUP SIGINT", ignored: true, send: "SIGTERM",
			want: "signal: terminated"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := waiting.Command(t, append([]string{"0"}, strings.Fields(test.listed)...)...)
			if test.ignored {
				process.IgnoreHangups(t, cmd)
			}
			p := waiting.StartCommand(t, cmd)
			p.Expect("ready")
			p.Signal(signalNamed[test.send])
			p.WantEnd(test.want)
			wantStderr(t, p, test.stderr...)
		})
	}
}

// pending has a signal before it calls WaitSignal.
var pending = process.NewProgram("pending", func(args []string) {
	q := quit.GetQuitEvent()
	q.RegisterStopFunc(func() { process.Say("closed") })
	q.NotifySignal()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		process.Say("%v", err)
	}
	if args[0] == "fired" {
		<-q.Done()
	}
	process.Say("returned %v", quit.WaitSignal())
	process.Say("%v", q.Cause())
})

func TestChildSignalBeforeWaitSignal(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"on its way", "fired"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			p := pending.Start(t, when)
			p.Expect("closed", "returned <nil>", "quit: received signal: terminated")
			p.WantEnd("exit status 0")
		})
	}
}

// slow has a closer that takes until the test tells it to return, and a main
// that goes on after WaitSignal until the test tells it to return, too. args
// are the signals that it waits for.
var slow = process.NewProgram("slow", func(args []string) {
	q := quit.GetQuitEvent()
	q.Timeout = -1
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		process.Say("closing")
		process.Listen()
		process.Say("closed, %v", ctx.Err())
		return nil
	}))
	sayReady(1)
	err := quit.WaitSignal(signalsNamed(args)...)
	process.Say("returned %v", err)
	process.Listen()
	process.Say("%v", q.Cause())
})

func TestChildSIGTERMAgain(t *testing.T) {
	t.Parallel()
	p := slow.Start(t)
	p.Expect("ready")
	p.Signal(syscall.SIGTERM)
	p.Expect("closing")
	for range 6 { // the last ones come when an interrupt would end the program
		time.Sleep(apart)
		p.Signal(syscall.SIGTERM)
	}
	time.Sleep(apart)
	p.Tell()
	p.Expect("closed, <nil>", "returned <nil>")
	for range 2 {
		p.Signal(syscall.SIGTERM)
		time.Sleep(apart)
	}
	p.Tell()
	p.Expect("quit: received signal: terminated")
	p.WantEnd("exit status 0")
}

// endAtOnce sends the interrupt that ends p at once. It reports false if that
// took so long that the process may have had no time for the stacks, which it
// waits a second for.
func endAtOnce(t *testing.T, p *process.Process) (inTime bool) {
	t.Helper()
	start := time.Now()
	p.Signal(syscall.SIGINT)
	p.WantEnd("exit status 130")
	return time.Since(start) < time.Second
}

// untilInTime calls try until it reports that the machine was not too slow for
// it, or the test has failed.
func untilInTime(t *testing.T, try func() (inTime bool)) {
	t.Helper()
	for range 50 {
		if try() || t.Failed() {
			return
		}
		t.Log("the machine was too slow, once more")
	}
	t.Error("the machine was too slow, 50 times of 50")
}

// TestChildInterruptTwice has the first interrupt come twice, as a terminal and
// a parent send it. A slow machine may put half a second between the two: then
// a program that was ended does not prove that the second did it too early.
func TestChildInterruptTwice(t *testing.T) {
	t.Parallel()
	untilInTime(t, func() (inTime bool) {
		p := slow.Start(t)
		p.Expect("ready")
		start := time.Now()
		p.Signal(syscall.SIGINT)
		p.Expect("closing") // so these are two, and do not arrive as one
		p.Signal(syscall.SIGINT)
		time.Sleep(apart)
		p.Tell()
		if closed, returned := p.Next(), p.Next(); returned == "" {
			inTime = time.Since(start) < 500*time.Millisecond
			p.WantEnd("exit status 130")
			if inTime {
				t.Error("the second of two interrupts at once ended the program")
			}
			return inTime
		} else if closed != "closed, <nil>" || returned != "returned <nil>" {
			t.Fatalf("the program said %q, %q, want that it closed and returned", closed, returned)
		}

		// The half second is counted from the first one, not from the last one
		// before. That WaitSignal has returned changes nothing.
		for range 4 {
			time.Sleep(windowOver / 2)
			p.Process.Signal(syscall.SIGINT) // unless it has ended
		}
		p.WantEnd("exit status 130")
		return true
	})
}

// hung hangs where args[0] says.
var hung = process.NewProgram("hung", func(args []string) {
	// Nothing is logged, for the log would wait for a stderr that nobody reads.
	q := &quit.QuitEvent{Timeout: -1, Logger: slog.New(slog.DiscardHandler)}
	go bystander()
	switch args[0] {
	case "in a closer":
		q.RegisterStopFunc(hangInCloser, quit.Name(sayHere("hung closer")))
	case "in a goroutine":
		draining := make(chan struct{})
		q.Logger = slog.New(stepHandler{step: "drain", begins: func() { close(draining) }})
		q.Go(func(context.Context) error {
			<-draining
			hangInGoroutine()
			return nil
		}, quit.Name("hung goroutine"))
	case "in main before the shutdown":
		q.NotifySignal()
		process.Say("ready")
		<-q.Done()
		process.Say("hanging")
		hang()
	}
	sayReady(1)
	q.WaitSignal()
})

func hangInCloser() {
	process.Say("hanging")
	hang()
}

func hangInGoroutine() {
	process.Say("hanging")
	hang()
}

func bystander() { hang() }

// stepHandler is a log handler that calls begins when the step of that name
// begins, and writes nothing.
type stepHandler struct {
	step   string
	begins func()
}

func (h stepHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h stepHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h stepHandler) WithGroup(string) slog.Handler            { return h }

func (h stepHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "quit: step begins" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Equal(slog.String("step", h.step)) {
				h.begins()
			}
			return true
		})
	}
	return nil
}

// sayHere says name with the place of the call, as dir/file.go:line, and
// returns the name.
func sayHere(name string) string {
	_, file, line, _ := runtime.Caller(1)
	process.Say("%s (%s/%s:%d)", name, filepath.Base(filepath.Dir(file)), filepath.Base(file), line)
	return name
}

func TestChildInterruptEndsIt(t *testing.T) {
	t.Parallel()
	const closer, goroutine, main = "in a closer", "in a goroutine", "in main before the shutdown"
	for _, test := range []struct {
		first  os.Signal
		hangs  string
		stderr string
		want   []string // on stderr
	}{
		{first: syscall.SIGINT, hangs: closer, stderr: "read", want: []string{"quit_test.hangInCloser"}},
		{first: syscall.SIGTERM, hangs: closer, stderr: "read", want: []string{"quit_test.hangInCloser"}},
		{first: syscall.SIGINT, hangs: closer, stderr: "full"},
		{first: syscall.SIGINT, hangs: closer, stderr: "broken"},
		{first: syscall.SIGINT, hangs: main, stderr: "broken"},
		{first: syscall.SIGTERM, hangs: goroutine, stderr: "read",
			want: []string{"drain", "1 goroutine of hung goroutine", "quit_test.hangInGoroutine"}},
	} {
		t.Run(fmt.Sprintf("%v, hangs %s, stderr is %s", test.first, test.hangs, test.stderr), func(t *testing.T) {
			t.Parallel()
			untilInTime(t, func() bool {
				cmd := hung.Command(t, test.hangs)
				switch test.stderr {
				case "full":
					cmd.Stderr = process.FullPipe(t)
				case "broken":
					cmd.Stderr = process.BrokenPipe(t)
				}
				p := hung.StartCommand(t, cmd)
				want := test.want
				if test.hangs == closer {
					want = append(slices.Clip(want), p.Next()) // the site
				}
				p.Expect("ready")
				p.Signal(test.first)
				p.Expect("hanging")
				time.Sleep(windowOver)
				inTime := endAtOnce(t, p)
				for _, other := range []string{"bystander", "WaitSignal"} {
					if got := p.Stdout() + p.Stderr(); strings.Contains(got, other) {
						t.Errorf("the output has the stack of %s, which is not blocked:\n%s", other, got)
					}
				}
				if inTime && test.stderr == "read" {
					wantStderr(t, p, want...)
				}
				return inTime || test.stderr != "read"
			})
		})
	}
}

func TestChildIgnoredFromTheStart(t *testing.T) {
	t.Parallel()
	for _, listed := range []string{"", "SIGHUP SIGINT SIGTERM"} {
		t.Run("listed="+listed, func(t *testing.T) {
			t.Parallel()
			cmd := slow.Command(t, strings.Fields(listed)...)
			process.IgnoreHangups(t, cmd)
			p := slow.StartCommand(t, cmd)
			p.Expect("ready")
			p.Signal(syscall.SIGHUP)
			p.Signal(syscall.SIGINT)
			time.Sleep(apart)
			p.Signal(syscall.SIGTERM)
			p.Expect("closing")
			time.Sleep(windowOver)
			p.Signal(syscall.SIGINT)
			time.Sleep(apart)
			p.Tell()
			p.Expect("closed, <nil>", "returned <nil>")
			p.Tell()
			p.Expect("quit: received signal: terminated")
			p.WantEnd("exit status 0")
		})
	}
}

// failing fires by a failure, when the test tells it to.
var failing = process.NewProgram("failing", func([]string) {
	q := quit.GetQuitEvent()
	q.Timeout = -1
	failure := errors.New("failure")
	q.RegisterStopFunc(func() { process.Say("closing"); process.Listen() })
	go func() {
		process.Listen()
		q.Fail(failure)
	}()
	sayReady(1)
	err := quit.WaitSignal()
	process.Say("returned %v, cause %v", err, q.Cause())
	process.Listen()
	log.Fatal(err)
})

func TestChildFailure(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		during, after bool // of the shutdown: SIGTERM is sent
		want          string
	}{
		{name: "no signal", want: "exit status 1"},
		{name: "a signal during the shutdown", during: true, want: "exit status 1"},
		// No signal fired, so WaitSignal has restored what was before.
		{name: "a signal after it", after: true, want: "signal: terminated"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := failing.Start(t)
			p.Expect("ready")
			p.Tell()
			p.Expect("closing")
			if test.during {
				p.Signal(syscall.SIGTERM)
				time.Sleep(apart)
			}
			p.Tell()
			p.Expect("returned failure, cause failure")
			if test.after {
				p.Signal(syscall.SIGTERM)
			} else {
				p.Tell()
			}
			p.WantEnd(test.want)
		})
	}
}

// writing writes to what args[0] says, when args[1] says.
var writing = process.NewProgram("writing", func(args []string) {
	file, when := os.Stdout, args[1]
	if args[0] == "stderr" {
		file = os.Stderr
	}
	write := func() {
		for range 100 {
			if _, err := io.WriteString(file, "line\n"); !errors.Is(err, syscall.EPIPE) {
				process.Say("write: %v, want %v", err, syscall.EPIPE)
				return
			}
		}
		process.Say("written")
	}
	q := quit.GetQuitEvent()
	stop := q.NotifySignal()
	if when == "before" {
		write()
	}
	if when == "at the fire" {
		go q.Fire()
		<-q.Done()
		write() // no shutdown has begun yet
	}
	if when == "during one that began without signals" {
		stop()
		q.Logger = slog.New(slog.DiscardHandler)
		q.RegisterStopFunc(func() {
			q.NotifySignal()
			write()
		})
		q.GracefulStop()
	}
	if when == "during" {
		closing := make(chan struct{})
		q.RegisterStopFunc(func() { write(); close(closing) })
		q.RegisterStopFunc(write, quit.AfterDrain())
		q.Go(func(context.Context) error {
			<-closing
			write()
			return nil
		})
	}
	q.Fire()
	process.Say("returned %v", quit.WaitSignal())
	if when == "after stop" {
		stop()
		write()
	}
})

func TestChildBrokenPipe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		when string
		said []string
		want string
	}{
		{when: "before", want: "signal: broken pipe"},
		{when: "during", said: []string{"written", "written", "written", "returned <nil>"}, want: "exit status 0"},
		{when: "at the fire", said: []string{"written", "returned <nil>"}, want: "exit status 0"},
		{when: "during one that began without signals", said: []string{"written", "returned <nil>"}, want: "exit status 0"},
		{when: "after stop", said: []string{"returned <nil>"}, want: "signal: broken pipe"},
	} {
		for _, file := range []string{"stdout", "stderr"} {
			t.Run(test.when+"/"+file, func(t *testing.T) {
				t.Parallel()
				cmd := writing.Command(t, file, test.when)
				if file == "stderr" {
					cmd.Stderr = process.BrokenPipe(t)
				} else {
					cmd.Stdout = process.BrokenPipe(t)
				}
				p := writing.StartCommand(t, cmd)
				p.Expect(test.said...)
				p.WantEnd(test.want)
			})
		}
	}
}

// stopping calls NotifySignal again and again, and stop as often and more
// often.
var stopping = process.NewProgram("stopping", func([]string) {
	q := quit.NewQuitEvent()
	q.NotifySignal()()
	one, two := q.NotifySignal(), q.NotifySignal()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(one)
	}
	wg.Wait()
	process.Say("ready")
	<-q.Done()
	process.Say("fired, %v", q.Cause())
	two()
	two()
	process.Say("stopped")
	hang()
})

func TestChildStop(t *testing.T) {
	t.Parallel()
	p := stopping.Start(t)
	p.Expect("ready")
	p.Signal(syscall.SIGTERM)
	p.Expect("fired, quit: received signal: terminated", "stopped")
	p.Signal(syscall.SIGTERM)
	p.WantEnd("signal: terminated")
}

// leaving looks for goroutines of the package when all is over. In the process
// of the tests, others that run at the same time have some.
var leaving = process.NewProgram("leaving", func([]string) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 { // SIGUSR1, for it does nothing to those that do not handle it
				q := quit.NewQuitEvent()
				stop := q.NotifySignal(syscall.SIGUSR1)
				syscall.Kill(os.Getpid(), syscall.SIGUSR1)
				stop()
			}
		})
	}
	wg.Wait()

	q := quit.NewQuitEvent()
	q.Fire()
	q.WaitSignal()

	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !strings.Contains(allStacks(), "graceful/quit.") {
			process.Say("none left")
			return
		}
	}
	panic(allStacks())
})

func TestChildNoGoroutineLeft(t *testing.T) {
	t.Parallel()
	p := leaving.Start(t)
	p.Expect("none left")
	p.WantEnd("exit status 0")
}

// twoCallers has two goroutines wait for one event, and asks once more after
// its end.
var twoCallers = process.NewProgram("two callers", func([]string) {
	q := quit.GetQuitEvent()
	q.RegisterCloser(closerFunc(func() error {
		process.Say("closed")
		return errors.New("cannot close")
	}), quit.Name("x"))
	var errs [2]error
	var wg sync.WaitGroup
	sayReady(2)
	for i := range errs {
		wg.Go(func() { errs[i] = quit.WaitSignal() })
	}
	wg.Wait()
	again := quit.WaitSignal()
	process.Say("failed %t, same %t, again %t", errs[0] != nil, errs[0] == errs[1], errs[0] == again)
})

func TestChildTwoCallers(t *testing.T) {
	t.Parallel()
	p := twoCallers.Start(t)
	p.Expect("ready")
	p.Signal(syscall.SIGTERM)
	p.Expect("closed", "failed true, same true, again true")
	p.WantEnd("exit status 0")
}

// twoEvents has two events that handle the same signal, and one that another
// does.
var twoEvents = process.NewProgram("two events", func([]string) {
	a, b, other := quit.NewQuitEvent(), quit.NewQuitEvent(), quit.NewQuitEvent()
	a.NotifySignal()
	b.NotifySignal(syscall.SIGTERM)
	other.NotifySignal(syscall.SIGUSR1)
	process.Say("ready")
	<-a.Done()
	<-b.Done()
	process.Say("%v, %v, %v", a.Cause(), b.Cause(), other.Cause())
})

func TestChildTwoEvents(t *testing.T) {
	t.Parallel()
	p := twoEvents.Start(t)
	p.Expect("ready")
	p.Signal(syscall.SIGTERM)
	p.Expect("quit: received signal: terminated, quit: received signal: terminated, <nil>")
	p.WantEnd("exit status 0")
}

// reentering has a closer that calls WaitSignal, which must leave in effect
// what main's WaitSignal has begun.
var reentering = process.NewProgram("reentering", func([]string) {
	q := quit.GetQuitEvent()
	q.Timeout = -1
	q.RegisterStopFunc(func() {
		process.Say("in the closer: %v, %v", quit.WaitSignal(), q.WaitSignal(syscall.SIGUSR1))
		process.Listen()
		_, err := io.WriteString(os.Stdout, "line\n")
		process.Say("broken pipe %t", errors.Is(err, syscall.EPIPE))
	})
	sayReady(1)
	process.Say("in main: %v", quit.WaitSignal())
	process.Say("again: %v", quit.WaitSignal())
})

func TestChildWaitSignalInCloser(t *testing.T) {
	t.Parallel()
	cmd := reentering.Command(t)
	cmd.Stdout = process.BrokenPipe(t)
	p := reentering.StartCommand(t, cmd)
	p.Expect("ready")
	p.Signal(syscall.SIGTERM)
	p.Expect("in the closer: <nil>, <nil>")
	p.Signal(syscall.SIGTERM)
	time.Sleep(apart)
	p.Tell()
	p.Expect("broken pipe true", "in main: <nil>", "again: <nil>")
	p.WantEnd("exit status 0")
}

// twoLists has one handler for SIGTERM and another for interrupts.
var twoLists = process.NewProgram("two handlers", func([]string) {
	q := quit.GetQuitEvent()
	q.Timeout = -1
	q.RegisterStopFunc(func() { process.Say("hanging"); hang() })
	q.NotifySignal(syscall.SIGTERM)
	sayReady(1)
	quit.WaitSignal(os.Interrupt)
})

// TestChildFirstSignalOfEvent counts the half second from the first signal of
// the event, whichever handler had it.
func TestChildFirstSignalOfEvent(t *testing.T) {
	t.Parallel()
	p := twoLists.Start(t)
	p.Expect("ready")
	p.Signal(syscall.SIGTERM)
	p.Expect("hanging")
	time.Sleep(windowOver)
	p.Signal(syscall.SIGINT)
	p.WantEnd("exit status 130")
}

// TestInterruptOfTwoHandlers has an event with two handlers, as after
// NotifySignal and WaitSignal, of which each may list other signals. A signal is
// one signal, regardless of how many handlers list it.
func TestInterruptOfTwoHandlers(t *testing.T) {
	type signal struct {
		sig  os.Signal
		at   time.Duration
		ends bool
	}
	const s = time.Second
	both := []os.Signal{os.Interrupt, syscall.SIGTERM}
	for _, test := range []struct {
		name    string
		lists   [][]os.Signal // of the handlers
		late    bool          // the last handler comes after the first signal
		signals []signal
	}{
		{
			name:    "one interrupt",
			lists:   [][]os.Signal{both, both},
			signals: []signal{{sig: os.Interrupt, at: 0}},
		},
		{
			name:    "two interrupts",
			lists:   [][]os.Signal{both, both},
			signals: []signal{{sig: os.Interrupt, at: 0}, {sig: os.Interrupt, at: 9 * s, ends: true}},
		},
		{
			name:  "two at once",
			lists: [][]os.Signal{both, both},
			signals: []signal{{sig: os.Interrupt, at: 0}, {sig: os.Interrupt, at: s / 3},
				{sig: os.Interrupt, at: s, ends: true}},
		},
		{
			name:    "just before the half second is over",
			lists:   [][]os.Signal{both, both},
			signals: []signal{{sig: os.Interrupt, at: 0}, {sig: os.Interrupt, at: s/2 - 1}},
		},
		{
			name:    "when the half second is over",
			lists:   [][]os.Signal{both, both},
			signals: []signal{{sig: os.Interrupt, at: 0}, {sig: os.Interrupt, at: s / 2, ends: true}},
		},
		{
			name:  "after SIGTERM",
			lists: [][]os.Signal{both, both},
			signals: []signal{{sig: syscall.SIGTERM, at: 0}, {sig: syscall.SIGTERM, at: s},
				{sig: os.Interrupt, at: s, ends: true}},
		},
		{
			name:    "SIGTERM, only one has it",
			lists:   [][]os.Signal{{syscall.SIGTERM}, {os.Interrupt}},
			signals: []signal{{sig: syscall.SIGTERM, at: 0}, {sig: os.Interrupt, at: s, ends: true}},
		},
		{
			name:  "SIGTERM after",
			lists: [][]os.Signal{both, both},
			signals: []signal{{sig: os.Interrupt, at: 0}, {sig: syscall.SIGTERM, at: s},
				{sig: syscall.SIGTERM, at: 2 * s}},
		},
		{
			name:    "a handler that came late",
			lists:   [][]os.Signal{both, both},
			late:    true,
			signals: []signal{{sig: os.Interrupt, at: 0}, {sig: os.Interrupt, at: 3 * s, ends: true}},
		},
	} {
		var table quit.SignalTable
		q, start, waiting := quietEvent(), time.Now(), len(test.lists)
		if test.late {
			waiting--
		}
		for _, list := range test.lists[:waiting] {
			table.Handle(q, list...)
		}
		for i, g := range test.signals {
			if ends := table.Take(g.sig, start.Add(g.at)); ends != g.ends {
				t.Errorf("%s: signal %d, %+v: ends %v", test.name, i, g, ends)
			}
			for _, list := range test.lists[waiting:] {
				table.Handle(q, list...)
			}
			waiting = len(test.lists)
		}
		var cause *quit.SignalError
		if !errors.As(q.Cause(), &cause) || cause.Signal != test.signals[0].sig {
			t.Errorf("%s: cause %v", test.name, q.Cause())
		}
	}
}

// oneHangs has two events that handle signals, of which one has nothing to
// close.
var oneHangs = process.NewProgram("two events, one hangs", func([]string) {
	hangs, ends := &quit.QuitEvent{Timeout: -1}, quit.NewQuitEvent()
	hangs.RegisterStopFunc(func() { process.Say("hanging"); hang() }, quit.Name("hung closer"))
	sayReady(2)
	go ends.WaitSignal()
	go hangs.WaitSignal()
	hang()
})

// TestChildForcedEndOfOther ends the process by the handler of either event:
// what hangs is in the report in any case.
func TestChildForcedEndOfOther(t *testing.T) {
	t.Parallel()
	for range 4 { // which of the two handlers comes first is chance
		untilInTime(t, func() bool {
			p := oneHangs.Start(t)
			p.Expect("ready")
			p.Signal(syscall.SIGTERM)
			p.Expect("hanging")
			time.Sleep(windowOver)
			if !endAtOnce(t, p) {
				return false
			}
			wantStderr(t, p, "▸ hung closer")
			return true
		})
	}
}
