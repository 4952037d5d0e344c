//go:build unix

package quit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// TestChildInterruptTwice sends the first interrupt twice, as a terminal and a
// parent do. On a slow machine, half a second may pass between the two, and
// then the second one may end the program.
func TestChildInterruptTwice(t *testing.T) {
	t.Parallel()
	untilInTime(t, func() (inTime bool) {
		p := slow.Start(t)
		p.Expect("ready")
		start := time.Now()
		p.Signal(syscall.SIGINT)
		p.Expect("closing") // so that the two do not arrive as one
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

		// The half second is counted from the first one, not from the previous
		// one. The return of WaitSignal changes nothing.
		for range 4 {
			time.Sleep(windowOver / 2)
			p.Process.Signal(syscall.SIGINT) // unless it has ended
		}
		p.WantEnd("exit status 130")
		return true
	})
}

// hung hangs at the place that args[0] names.
var hung = process.NewProgram("hung", func(args []string) {
	// It logs nothing. The log would wait for a stderr that nobody reads.
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

// stepHandler is a log handler that calls begins when the named step begins. It
// writes nothing.
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

// sayHere says name and the place of the call, as dir/file.go:line. It returns
// name.
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
		want   []string // on stderr, as well as the site of the closer
	}{
		{
			first: syscall.SIGINT, hangs: closer, stderr: "read",
			want: []string{"quit_test.hangInCloser"},
		},
		{
			first: syscall.SIGTERM, hangs: closer, stderr: "read",
			want: []string{"quit_test.hangInCloser"},
		},
		{first: syscall.SIGINT, hangs: closer, stderr: "full"},
		{first: syscall.SIGINT, hangs: closer, stderr: "broken"},
		{first: syscall.SIGINT, hangs: main, stderr: "broken"},
		{
			first: syscall.SIGTERM, hangs: goroutine, stderr: "read",
			want: []string{"drain", "1 goroutine of hung goroutine", "quit_test.hangInGoroutine"},
		},
	} {
		name := fmt.Sprintf("%v, hangs %s, stderr is %s", test.first, test.hangs, test.stderr)
		t.Run(name, func(t *testing.T) {
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
					want = append(slices.Clip(want), p.Next()) // see sayHere
				}
				p.Expect("ready")
				p.Signal(test.first)
				p.Expect("hanging")
				time.Sleep(windowOver)
				inTime := endAtOnce(t, p)
				output := p.Stdout() + p.Stderr()
				for _, other := range []string{"bystander", "WaitSignal"} {
					if strings.Contains(output, other) {
						t.Errorf("the output has the stack of %s, for which no step waits:\n%s",
							other, output)
					}
				}
				if inTime && test.stderr == "read" {
					wantStderr(t, p, want...)
					if once := test.want[len(test.want)-1]; strings.Count(p.Stderr(), once) != 1 {
						t.Errorf("stderr has %q more than once:\n%s", once, p.Stderr())
					}
				}
				return inTime || test.stderr != "read"
			})
		})
	}
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

// TestChildFirstSignalOfEvent checks that the half second is counted from the
// first signal of the event, regardless of the handler that took it.
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

