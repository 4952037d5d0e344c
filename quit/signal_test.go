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
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

const (
	// apart is the time between signals: closer together, two of one number can
	// arrive as one. It is also how long a signal that should change nothing has for
	// doing so: a test on a slow machine may miss a bug, but never finds one too many.
	apart = 100 * time.Millisecond

	// windowOver is more than the half second after the first signal in which an
	// interrupt is taken for the first one's double.
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

// sayReady says "ready" once n goroutines wait in WaitSignal, and so have their
// signals. WaitSignal itself does not return to say so.
func sayReady(n int) {
	waiting := func() (n int) {
		for _, g := range strings.Split(allStacks(), "\n\n") {
			state, calls, _ := strings.Cut(g, "\n")
			if (strings.Contains(state, "[chan receive") || strings.Contains(state, "[select")) &&
				strings.Contains(calls, ".WaitSignal(") {
				n++
			}
		}
		return n
	}
	go func() {
		for waiting() < n {
			time.Sleep(time.Millisecond)
		}
		say("ready")
	}()
}

func TestSignalError(t *testing.T) {
	for _, test := range []struct {
		signal   os.Signal
		exitCode int
	}{
		{os.Interrupt, 130},
		{syscall.SIGTERM, 143},
		{syscall.SIGHUP, 129},
		{unnumberedSignal{}, 1},
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
var importing = program("importing", func([]string) {
	say("%d goroutine", runtime.NumGoroutine())
	hang()
})

func TestChildImportDoesNothing(t *testing.T) {
	t.Parallel()
	c := startChild(t, importing)
	c.expect("1 goroutine")
	c.signal(syscall.SIGTERM)
	c.wantEnd("signal: terminated")
	if got := c.output.String(); got != "" {
		t.Errorf("the output is %q, want none", got)
	}
}

// waiting waits for the signals args[1:], and ends with the status args[0]:
// main's choice.
var waiting = program("waiting", func(args []string) {
	q := quit.GetQuitEvent()
	q.RegisterStopFunc(func() { say("closed") })
	sayReady(1)
	err := quit.WaitSignal(signalsNamed(args[1:])...)

	var sig *quit.SignalError
	cause := q.Cause()
	errors.As(cause, &sig)
	say("returned %v", err)
	say("%T %v, the context's %t, canceled %t", cause, sig.Signal, context.Cause(q.Context()) == cause, errors.Is(cause, context.Canceled))
	if args[0] == "ExitCode" {
		os.Exit(sig.ExitCode())
	}
})

func TestChildWaitSignal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		listed string
		send   string
		cause  string
		choice string
		want   string
	}{
		{"", "SIGTERM", "terminated", "0", "exit status 0"},
		{"", "SIGTERM", "terminated", "ExitCode", "exit status 143"},
		{"", "SIGINT", "interrupt", "0", "exit status 0"},
		{"", "SIGINT", "interrupt", "ExitCode", "exit status 130"},
		{"SIGTERM SIGHUP", "SIGHUP", "hangup", "ExitCode", "exit status 129"},
		{"SIGUSR1", "SIGUSR1", "user defined signal 1", "0", "exit status 0"},
		{"SIGQUIT", "SIGQUIT", "quit", "ExitCode", "exit status 131"},
	} {
		t.Run(fmt.Sprintf("listed=%s/%s/%s", test.listed, test.send, test.choice), func(t *testing.T) {
			t.Parallel()
			c := startChild(t, waiting, append([]string{test.choice}, strings.Fields(test.listed)...)...)
			c.expect("ready")
			c.signal(signalNamed[test.send])
			c.expect("closed", "returned <nil>", "*quit.SignalError "+test.cause+", the context's true, canceled true")
			c.wantEnd(test.want)
		})
	}
}

// TestChildNotTaken sends a child that waits for other signals one that should have its
// usual effect.
func TestChildNotTaken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		listed  string
		ignored bool // SIGHUP and SIGINT are, from the start of the process
		send    string
		want    string
		output  []string
	}{
		{"SIGQUIT dumps the goroutines", "", false, "SIGQUIT", "exit status 2", []string{"SIGQUIT: quit", "goroutine 1 ", ".WaitSignal("}},
		{"SIGHUP is not among the default ones", "", false, "SIGHUP", "signal: hangup", nil},
		{"listed are others", "SIGUSR1", false, "SIGTERM", "signal: terminated", nil},
		{"all that are listed are ignored", "SIGHUP SIGINT", true, "SIGTERM", "signal: terminated", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newChild(t, waiting, append([]string{"0"}, strings.Fields(test.listed)...)...)
			if test.ignored {
				c.ignoreHangupAndInterrupt()
			}
			c.start().expect("ready")
			c.signal(signalNamed[test.send])
			c.wantEnd(test.want)
			c.wantOutput(test.output...)
		})
	}
}

