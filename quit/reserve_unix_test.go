//go:build unix

package quit_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// standing is stopped at the moment that args[0] names, with closers of 200 ms
// left.
var standing = process.NewProgram("standing", func(args []string) {
	q := quietEvent()
	q.Timeout = 3 * time.Second
	var calls, dead, hung atomic.Int32
	closers := int32(0)
	register := func(f func(), opts ...quit.Option) {
		closers++
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			calls.Add(1)
			if ctx.Err() != nil {
				dead.Add(1)
			}
			f()
			return nil
		}), opts...)
	}
	work := func() { time.Sleep(200 * time.Millisecond) }
	for range 3 {
		register(work, quit.AfterDrain())
	}
	if args[0] != "reserve" {
		for range 3 {
			register(work)
		}
	}
	here := func() { process.Say("here") }
	switch args[0] {
	case "delay":
		q.Delay = time.Hour
		context.AfterFunc(q.Context(), here)
	case "closer":
		register(func() { here(); hang() })
	case "work":
		register(func() { here(); work() })
	case "drain":
		register(here) // the last closer before the drain
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
	least := time.Hour
	for _, s := range q.Report().Steps {
		if s.Site != "" {
			least = min(least, s.Deadline.Sub(s.Start))
		}
	}
	process.Say("%d of %d called, %d dead, least %v",
		calls.Load(), closers, dead.Load(), least >= 120*time.Millisecond)
})

// TestChildStandsStill stops the process for longer than the whole Timeout. The
// closers that are left then have at least 2/5 of the reserve, which is 120 ms.
func TestChildStandsStill(t *testing.T) {
	t.Parallel()
	for where, closers := range map[string]int{
		"delay":   6,
		"closer":  7,
		"work":    7,
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
				want := fmt.Sprintf("%d of %d called, 0 dead, least true", closers, closers)
				if said == want {
					p.WantEnd("exit status 0")
					return
				}
				// On a slow machine, 120 ms may pass between the begin of a
				// step and the call.
				t.Logf("the program said %q, want %q, once more", said, want)
			}
			t.Error("no closer that is left may find its time used up")
		})
	}
}
