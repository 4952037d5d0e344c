//go:build unix

package quit_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// standing is suspended at the moment that args[0] names. It still has to call
// closers that take 200 ms.
var standing = process.NewProgram("standing", func(args []string) {
	q := quietEvent()
	q.Timeout = 3 * time.Second
	var warnings atomic.Int32 // of steps that take long; no step takes five seconds
	q.Logger = slog.New(warningCounter{&warnings})
	var calls, dead, hung atomic.Int32
	closers := int32(0)
	in := q
	register := func(f func(), opts ...quit.Option) {
		closers++
		in.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			calls.Add(1)
			if ctx.Err() != nil {
				dead.Add(1)
			}
			f()
			return nil
		}), opts...)
	}
	here := func() { process.Say("here") }
	work := func() { time.Sleep(200 * time.Millisecond) }
	if args[0] != "alone" {
		for range 3 {
			register(work, quit.AfterDrain())
		}
		if args[0] == "drain" {
			register(here) // the last closer before the drain
		}
		if args[0] != "reserve" {
			for range 3 {
				register(work)
			}
		}
	}
	switch args[0] {
	case "delay":
		q.Delay = time.Hour
		context.AfterFunc(q.Context(), here)
	case "closer":
		register(func() { here(); hang() })
	case "work":
		register(func() { here(); work() })
	case "event", "alone":
		in = quietEvent()
		q.RegisterQuitCloser(in)
		for range 2 {
			register(work, quit.AfterDrain())
			register(work)
		}
		register(func() { here(); hang() })
	case "drain":
		q.AddGoroutine()
	case "reserve":
		for range 6 { // two use up the time, and four begin together
			register(func() {
				if hung.Add(1) == 6 {
					here()
				}
				hang()
			})
		}
	}
	q.GracefulStop()
	enough, beside := true, true
	var look func(steps []quit.Step, timeout time.Duration)
	look = func(steps []quit.Step, timeout time.Duration) {
		for _, s := range steps {
			if s.Site != "" {
				enough = enough && s.Deadline.Sub(s.Start) >= timeout/10*2/5
			}
			if s.Steps != nil && len(steps) >= 5 { // the closers after it do not wait for its end
				beside = steps[len(steps)-5].Start.Before(s.End)
			}
			look(s.Steps, 2*time.Second) // about 4/5 of 9/10 of the root's
		}
	}
	look(q.Report().Steps, q.Timeout)
	process.Say("%d of %d called, %d dead, enough %v, beside %v, %d warnings",
		calls.Load(), closers, dead.Load(), enough, beside, warnings.Load())
})

// warningCounter counts records of level Warn.
type warningCounter struct{ n *atomic.Int32 }

func (warningCounter) Enabled(_ context.Context, l slog.Level) bool { return l == slog.LevelWarn }
func (h warningCounter) WithAttrs([]slog.Attr) slog.Handler         { return h }
func (h warningCounter) WithGroup(string) slog.Handler              { return h }
func (h warningCounter) Handle(context.Context, slog.Record) error {
	h.n.Add(1)
	return nil
}

// TestChildStandsStill stops the process for longer than the whole Timeout. The
// remaining closers have at least 2/5 of the reserve, which is a tenth of the
// Timeout. A nested event has a reserve of its own, and the time for it.
func TestChildStandsStill(t *testing.T) {
	t.Parallel()
	for where, closers := range map[string]int{
		"delay":   6,
		"closer":  7,
		"work":    7,
		"event":   11,
		"alone":   5,
		"drain":   7,
		"reserve": 9,
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			for range 3 {
				p := standing.Start(t, where)
				p.Expect("here")
				p.Signal(syscall.SIGSTOP)
				time.Sleep(3200 * time.Millisecond)
				p.Signal(syscall.SIGCONT)
				said := p.Next()
				want := fmt.Sprintf("%d of %d called, 0 dead, enough true, beside true, 0 warnings",
					closers, closers)
				if said == want {
					p.WantEnd("exit status 0")
					return
				}
				// On a slow machine, 120 ms may pass between the start of a
				// step and the call.
				t.Logf("the program said %q, want %q, once more", said, want)
			}
			t.Error("no closer that is left may find its time used up")
		})
	}
}