// pending has a signal before it calls WaitSignal.
var pending = program("pending", func(args []string) {
	q := quit.GetQuitEvent()
	q.RegisterStopFunc(func() { say("closed") })
	q.NotifySignal()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		say("%v", err)
	}
	if args[0] == "fired" {
		<-q.Done()
	}
	say("returned %v", quit.WaitSignal())
	say("%v", q.Cause())
})

func TestChildSignalBeforeWaitSignal(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"on its way", "fired"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			c := startChild(t, pending, when)
			c.expect("closed", "returned <nil>", "quit: received signal: terminated")
			c.wantEnd("exit status 0")
		})
	}
}

// slow has a closer that takes until the test tells it to return, and a main that goes
// on after WaitSignal until the test tells it to return, too. args are the
// signals that it waits for.
var slow = program("slow", func(args []string) {
	q := quit.GetQuitEvent()
	q.Timeout = -1
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		say("closing")
		listen()
		say("closed, %v", ctx.Err())
		return nil
	}))
	sayReady(1)
	err := quit.WaitSignal(signalsNamed(args)...)
	say("returned %v", err)
	listen()
	say("%v", q.Cause())
})

func TestChildSIGTERMAgain(t *testing.T) {
	t.Parallel()
	c := startChild(t, slow)
	c.expect("ready")
	c.signal(syscall.SIGTERM)
	c.expect("closing")
	for range 6 { // the last ones come when an interrupt would end the child
		time.Sleep(apart)
		c.signal(syscall.SIGTERM)
	}
	time.Sleep(apart)
	c.tell()
	c.expect("closed, <nil>", "returned <nil>")
	for range 2 {
		c.signal(syscall.SIGTERM)
		time.Sleep(apart)
	}
	c.tell()
	c.expect("quit: received signal: terminated")
	c.wantEnd("exit status 0")
}

// TestChildInterruptTwice has the first interrupt come twice, as a terminal and
// a parent send it. A slow machine may put half a second between the two: then a child that
// was ended does not prove that the second did it too early.
func TestChildInterruptTwice(t *testing.T) {
	t.Parallel()
	untilInTime(t, func() (inTime bool) {
		c := startChild(t, slow)
		c.expect("ready")
		start := time.Now()
		c.signal(syscall.SIGINT)
		c.expect("closing") // so these are two, and do not arrive as one
		c.signal(syscall.SIGINT)
		time.Sleep(apart)
		c.tell()
		if closed, returned := c.next(), c.next(); returned == "" {
			inTime = time.Since(start) < 500*time.Millisecond
			c.wantEnd("exit status 130")
			if inTime {
				t.Error("the second of two interrupts at once ended the child")
			}
			return inTime
		} else if closed != "closed, <nil>" || returned != "returned <nil>" {
			t.Fatalf("the child said %q, %q, want that it closed and returned", closed, returned)
		}

		// The half second is counted from the first one, not from the last one before.
		// That WaitSignal has returned changes nothing.
		for range 4 {
			time.Sleep(windowOver / 2)
			c.signal(syscall.SIGINT)
		}
		c.wantEnd("exit status 130")
		return true
	})
}

