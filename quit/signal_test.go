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
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"weak"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

const (
	// apart is the time between signals. If two signals of the same kind are
	// sent in less time, they can arrive as one. It is also the time in which a
	// signal that should change nothing could change something. On a slow
	// machine a test may miss a bug, but it never fails without one.
	apart = 100 * time.Millisecond

	// windowOver is more than half a second, the time after the first signal in
	// which an interrupt counts as the same one.
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

func TestMain(m *testing.M) {
	process.Main(m, nil, "ExampleQuitEvent_Shutdown.func2") // a closer that hangs
}

// sayReady makes the program say "ready" as soon as the next n calls to
// WaitSignal handle their signals.
func sayReady(n int32) {
	var waiting atomic.Int32
	quit.OnWait(func(*quit.QuitEvent) {
		if waiting.Add(1) == n {
			process.Say("ready")
		}
	})
}

// hang blocks forever.
func hang() { <-make(chan int) }

// wantStderr checks that the stderr of p has each text. The process has ended.
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

// noSignals handles signals that the system does not have, in a process that
// has handled none before. os/signal would wait forever when they are stopped.
// os.Interrupt is handled with them, and must be stopped too.
var noSignals = process.NewProgram("no signals", func([]string) {
	q := quit.NewQuitEvent()
	q.NotifySignal(unnumberedSignal{}, syscall.Signal(-1), syscall.Signal(1000))()
	process.Say("stopped")
	q.NotifySignal(unnumberedSignal{}, os.Interrupt)()
	process.Say("stopped")
	hang()
})

func TestChildNoSignals(t *testing.T) {
	t.Parallel()
	p := noSignals.Start(t)
	p.Expect("stopped", "stopped")
	p.Signal(os.Interrupt)
	p.WantEnd("signal: interrupt")
}

// importing does nothing with the package.
var importing = process.NewProgram("importing", func([]string) {
	process.Say("%d goroutine", runtime.NumGoroutine())
	hang()
})

// TestSignalBeforeStop stops a handler, or releases the last one, while a
// signal has arrived but is not taken yet. The signal counts, whether the
// receiver sees it first or the stop.
func TestSignalBeforeStop(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 100 {
		q := quietEvent()
		stopped, _ := quit.StopWithPending(syscall.SIGUSR1, q)
		<-stopped
		want := (&quit.SignalError{Signal: syscall.SIGUSR1}).Error()
		if fmt.Sprint(q.Cause()) != want {
			t.Fatalf("the cause is %v, want %v: it came before stop", q.Cause(), want)
		}
		q.GracefulStop()
		if !quit.EndWithPending(syscall.SIGUSR1) {
			t.Fatal("a signal that came before the last handler was released was not taken")
		}
	}
}

// TestStopWaitsForSignal lets another event hold up a signal that came before
// stop. The call to stop does not return until the signal has fired the event.
func TestStopWaitsForSignal(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 50 {
		slow, q := quietEvent(), quietEvent()
		stopped, end := quit.StopWithPending(syscall.SIGUSR1, slow, q)
		release := slow.HoldPipe()
		for range 100 {
			if runtime.Gosched(); isClosed(stopped) {
				t.Fatal("stop has returned, and a signal that came before has not been taken")
			}
		}
		release()
		<-stopped
		if !q.HasFired() {
			t.Fatal("a signal that came before stop has not fired the event")
		}
		end()
		slow.GracefulStop()
		q.GracefulStop()
	}
}

// TestEndAfterLeave blocks an event from leaving the table of signals at the
// end of its shutdown. Until it has left, no caller is told of the end.
func TestEndAfterLeave(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	q := quietEvent()
	q.Fire()
	release := q.HoldPipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.GracefulStop()
	}()
	for range 1000 {
		if runtime.Gosched(); isClosed(ended) {
			t.Fatal("the shutdown has ended, and the event still takes part in signals")
		}
	}
	release()
	<-ended
}

