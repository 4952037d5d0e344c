//go:build unix

package quit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
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
	// arrive as one. It is also the time in which a signal that should change
	// nothing could change something: a test on a slow machine may miss a bug,
	// but never reports one that is not there.
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

// sayReady has the program say "ready" as soon as the next n calls of
// WaitSignal have their signals.
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

// wantStderr wants each of these on the stderr of p, which has ended.
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

// waiting waits for the signals args[1:]. It ends with the ExitCode of the
// cause if args[0] says so, and with 0 otherwise: main's choice.
var waiting = process.NewProgram("waiting", func(args []string) {
	q := quit.GetQuitEvent()
	q.RegisterStopFunc(func() { process.Say("closed") })
	sayReady(1)
	err := quit.WaitSignal(signalsNamed(args[1:])...)

	var sig *quit.SignalError
	cause := q.Cause()
	errors.As(cause, &sig)
	process.Say("returned %v", err)
	process.Say("%T %v, the context's %t, canceled %t", cause, sig.Signal,
		context.Cause(q.Context()) == cause, errors.Is(cause, context.Canceled))
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
		{listed: "SIGTERM SIGHUP", send: "SIGHUP", cause: "hangup",
			choice: "ExitCode", want: "exit status 129"},
		{listed: "SIGUSR1", send: "SIGUSR1", cause: "user defined signal 1",
			choice: "0", want: "exit status 0"},
		{listed: "SIGQUIT", send: "SIGQUIT", cause: "quit",
			choice: "ExitCode", want: "exit status 131"},
	} {
		name := fmt.Sprintf("listed=%s/%s/%s", test.listed, test.send, test.choice)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := waiting.Start(t, append([]string{test.choice}, strings.Fields(test.listed)...)...)
			p.Expect("ready")
			p.Signal(signalNamed[test.send])
			p.Expect("closed", "returned <nil>",
				"*quit.SignalError "+test.cause+", the context's true, canceled true")
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
		{name: "all that are listed are ignored", listed: "SIGHUP SIGINT", ignored: true,
			send: "SIGTERM", want: "signal: terminated"},
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

// slow waits for the signals args. It has a closer that returns when the test
// tells it to, and a main that goes on after WaitSignal until the test tells it
// to return, too.
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

// failing fires by a failure when the test tells it to.
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

// stopping calls NotifySignal several times, and each stop func once or more.
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
			for range 200 { // SIGUSR1, since a Go program that does not handle it ignores it
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

func allStacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

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
	process.Say("failed %t, same %t, again %t",
		errs[0] != nil, errs[0] == errs[1], errs[0] == again)
})

func TestChildTwoCallers(t *testing.T) {
	t.Parallel()
	p := twoCallers.Start(t)
	p.Expect("ready")
	p.Signal(syscall.SIGTERM)
	p.Expect("closed", "failed true, same true, again true")
	p.WantEnd("exit status 0")
}

// twoEvents has two events that handle the same signal, and one that handles
// another.
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

// resetting has a signal that an event handles reset by the program. Another
// event then handles it.
var resetting = process.NewProgram("resetting", func([]string) {
	a, b := quit.NewQuitEvent(), quit.NewQuitEvent()
	a.NotifySignal()
	signal.Reset(syscall.SIGTERM)
	b.NotifySignal(syscall.SIGTERM)
	process.Say("ready")
	<-b.Done()
	process.Say("%v", b.Cause())
})

func TestChildReset(t *testing.T) {
	t.Parallel()
	p := resetting.Start(t)
	p.Expect("ready")
	p.Signal(syscall.SIGTERM)
	p.Expect("quit: received signal: terminated")
	p.WantEnd("exit status 0")
}

// notifying has a worker that handles a signal and then holds up the drain. It
// shows what does.
var notifying = process.NewProgram("notifying", func([]string) {
	q := quit.NewQuitEvent()
	q.Timeout = -1
	q.Go(func(context.Context) error {
		q.NotifySignal(syscall.SIGUSR1)
		process.Say("ready")
		hang()
		return nil
	}, quit.Name("worker"))
	<-q.Done() // the goroutine that takes signals is there
	go q.GracefulStop()
	for steps := q.Report().Steps; len(steps) == 0 || steps[0].Start.IsZero(); steps = q.Report().Steps {
		runtime.Gosched()
	}
	all := quit.ReportWithStacks(q)
	process.Say("%d goroutine, of signals %t", strings.Count(all, "1 goroutine of worker:"), strings.Contains(all, "signalTable"))
})

func TestChildStacksOfWorkerAlone(t *testing.T) {
	t.Parallel()
	p := notifying.Start(t)
	p.Expect("ready")
	p.Signal(syscall.SIGUSR1)
	p.Expect("1 goroutine, of signals false")
	p.WantEnd("exit status 0")
}