// hung hangs, where args[0] says.
var hung = program("hung", func(args []string) {
	// Nothing is logged, for the log would wait for a stderr that nobody reads.
	q := &quit.QuitEvent{Timeout: -1, Logger: slog.New(slog.DiscardHandler)}
	go bystander()
	switch args[0] {
	case "in a closer":
		q.RegisterStopFunc(hangInCloser, quit.Name(sayHere("hung closer")))
	case "in a goroutine":
		q.Go(func(context.Context) error {
			for !drains(q) {
				time.Sleep(time.Millisecond)
			}
			hangInGoroutine()
			return nil
		}, quit.Name("hung goroutine"))
	case "in main before the shutdown":
		q.NotifySignal()
		say("ready")
		<-q.Done()
		say("hanging")
		hang()
	}
	sayReady(1)
	q.WaitSignal()
})

func hangInCloser() {
	say("hanging")
	hang()
}

func hangInGoroutine() {
	say("hanging")
	hang()
}

func bystander() { hang() }

// drains reports whether the drain has begun.
func drains(q *quit.QuitEvent) bool {
	return slices.ContainsFunc(q.Report().Steps, func(s quit.Step) bool {
		return s.Name == "drain" && !s.Start.IsZero()
	})
}

// sayHere says name with the place of the call, as dir/file.go:line, and returns the name.
func sayHere(name string) string {
	_, file, line, _ := runtime.Caller(1)
	say("%s (%s/%s:%d)", name, filepath.Base(filepath.Dir(file)), filepath.Base(file), line)
	return name
}

func TestChildInterruptEndsIt(t *testing.T) {
	t.Parallel()
	const closer, goroutine, main = "in a closer", "in a goroutine", "in main before the shutdown"
	for _, test := range []struct {
		first  os.Signal
		hangs  string
		stderr string
		output []string
	}{
		{syscall.SIGINT, closer, "read", []string{"quit_test.hangInCloser"}},
		{syscall.SIGTERM, closer, "read", []string{"quit_test.hangInCloser"}},
		{syscall.SIGINT, closer, "full", nil},
		{syscall.SIGINT, closer, "broken", nil},
		{syscall.SIGINT, main, "broken", nil},
		{syscall.SIGTERM, goroutine, "read", []string{"drain", "1 goroutine of hung goroutine", "quit_test.hangInGoroutine"}},
	} {
		t.Run(fmt.Sprintf("%v, hangs %s, stderr is %s", test.first, test.hangs, test.stderr), func(t *testing.T) {
			t.Parallel()
			untilInTime(t, func() bool {
				c := newChild(t, hung, test.hangs)
				switch test.stderr {
				case "full":
					c.cmd.Stderr = fullPipe(t)
				case "broken":
					c.cmd.Stderr = brokenPipe(t)
				}
				c.start()
				output := test.output
				if test.hangs == closer {
					output = append(output[:len(output):len(output)], c.next()) // the site
				}
				c.expect("ready")
				c.signal(test.first)
				c.expect("hanging")
				time.Sleep(windowOver)
				inTime := c.endAtOnce()
				for _, other := range []string{"bystander", "WaitSignal"} {
					if got := c.output.String(); strings.Contains(got, other) {
						t.Errorf("the output has the stack of %s, which holds up nothing:\n%s", other, got)
					}
				}
				if inTime && test.stderr == "read" {
					c.wantOutput(output...)
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
			c := newChild(t, slow, strings.Fields(listed)...)
			c.ignoreHangupAndInterrupt()
			c.start().expect("ready")
			c.signal(syscall.SIGHUP)
			c.signal(syscall.SIGINT)
			time.Sleep(apart)
			c.signal(syscall.SIGTERM)
			c.expect("closing")
			time.Sleep(windowOver)
			c.signal(syscall.SIGINT)
			time.Sleep(apart)
			c.tell()
			c.expect("closed, <nil>", "returned <nil>")
			c.tell()
			c.expect("quit: received signal: terminated")
			c.wantEnd("exit status 0")
		})
	}
}

// failing fires by a failure, when the test tells it to.
var failing = program("failing", func([]string) {
	q := quit.GetQuitEvent()
	q.Timeout = -1
	failure := errors.New("failure")
	q.RegisterStopFunc(func() { say("closing"); listen() })
	go func() {
		listen()
		q.Fail(failure)
	}()
	sayReady(1)
	err := quit.WaitSignal()
	say("returned %v, cause %v", err, q.Cause())
	listen()
	log.Fatal(err)
})

func TestChildFailure(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		during, after bool // of the shutdown: SIGTERM is sent
		want          string
	}{
		{"no signal", false, false, "exit status 1"},
		{"a signal during the shutdown", true, false, "exit status 1"},
		{"a signal after it", false, true, "signal: terminated"}, // no signal fired: what was before is restored
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := startChild(t, failing)
			c.expect("ready")
			c.tell()
			c.expect("closing")
			if test.during {
				c.signal(syscall.SIGTERM)
				time.Sleep(apart)
			}
			c.tell()
			c.expect("returned failure, cause failure")
			if test.after {
				c.signal(syscall.SIGTERM)
			} else {
				c.tell()
			}
			c.wantEnd(test.want)
		})
	}
}