// TestChangeOfEvents makes events handle signals one after another. The table
// of signals keeps an event that has ended until the next one comes. It does
// not keep an event that no longer handles signals.
func TestChangeOfEvents(t *testing.T) {
	var last func()
	used := func(use func(q *quit.QuitEvent)) (freed <-chan struct{}) {
		q, c := quietEvent(), make(chan struct{})
		runtime.AddCleanup(q, func(c chan struct{}) { close(c) }, c)
		use(q)
		return c
	}
	for range 3 {
		waitFor(t, used(func(q *quit.QuitEvent) { q.NotifySignal(syscall.SIGUSR2)() }))
		waitFor(t, used(func(q *quit.QuitEvent) {
			stop := q.NotifySignal(syscall.SIGUSR2)
			q.GracefulStop()
			stop()
		}))
		used(func(q *quit.QuitEvent) {
			q.GracefulStop()
			q.NotifySignal(syscall.SIGUSR2)
		})
		freed := used(func(q *quit.QuitEvent) {
			q.NotifySignal(syscall.SIGUSR2)
			q.GracefulStop()
		})
		next := quietEvent()
		last = next.NotifySignal(syscall.SIGUSR2)
		waitFor(t, freed)
		next.GracefulStop()
	}
	last()
	if quit.Receives(syscall.SIGUSR2) {
		t.Error("a signal is still received, and no handler is left")
	}
}

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

// TestEndDelayAnytime ends the delay again and again during a shutdown. It ends
// once.
func TestEndDelayAnytime(t *testing.T) {
	q := quietEvent()
	q.Delay = time.Hour
	for range 100 {
		q.RegisterStopFunc(func() {})
	}
	ended := make(chan struct{})
	go func() { q.GracefulStop(); close(ended) }()
	n := 0
	for !isClosed(ended) {
		if q.EndDelay() {
			n++
		}
		yield()
	}
	if n != 1 {
		t.Errorf("the delay was ended %d times, want once", n)
	}
}