// TestInterruptOfTwoHandlers uses an event with two handlers, as after
// NotifySignal and WaitSignal. They may list different signals. A signal counts
// once, regardless of the number of handlers that list it.
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
			name:  "two interrupts",
			lists: [][]os.Signal{both, both},
			signals: []signal{
				{sig: os.Interrupt, at: 0},
				{sig: os.Interrupt, at: 9 * s, ends: true},
			},
		},
		{
			name:  "two at once",
			lists: [][]os.Signal{both, both},
			signals: []signal{
				{sig: os.Interrupt, at: 0},
				{sig: os.Interrupt, at: s / 3},
				{sig: os.Interrupt, at: s, ends: true},
			},
		},
		{
			name:  "just before the half second is over",
			lists: [][]os.Signal{both, both},
			signals: []signal{
				{sig: os.Interrupt, at: 0},
				{sig: os.Interrupt, at: s/2 - 1},
			},
		},
		{
			name:  "when the half second is over",
			lists: [][]os.Signal{both, both},
			signals: []signal{
				{sig: os.Interrupt, at: 0},
				{sig: os.Interrupt, at: s / 2, ends: true},
			},
		},
		{
			name:  "after SIGTERM",
			lists: [][]os.Signal{both, both},
			signals: []signal{
				{sig: syscall.SIGTERM, at: 0},
				{sig: syscall.SIGTERM, at: s},
				{sig: os.Interrupt, at: s, ends: true},
			},
		},
		{
			name:  "SIGTERM, only one has it",
			lists: [][]os.Signal{{syscall.SIGTERM}, {os.Interrupt}},
			signals: []signal{
				{sig: syscall.SIGTERM, at: 0},
				{sig: os.Interrupt, at: s, ends: true},
			},
		},
		{
			name:  "SIGTERM after",
			lists: [][]os.Signal{both, both},
			signals: []signal{
				{sig: os.Interrupt, at: 0},
				{sig: syscall.SIGTERM, at: s},
				{sig: syscall.SIGTERM, at: 2 * s},
			},
		},
		{
			name:  "a handler that came late",
			lists: [][]os.Signal{both, both},
			late:  true,
			signals: []signal{
				{sig: os.Interrupt, at: 0},
				{sig: os.Interrupt, at: 3 * s, ends: true},
			},
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

// oneHangs has two events that handle signals. One of them has nothing to
// close.
var oneHangs = process.NewProgram("two events, one hangs", func([]string) {
	hangs, ends := &quit.QuitEvent{Timeout: -1}, quit.NewQuitEvent()
	hangs.RegisterStopFunc(func() { process.Say("hanging"); hang() }, quit.Name("hung closer"))
	sayReady(2)
	go ends.WaitSignal()
	go hangs.WaitSignal()
	hang()
})

// TestChildForcedEndOfOther lets the handler of either event end the process.
// The closer that hangs is in the report in both cases.
func TestChildForcedEndOfOther(t *testing.T) {
	t.Parallel()
	for range 4 { // either handler may be the first
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

// endAtOnce sends the interrupt that ends p. It reports false if p took so long
// to end that it may have given up on the stacks, which it does after a second.
func endAtOnce(t *testing.T, p *process.Process) (inTime bool) {
	t.Helper()
	start := time.Now()
	p.Signal(syscall.SIGINT)
	p.WantEnd("exit status 130")
	return time.Since(start) < time.Second
}

// untilInTime calls try until try reports that the machine was fast enough, or
// until the test has failed.
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

// noStacks hangs in a closer, and the look at its stacks never returns.
var noStacks = process.NewProgram("no stacks", func([]string) {
	quit.OnStacks(hang)
	q := &quit.QuitEvent{Timeout: -1, Logger: slog.New(slog.DiscardHandler)}
	q.RegisterStopFunc(hangInCloser, quit.Name("hung closer"))
	sayReady(1)
	q.WaitSignal()
})

// TestChildForcedEndWithoutStacks checks that the process ends without the
// stacks, and names the steps that run.
func TestChildForcedEndWithoutStacks(t *testing.T) {
	t.Parallel()
	untilInTime(t, func() (inTime bool) {
		p := noStacks.Start(t)
		p.Expect("ready")
		p.Signal(syscall.SIGTERM)
		p.Expect("hanging")
		time.Sleep(windowOver)
		start := time.Now()
		p.Signal(os.Interrupt)
		p.WantEnd("exit status 130")
		// The process has a second to take the stacks, and another one to
		// write.
		if inTime = time.Since(start) < 1900*time.Millisecond; inTime {
			wantStderr(t, p, "quit: received signal: interrupt, ending at once", "▸ hung closer")
		}
		if strings.Contains(p.Stderr(), "quit_test.hangInCloser") {
			t.Errorf("stderr has stacks:\n%s", p.Stderr())
		}
		return inTime
	})
}

// starting gets the signal during its startup. Its first closer is already
// registered. Its second one is made after the signal.
var starting = process.NewProgram("starting", func([]string) {
	q := &quit.QuitEvent{Timeout: -1}
	q.NotifySignal()
	q.RegisterStopFunc(func() {}, quit.Name("first closer"))
	process.Say("starting")
	<-q.Done()
	started := q.Go(func(context.Context) error { return nil }, quit.Name("late goroutine"))
	process.Say("fired, Go %t", started)
	process.Listen()
	q.RegisterStopFunc(func() { process.Say("closed") }, quit.Name("second closer"))
	process.Say("returned %v", q.WaitSignal())
})

// TestChildSignalDuringStart sends a signal before main waits for one. main
// goes on, and closes everything that it has made by then. A second interrupt
// ends the process, and the report is the plan.
func TestChildSignalDuringStart(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) *process.Process {
		p := starting.Start(t)
		p.Expect("starting")
		p.Signal(syscall.SIGTERM)
		p.Expect("fired, Go false")
		return p
	}
	t.Run("goes on", func(t *testing.T) {
		t.Parallel()
		p := start(t)
		p.Tell()
		p.Expect("closed", "returned <nil>")
		p.WantEnd("exit status 0")
		wantStderr(t, p, "late goroutine")
	})
	t.Run("forced end", func(t *testing.T) {
		t.Parallel()
		untilInTime(t, func() bool {
			p := start(t)
			time.Sleep(windowOver)
			if !endAtOnce(t, p) {
				return false
			}
			wantStderr(t, p, "ending at once", "first closer")
			return true
		})
	})
}

// TestChildForcedEndTwice sends more interrupts while the process is ending.
// The report is on stderr only once.
func TestChildForcedEndTwice(t *testing.T) {
	t.Parallel()
	p := noStacks.Start(t) // so that the end takes a second
	p.Expect("ready")
	p.Signal(syscall.SIGTERM)
	p.Expect("hanging")
	time.Sleep(windowOver)
	for range 5 {
		p.Process.Signal(os.Interrupt) // unless it has ended
		time.Sleep(apart)
	}
	p.WantEnd("exit status 130")
	if n := strings.Count(p.Stderr(), "ending at once"); n > 1 {
		t.Errorf("stderr tells %d times that the process ends:\n%s", n, p.Stderr())
	}
}

// lastEvent hangs in main's last lines, in the shutdown of an event that
// handles no signals. The event that handled signals has ended.
var lastEvent = process.NewProgram("last event", func([]string) {
	q, last := quietEvent(), &quit.QuitEvent{Timeout: -1, Logger: slog.New(slog.DiscardHandler)}
	sayReady(1)
	q.WaitSignal()
	last.RegisterStopFunc(hangInCloser, quit.Name("hung closer"))
	last.GracefulStop()
})

// TestChildForcedEndOfUnheard checks that the report includes an event that
// handles no signals.
func TestChildForcedEndOfUnheard(t *testing.T) {
	t.Parallel()
	untilInTime(t, func() bool {
		p := lastEvent.Start(t)
		p.Expect("ready")
		p.Signal(syscall.SIGTERM)
		p.Expect("hanging")
		time.Sleep(windowOver)
		if !endAtOnce(t, p) {
			return false
		}
		wantStderr(t, p, "▸ hung closer", "quit_test.hangInCloser")
		return true
	})
}