// writing writes to what args[0] says, when args[1] says.
var writing = program("writing", func(args []string) {
	file, when := os.Stdout, args[1]
	if args[0] == "stderr" {
		file = os.Stderr
	}
	write := func() {
		for range 100 {
			if _, err := io.WriteString(file, "line\n"); !errors.Is(err, syscall.EPIPE) {
				say("write: %v, want %v", err, syscall.EPIPE)
				return
			}
		}
		say("written")
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
	say("returned %v", quit.WaitSignal())
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
		{"before", nil, "signal: broken pipe"},
		{"during", []string{"written", "written", "written", "returned <nil>"}, "exit status 0"},
		{"at the fire", []string{"written", "returned <nil>"}, "exit status 0"},
		{"during one that began without signals", []string{"written", "returned <nil>"}, "exit status 0"},
		{"after stop", []string{"returned <nil>"}, "signal: broken pipe"},
	} {
		for _, file := range []string{"stdout", "stderr"} {
			t.Run(test.when+"/"+file, func(t *testing.T) {
				t.Parallel()
				c := newChild(t, writing, file, test.when)
				if file == "stderr" {
					c.cmd.Stderr = brokenPipe(t)
				} else {
					c.cmd.Stdout = brokenPipe(t)
				}
				c.start().expect(test.said...)
				c.wantEnd(test.want)
			})
		}
	}
}

// stopping calls NotifySignal again and again, and stop as often and more often.
var stopping = program("stopping", func([]string) {
	q := quit.NewQuitEvent()
	q.NotifySignal()()
	one, two := q.NotifySignal(), q.NotifySignal()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(one)
	}
	wg.Wait()
	say("ready")
	<-q.Done()
	say("fired, %v", q.Cause())
	two()
	two()
	say("stopped")
	hang()
})

func TestChildStop(t *testing.T) {
	t.Parallel()
	c := startChild(t, stopping)
	c.expect("ready")
	c.signal(syscall.SIGTERM)
	c.expect("fired, quit: received signal: terminated", "stopped")
	c.signal(syscall.SIGTERM)
	c.wantEnd("signal: terminated")
}

// leaving looks for goroutines of the package when all is over. In the process of the
// tests, others that run at the same time have some.
var leaving = program("leaving", func([]string) {
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
			say("none left")
			return
		}
	}
	panic(allStacks())
})

func TestChildNoGoroutineLeft(t *testing.T) {
	t.Parallel()
	c := startChild(t, leaving)
	c.expect("none left")
	c.wantEnd("exit status 0")
}

// twoCallers has two goroutines wait for one event, and asks once more after its end.
var twoCallers = program("two callers", func([]string) {
	q := quit.GetQuitEvent()
	q.RegisterCloser(closerFunc(func() error {
		say("closed")
		return errors.New("cannot close")
	}), quit.Name("x"))
	var errs [2]error
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = quit.WaitSignal() })
	}
	sayReady(2)
	wg.Wait()
	again := quit.WaitSignal()
	say("failed %t, same %t, again %t", errs[0] != nil, errs[0] == errs[1], errs[0] == again)
})