// waiting waits for the signals args[1:]. It exits with the ExitCode of the
// cause if args[0] is "ExitCode", and with 0 otherwise. The choice is main's.
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
		listed string // for WaitSignal; "" for none
		send   string
		cause  string
		choice string // of main: see waiting
		want   string
	}{
		{send: "SIGTERM", cause: "terminated", choice: "0", want: "exit status 0"},
		{send: "SIGTERM", cause: "terminated", choice: "ExitCode", want: "exit status 143"},
		{send: "SIGINT", cause: "interrupt", choice: "0", want: "exit status 0"},
		{send: "SIGINT", cause: "interrupt", choice: "ExitCode", want: "exit status 130"},
		{
			listed: "SIGTERM SIGHUP", send: "SIGHUP", cause: "hangup",
			choice: "ExitCode", want: "exit status 129",
		},
		{
			listed: "SIGUSR1", send: "SIGUSR1", cause: "user defined signal 1",
			choice: "0", want: "exit status 0",
		},
		{
			listed: "SIGQUIT", send: "SIGQUIT", cause: "quit",
			choice: "ExitCode", want: "exit status 131",
		},
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

// TestChildNotTaken sends a signal to a program that waits for other signals.
// It has its usual effect.
func TestChildNotTaken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		listed  string
		ignored bool // whether SIGHUP and SIGINT are ignored from the start
		send    string
		want    string
		stderr  []string
	}{
		{
			name: "SIGQUIT dumps the goroutines", send: "SIGQUIT", want: "exit status 2",
			stderr: []string{"SIGQUIT: quit", "goroutine 1 ", ".WaitSignal("},
		},
		{
			name: "SIGHUP is not among the default ones",
			send: "SIGHUP",
			want: "signal: hangup",
		},
		{
			name:   "listed are others",
			listed: "SIGUSR1",
			send:   "SIGTERM",
			want:   "signal: terminated",
		},
		{
			name:    "all that are listed are ignored",
			listed:  "SIGHUP SIGINT",
			ignored: true,
			send:    "SIGTERM",
			want:    "signal: terminated",
		},
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

// pending has received a signal before it calls WaitSignal.
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

// slow waits for the signals args. Its closer returns when the test tells it
// to. Its main goes on after WaitSignal, until the test tells it to return.
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
	for range 6 { // the last ones arrive at a time when an interrupt would end the process
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

// failing fires with a failure when the test tells it to.
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
		during, after bool // whether SIGTERM is sent during the shutdown, or after it
		want          string
	}{
		{name: "no signal", want: "exit status 1"},
		{name: "a signal during the shutdown", during: true, want: "exit status 1"},
		// No signal fired the event, so WaitSignal has restored the earlier
		// handling.
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

// leaving looks for goroutines of the package after all events have ended. It
// is a process of its own, since other tests may have such goroutines.
var leaving = process.NewProgram("leaving", func([]string) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 { // of SIGUSR1, which a Go program ignores unless it handles it
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

// twoCallers waits for one event in two goroutines, and once more after its
// end.
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
// another signal.
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

// reentering calls WaitSignal in a closer. That must not undo the effects of
// main's WaitSignal.
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

// generations waits for signals with one event after another, as a program that
// reloads does.
var generations = process.NewProgram("generations", func([]string) {
	for i := range 3 {
		q := &quit.QuitEvent{Timeout: -1}
		q.RegisterStopFunc(func() { process.Say("closed %d", i) })
		restore := quit.OnWait(func(*quit.QuitEvent) { process.Say("ready") })
		err := q.WaitSignal(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		restore()
		process.Say("%v, %v", err, q.Cause())
	}
	process.Listen()
})

func TestChildGenerations(t *testing.T) {
	t.Parallel()
	p := generations.Start(t)
	for i, s := range []string{"hangup", "hangup", "interrupt"} {
		p.Expect("ready")
		time.Sleep(windowOver) // or an interrupt would be the second one of the last event
		p.Signal(map[string]os.Signal{"hangup": syscall.SIGHUP, "interrupt": os.Interrupt}[s])
		p.Expect(fmt.Sprint("closed ", i), "<nil>, quit: received signal: "+s)
	}
	p.Tell()
	p.WantEnd("exit status 0")
}

// manyGenerations makes 50 events handle a signal, with WaitSignal or without,
// as args[0] says. It counts the goroutines that are left.
var manyGenerations = process.NewProgram("many generations", func(args []string) {
	counts := make(map[int]int)
	var events []weak.Pointer[quit.QuitEvent]
	stop := func() {}
	for i := range 50 {
		q := quietEvent()
		events = append(events, weak.Make(q))
		if args[0] == "WaitSignal" {
			restore := quit.OnWait(func(*quit.QuitEvent) {
				syscall.Kill(os.Getpid(), syscall.SIGHUP)
			})
			q.WaitSignal(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
			restore()
		} else {
			// Only the last of these is ever called.
			stop = q.NotifySignal(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
			syscall.Kill(os.Getpid(), syscall.SIGHUP)
			<-q.Done()
			q.GracefulStop()
		}
		// Goroutines that are about to end may take a moment.
		end := time.Now().Add(time.Minute)
		for i > 0 && runtime.NumGoroutine() > counts[0] {
			if time.Now().After(end) {
				process.Say("%d goroutines after %d events, %d after one",
					runtime.NumGoroutine(), i+1, counts[0])
				return
			}
			time.Sleep(time.Millisecond)
		}
		if i == 0 {
			time.Sleep(apart)
		}
		counts[i] = runtime.NumGoroutine()
	}
	process.Say("no more goroutines than after the first")
	runtime.GC()
	runtime.GC()
	kept := 0
	for _, q := range events {
		if q.Value() != nil {
			kept++
		}
	}
	process.Say("events are kept: %t", kept > 1) // the last one still handles signals
	stop()
	quit.NewQuitEvent().NotifySignal()()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !strings.Contains(allStacks(), "graceful/quit.") {
			process.Say("none left")
			return
		}
	}
	panic(allStacks())
})

func TestChildGenerationsLeaveNothing(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"WaitSignal", "NotifySignal"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := manyGenerations.Start(t, how)
			p.Expect("no more goroutines than after the first",
				"events are kept: false", "none left")
			p.WantEnd("exit status 0")
		})
	}
}

// twoAtOnce has two events that handle interrupts, an older and a younger one.
// SIGHUP is the first signal of the event that args[0] names. Its shutdown then
// hangs, and the other event waits.
var twoAtOnce = process.NewProgram("two at once", func(args []string) {
	older, younger := &quit.QuitEvent{Timeout: -1}, &quit.QuitEvent{Timeout: -1}
	for name, q := range map[string]*quit.QuitEvent{"older": older, "younger": younger} {
		q.RegisterStopFunc(func() { process.Say("%s hangs", name); hang() }, quit.Name(name))
	}
	for name, q := range map[string]*quit.QuitEvent{"older": older, "younger": younger} {
		sigs := []os.Signal{os.Interrupt}
		if name == args[0] {
			sigs = append(sigs, syscall.SIGHUP)
		}
		if q == younger {
			older.NotifySignal(os.Interrupt) // so that it is the older one in any case
		}
		q.NotifySignal(sigs...)
		go q.WaitSignal(sigs...)
	}
	process.Say("ready")
	hang()
})

func TestChildOldestDecides(t *testing.T) {
	t.Parallel()
	t.Run("which shuts down", func(t *testing.T) {
		t.Parallel()
		p := twoAtOnce.Start(t, "older")
		p.Expect("ready")
		p.Signal(syscall.SIGHUP)
		p.Expect("older hangs")
		time.Sleep(windowOver)
		p.Signal(os.Interrupt)
		// The younger one is fired too, and may reach its closer.
		if said := p.Next(); said != "" && said != "younger hangs" {
			t.Errorf("the program said %q", said)
		}
		p.WantEnd("exit status 130")
	})
	t.Run("which waits", func(t *testing.T) {
		t.Parallel()
		p := twoAtOnce.Start(t, "younger")
		p.Expect("ready")
		p.Signal(syscall.SIGHUP)
		p.Expect("younger hangs")
		time.Sleep(windowOver)
		p.Signal(os.Interrupt)
		p.Expect("older hangs")
		time.Sleep(windowOver)
		p.Signal(os.Interrupt)
		p.WantEnd("exit status 130")
	})
}

// endedHandles makes an event that has ended handle signals again, before
// another event does.
var endedHandles = process.NewProgram("an ended event handles signals", func([]string) {
	ended, q := quietEvent(), &quit.QuitEvent{Timeout: -1}
	ended.GracefulStop()
	ended.NotifySignal(os.Interrupt)
	q.RegisterStopFunc(func() { process.Say("hanging"); hang() })
	sayReady(1)
	q.WaitSignal(syscall.SIGHUP, os.Interrupt)
})

func TestChildEndedDecidesNothing(t *testing.T) {
	t.Parallel()
	p := endedHandles.Start(t)
	p.Expect("ready")
	p.Signal(syscall.SIGHUP)
	p.Expect("hanging")
	time.Sleep(windowOver)
	p.Signal(os.Interrupt)
	p.WantEnd("exit status 130")
}

// lastLines is in main's last lines after a signal has shut its event down.
// args[0] says whether the event is collected.
var lastLines = process.NewProgram("last lines", func(args []string) {
	func() {
		q := quit.NewQuitEvent()
		sayReady(1)
		q.WaitSignal()
	}()
	if args[0] == "garbage" {
		runtime.GC()
		runtime.GC()
	}
	process.Say("ended")
	process.Listen()
	process.Say("last line")
	hang()
})

func TestChildLastLines(t *testing.T) {
	t.Parallel()
	for _, first := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		for _, event := range []string{"kept", "garbage"} {
			t.Run(fmt.Sprint(first, ", ", event), func(t *testing.T) {
				t.Parallel()
				p := lastLines.Start(t, event)
				p.Expect("ready")
				p.Signal(first)
				p.Expect("ended")
				for range 3 {
					p.Signal(syscall.SIGTERM)
					time.Sleep(apart)
				}
				p.Tell()
				p.Expect("last line")
				time.Sleep(windowOver)
				p.Signal(syscall.SIGTERM)
				time.Sleep(apart)
				p.Signal(os.Interrupt)
				p.WantEnd("exit status 130")
				wantStderr(t, p, "quit: received signal: interrupt, ending at once")
			})
		}
	}
}

// delaying has a long delay, and a closer that hangs.
var delaying = process.NewProgram("delaying", func([]string) {
	q := &quit.QuitEvent{Timeout: -1, Delay: time.Hour}
	q.RegisterStopFunc(func() { process.Say("closing"); hang() }, quit.Name("hung"))
	sayReady(1)
	go q.WaitSignal()
	<-q.Done()
	process.Say("fired")
	hang()
})

func TestChildInterruptEndsDelay(t *testing.T) {
	t.Parallel()
	for _, first := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(first.String(), func(t *testing.T) {
			t.Parallel()
			untilInTime(t, func() (inTime bool) {
				p := delaying.Start(t)
				p.Expect("ready")
				p.Signal(first)
				p.Expect("fired")
				time.Sleep(windowOver)
				p.Signal(syscall.SIGTERM) // has no effect
				time.Sleep(apart)
				start := time.Now()
				p.Signal(os.Interrupt)
				p.Expect("closing")
				p.Signal(os.Interrupt) // the same one, arriving twice
				select {
				case <-p.Exited():
					if time.Since(start) < 500*time.Millisecond {
						t.Error("an interrupt at once after the one that ended the delay " +
							"ended the process")
					}
					return false
				case <-time.After(apart):
				}
				time.Sleep(windowOver)
				p.Signal(os.Interrupt)
				p.WantEnd("exit status 130")
				wantStderr(t, p, "▸ hung")
				return true
			})
		})
	}
}

// ignoring was started with signals ignored, and lists them.
var ignoring = process.NewProgram("ignoring", func([]string) {
	q := &quit.QuitEvent{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	stop := q.NotifySignal(os.Interrupt, syscall.SIGTERM)
	q.NotifySignal(syscall.SIGHUP, syscall.SIGHUP)()
	q.NotifySignal(os.Interrupt)() // does not log it again
	q.GracefulStop()
	stop()
	process.Say("ignored %t, %t", signal.Ignored(os.Interrupt), signal.Ignored(syscall.SIGHUP))
})

func TestChildIgnoredIsLogged(t *testing.T) {
	t.Parallel()
	cmd := ignoring.Command(t)
	process.IgnoreHangups(t, cmd)
	p := ignoring.StartCommand(t, cmd)
	p.Expect("ignored true, true")
	p.WantEnd("exit status 0")
	for _, s := range []string{"interrupt", "hangup"} {
		wantStderr(t, p, `level=INFO msg="quit: signal stays ignored" signal=`+s+"\n")
	}
	if n := strings.Count(p.Stderr(), "stays ignored"); n != 2 {
		t.Errorf("%d signals stay ignored, want 2:\n%s", n, p.Stderr())
	}
}

// restoring begins and then stops handling SIGUSR1, which is ignored or not as
// args[0] says.
var restoring = process.NewProgram("restoring", func(args []string) {
	ignored := args[0] == "ignored"
	if ignored {
		signal.Ignore(syscall.SIGUSR1, syscall.SIGPIPE)
	}
	q := quit.NewQuitEvent()
	one := q.NotifySignal(syscall.SIGUSR1)
	two := q.NotifySignal(syscall.SIGUSR1, syscall.SIGTERM)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	<-q.Done()
	one()
	process.Say("one stopped: %t", signal.Ignored(syscall.SIGUSR1))
	q.GracefulStop()
	two()
	process.Say("stopped: %t, %t", signal.Ignored(syscall.SIGUSR1), signal.Ignored(syscall.SIGPIPE))
	for range 10 {
		quit.NewQuitEvent().NotifySignal(syscall.SIGUSR1)()
	}
	process.Say("stopped: %t, %t", signal.Ignored(syscall.SIGUSR1), signal.Ignored(syscall.SIGPIPE))
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	time.Sleep(apart)
	io.WriteString(os.Stdout, "line\n")
	process.Say("alive")
})

func TestChildStopRestores(t *testing.T) {
	t.Parallel()
	start := func(before string) *process.Process {
		cmd := restoring.Command(t, before)
		cmd.Stdout = process.BrokenPipe(t)
		return restoring.StartCommand(t, cmd)
	}
	p := start("ignored")
	p.Expect("one stopped: false", "stopped: true, true", "stopped: true, true", "alive")
	p.WantEnd("exit status 0")
	p = start("not ignored")
	p.Expect("one stopped: false", "stopped: false, false", "stopped: false, false")
	p.WantEnd("signal: broken pipe") // a Go program ignores a SIGUSR1 it does not handle
}

// TestDecide sends signals to several events, some of which have ended. Each op
// is a line of one of these forms:
//
//	handle EVENT SIGNAL…
//	leave EVENT
//	SIGNAL TIME [fires EVENT…] [ends]
func TestDecide(t *testing.T) {
	for _, test := range []struct {
		name string
		ops  []string
	}{
		{name: "nobody handles it, but it was sent before a stop", ops: []string{
			"int 0s", "int 400ms", "term 1s", "int 1s ends",
		}},
		{name: "one event", ops: []string{
			"handle a int term", "int 0s fires a", "int 499ms", "term 1s", "int 1s ends",
		}},
		{name: "SIGHUP first", ops: []string{
			"handle a int hup", "hup 0s fires a", "hup 1s", "int 499ms", "int 500ms ends",
		}},
		{name: "not listed", ops: []string{
			"handle a term", "handle b int", "term 0s fires a", "int 1s fires b", "int 1500ms ends",
		}},
		{name: "both at once", ops: []string{
			"handle a int", "handle b int", "int 0s fires a b", "int 499ms", "int 500ms ends",
		}},
		{name: "the older one shuts down", ops: []string{
			"handle a int hup", "handle b int", "hup 0s fires a", "int 1s fires b ends",
		}},
		{name: "the younger one shuts down", ops: []string{
			"handle a int", "handle b int hup", "hup 0s fires b",
			"int 1s fires a", "int 1200ms", "int 1500ms ends",
		}},
		{name: "a generation after another", ops: []string{
			"handle a int hup", "hup 0s fires a", "leave a",
			"handle b int hup", "hup 1s fires b", "leave b",
			"handle c int hup", "int 2s fires c", "int 2400ms",
			"leave c", "int 2499ms", "int 2500ms ends",
		}},
		{name: "the older one has ended", ops: []string{
			"handle a int hup", "handle b int", "hup 0s fires a",
			"leave a", "int 1s fires b", "int 1500ms ends",
		}},
		{name: "one that handles nothing has ended last", ops: []string{
			"handle a int", "int 0s fires a", "leave a", "leave b", "int 1s ends",
		}},
		{name: "ended without a signal", ops: []string{
			"handle a int", "leave a", "int 0s", "int 499ms", "term 1s", "int 1s ends",
		}},
		{name: "SIGTERM in the last lines", ops: []string{
			"handle a int term", "term 0s fires a", "leave a", "term 1s", "term 2s", "int 2s ends",
		}},
		{name: "the younger one has ended, the older one waits", ops: []string{
			"handle a int", "handle b int hup", "hup 0s fires b",
			"leave b", "int 1s fires a", "int 1400ms", "int 1500ms ends",
		}},
		{name: "one that listens to something else decides nothing", ops: []string{
			"handle a hup", "hup 0s fires a",
			"handle b int", "int 1s fires b", "int 1100ms", "int 1500ms ends",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var table quit.SignalTable
			events := map[string]*quit.QuitEvent{
				"a": quietEvent(),
				"b": quietEvent(),
				"c": quietEvent(),
			}
			sigs := map[string]os.Signal{
				"int":  os.Interrupt,
				"term": syscall.SIGTERM,
				"hup":  syscall.SIGHUP,
			}
			start := time.Now()
			for _, op := range test.ops {
				f := strings.Fields(op)
				switch f[0] {
				case "handle":
					var list []os.Signal
					for _, s := range f[2:] {
						list = append(list, sigs[s])
					}
					table.Handle(events[f[1]], list...)
					continue
				case "leave":
					table.Leave(events[f[1]])
					continue
				}
				before := make(map[string]bool)
				for name, q := range events {
					before[name] = q.HasFired()
				}
				d, err := time.ParseDuration(f[1])
				if err != nil {
					t.Fatal(err)
				}
				ends := table.Take(sigs[f[0]], start.Add(d))
				got := strings.Join(f[:2], " ")
				for _, name := range []string{"a", "b", "c"} {
					if events[name].HasFired() && !before[name] {
						if !strings.Contains(got, "fires") {
							got += " fires"
						}
						got += " " + name
					}
				}
				if ends {
					got += " ends"
				}
				if got != op {
					t.Errorf("%q, want %q", got, op)
				}
			}
		})
	}
}

// resetting resets a signal that an event handles. Another event then handles
// it.
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
// says which goroutines hold up the drain.
var notifying = process.NewProgram("notifying", func([]string) {
	q := quit.NewQuitEvent()
	q.Timeout = -1
	q.Go(func(context.Context) error {
		q.NotifySignal(syscall.SIGUSR1)
		process.Say("ready")
		hang()
		return nil
	}, quit.Name("worker"))
	<-q.Done() // the goroutine that takes signals has started
	go q.GracefulStop()
	for r := q.Report(); len(r.Steps) == 0 || r.Steps[0].Start.IsZero(); r = q.Report() {
		<-r.Changed()
	}
	all := quit.ReportWithStacks(q)
	process.Say("%d goroutine, of signals %t",
		strings.Count(all, "1 goroutine of worker:"), strings.Contains(all, "signalTable"))
})

func TestChildStacksOfWorkerAlone(t *testing.T) {
	t.Parallel()
	p := notifying.Start(t)
	p.Expect("ready")
	p.Signal(syscall.SIGUSR1)
	p.Expect("1 goroutine, of signals false")
	p.WantEnd("exit status 0")
}

// TestExists uses the first and the last number of a signal, and their
// neighbours.
func TestExists(t *testing.T) {
	for s, want := range map[os.Signal]bool{
		syscall.Signal(-1): false,
		syscall.Signal(0):  true,
		syscall.Signal(64): true,
		syscall.Signal(65): false,
		os.Interrupt:       true,
		unnumberedSignal{}: false,
	} {
		if got := quit.Exists(s); got != want {
			t.Errorf("%v (%T) exists: %v, want %v", s, s, got, want)
		}
	}
}