func TestChildTwoCallers(t *testing.T) {
	t.Parallel()
	c := startChild(t, twoCallers)
	c.expect("ready")
	c.signal(syscall.SIGTERM)
	c.expect("closed", "failed true, same true, again true")
	c.wantEnd("exit status 0")
}

// twoEvents has two events that handle the same signal, and one that another does.
var twoEvents = program("two events", func([]string) {
	a, b, other := quit.NewQuitEvent(), quit.NewQuitEvent(), quit.NewQuitEvent()
	a.NotifySignal()
	b.NotifySignal(syscall.SIGTERM)
	other.NotifySignal(syscall.SIGUSR1)
	say("ready")
	<-a.Done()
	<-b.Done()
	say("%v, %v, %v", a.Cause(), b.Cause(), other.Cause())
})

func TestChildTwoEvents(t *testing.T) {
	t.Parallel()
	c := startChild(t, twoEvents)
	c.expect("ready")
	c.signal(syscall.SIGTERM)
	c.expect("quit: received signal: terminated, quit: received signal: terminated, <nil>")
	c.wantEnd("exit status 0")
}

// reentering has a closer that calls WaitSignal, which must leave in effect
// what main's WaitSignal has begun.
var reentering = program("reentering", func([]string) {
	q := quit.GetQuitEvent()
	q.Timeout = -1
	q.RegisterStopFunc(func() {
		say("in the closer: %v, %v", quit.WaitSignal(), q.WaitSignal(syscall.SIGUSR1))
		listen()
		_, err := io.WriteString(os.Stdout, "line\n")
		say("broken pipe %t", errors.Is(err, syscall.EPIPE))
	})
	sayReady(1)
	say("in main: %v", quit.WaitSignal())
	say("again: %v", quit.WaitSignal())
})

func TestChildWaitSignalInCloser(t *testing.T) {
	t.Parallel()
	c := newChild(t, reentering)
	c.cmd.Stdout = brokenPipe(t)
	c.start().expect("ready")
	c.signal(syscall.SIGTERM)
	c.expect("in the closer: <nil>, <nil>")
	c.signal(syscall.SIGTERM)
	time.Sleep(apart)
	c.tell()
	c.expect("broken pipe true", "in main: <nil>", "again: <nil>")
	c.wantEnd("exit status 0")
}

// twoLists has one handler for SIGTERM and another for interrupts.
var twoLists = program("two handlers", func([]string) {
	q := quit.GetQuitEvent()
	q.Timeout = -1
	q.RegisterStopFunc(func() { say("hanging"); hang() })
	q.NotifySignal(syscall.SIGTERM)
	sayReady(1)
	quit.WaitSignal(os.Interrupt)
})

// TestChildFirstSignalOfEvent counts the half second from the first signal of the
// event, whichever handler had it.
func TestChildFirstSignalOfEvent(t *testing.T) {
	t.Parallel()
	c := startChild(t, twoLists)
	c.expect("ready")
	c.signal(syscall.SIGTERM)
	c.expect("hanging")
	time.Sleep(windowOver)
	c.signal(syscall.SIGINT)
	c.wantEnd("exit status 130")
}

// oneHangs has two events that handle signals, of which one has nothing to close.
var oneHangs = program("two events, one hangs", func([]string) {
	hangs, ends := &quit.QuitEvent{Timeout: -1}, quit.NewQuitEvent()
	hangs.RegisterStopFunc(func() { say("hanging"); hang() }, quit.Name("hung closer"))
	go ends.WaitSignal()
	go hangs.WaitSignal()
	sayReady(2)
	hang()
})

// TestChildForcedEndOfOther ends the process by the handler of either event: what
// hangs is told in any case.
func TestChildForcedEndOfOther(t *testing.T) {
	t.Parallel()
	for range 4 { // which of the two handlers comes first is chance
		untilInTime(t, func() bool {
			c := startChild(t, oneHangs)
			c.expect("ready")
			c.signal(syscall.SIGTERM)
			c.expect("hanging")
			time.Sleep(windowOver)
			if !c.endAtOnce() {
				return false
			}
			c.wantOutput("▸ hung closer")
			return true
		})
	}
}
