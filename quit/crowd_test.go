package quit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
	"github.com/gracefulgo/graceful/quit"
)

// TestCrowdHangs makes 3,000 closers hang in real time. All of them are called,
// the shutdown returns, and a few looks find all their stacks.
func TestCrowdHangs(t *testing.T) {
	const n = 3000
	for _, timeout := range []time.Duration{sec, 3 * sec} {
		t.Run(fmt.Sprint(timeout), func(t *testing.T) {
			q := quietEvent()
			q.Timeout = timeout
			hang := make(chan struct{})
			defer close(hang)
			calls := make([]atomic.Int32, n)
			for i := range calls {
				q.RegisterStopFunc(func() {
					calls[i].Add(1)
					hangInCrowd(hang)
				}, quit.Name(fmt.Sprint(i)))
			}
			before := stacks.Looks()
			err := q.Shutdown(context.Background())
			// On a slow machine, the stacks may come after the end.
			r := q.Report()
			for without := n; ; r = q.Report() {
				changed := r.Changed()
				without = 0
				for _, s := range r.Steps[:n] {
					if s.Stacks == "" {
						without++
					}
				}
				if without == 0 {
					break
				}
				select {
				case <-changed:
				case <-time.After(time.Minute):
					t.Fatalf("%d steps have no stacks", without)
				}
			}
			// There is a look for each of the two closers that hang before only
			// the reserve is left, and one look for all others.
			if looks := stacks.Looks() - before; looks > 3 {
				t.Errorf("the stacks were taken %d times, want 3 at most", looks)
			}
			for _, s := range r.Steps[:n] {
				if !s.Abandoned ||
					!strings.Contains(s.Stacks, "1 goroutine of "+s.Name+":\n") ||
					!strings.Contains(s.Stacks, "quit_test.hangInCrowd") {
					t.Fatalf("the step is %+v, want it abandoned and with its stack", s)
				}
			}
			for i := range calls {
				if c := calls[i].Load(); c != 1 {
					t.Errorf("closer %d was called %d times", i, c)
				}
			}
			if lines := strings.Count(fmt.Sprint(err), "\n") + 1; lines != n {
				t.Errorf("Shutdown() has %d lines, want %d", lines, n)
			}
		})
	}
}

//go:noinline
func hangInCrowd(hang chan struct{}) { <-hang }

// TestCrowdInDrain uses many counted goroutines that never end, each with a
// name of its own. The look at their stacks takes longer than the time left for
// it. The AfterDrain closer does not wait for it.
func TestCrowdInDrain(t *testing.T) {
	n := 20_000
	if quit.UnderRace {
		n = 5000
	}
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Timeout = 10 * sec
		release, called := make(chan struct{}), make(chan struct{})
		defer quit.OnStacks(func() { <-called })()
		start := time.Now()
		var told atomic.Int64
		for i := range n {
			q.Go(func(context.Context) error {
				<-q.WorkContext().Done()
				if time.Since(start) == 7200*ms {
					told.Add(1)
				}
				<-release
				return nil
			}, quit.Name(fmt.Sprint("worker ", i)))
		}
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			end, _ := ctx.Deadline()
			at, has := time.Since(start), time.Until(end)
			if at != 8100*ms || has != 720*ms {
				t.Errorf("the closer was called at %v and has %v, want 8.1s and 720ms", at, has)
			}
			close(called)
			time.Sleep(has)
			return ctx.Err()
		}), quit.AfterDrain())
		err := q.Shutdown(context.Background())
		if told.Load() != int64(n) {
			t.Errorf("WorkContext ended at 7.2s for %d goroutines, want %d", told.Load(), n)
		}
		want := fmt.Sprintf("drain: %d goroutines left after 7.2s", n)
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("Shutdown() = %v, want %q", err, want)
		}
		stuck := q.Report().Steps[0].Stacks
		more := fmt.Sprintf("… and %d more", n-50)
		if !strings.Contains(stuck, more) {
			t.Errorf("the drain's stacks have no %q:\n%.200s", more, stuck)
		}
		close(release)
	})
}

// hangsLate makes closers that hang only after the end of their context, in
// each of the three ways. The report must name the func that hangs after that,
// not the wait before it.
var hangsLate = map[string]func(hang chan struct{}, hung func()) quit.QuitCloser{
	"quit_test.hangInClose": func(hang chan struct{}, hung func()) quit.QuitCloser {
		return &bothWays{
			shutdown: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			close:    func() error { hung(); hangInClose(hang); return nil },
		}
	},
	"quit_test.hangInForce": func(hang chan struct{}, hung func()) quit.QuitCloser {
		return quit.Graceful(func() { <-hang }, func() { hung(); hangInForce(hang) })
	},
	"quit_test.hangInFlush": func(hang chan struct{}, hung func()) quit.QuitCloser {
		return quit.ShutdownFunc(func(ctx context.Context) error {
			<-ctx.Done()
			hung()
			hangInFlush(hang)
			return nil
		})
	},
}

//go:noinline
func hangInClose(hang chan struct{}) { <-hang }

//go:noinline
func hangInForce(hang chan struct{}) { <-hang }

//go:noinline
func hangInFlush(hang chan struct{}) { <-hang }

func TestStacksOfWhatHangs(t *testing.T) {
	for name, closer := range hangsLate {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				synctest.Test(t, func(t *testing.T) {
					q := quietEvent()
					hang := make(chan struct{})
					defer close(hang)
					q.RegisterQuitCloser(closer(hang, func() {}))
					q.GracefulStop()
					if s := q.Report().Steps[0]; !s.Abandoned || !strings.Contains(s.Stacks, name) {
						t.Errorf("the step is %+v, want it abandoned in %s", s, name)
					}
				})
			}
		})
	}
}

// TestStacksOfWhatHangsRealTime uses 20 events at once. On a slow machine, a
// closer may be abandoned before it begins to hang. That closer does not count,
// and the test tries again with more time.
func TestStacksOfWhatHangsRealTime(t *testing.T) {
	t.Parallel()
	for name, closer := range hangsLate {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 20 {
				t.Run("", func(t *testing.T) {
					t.Parallel()
					for timeout := 400 * ms; timeout < time.Minute; timeout *= 2 {
						q := quietEvent()
						q.Timeout = -1
						hang, at := make(chan struct{}), make(chan time.Time, 1)
						q.RegisterQuitCloser(
							closer(hang, func() { at <- time.Now() }), quit.Timeout(timeout))
						q.GracefulStop()
						s := q.Report().Steps[0]
						hung := <-at
						close(hang)
						if strings.Contains(s.Stacks, name) {
							return
						}
						// It hung for at least half of the last eighth.
						if hung.Add(timeout / 16).Before(s.End) {
							t.Fatalf("the stacks are %q, want them of %s", s.Stacks, name)
						}
						t.Logf("%v was not enough, once more", timeout)
					}
					t.Error("the machine was too slow")
				})
			}
		})
	}
}

// TestStacksOnce checks that the stacks of a closer are taken once, when it is
// abandoned, not with each earlier warning.
func TestStacksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		q.Timeout = -1
		hang := make(chan struct{})
		defer close(hang)
		start := time.Now()
		var j journal
		defer quit.OnStacks(func() { j.add(fmt.Sprint(time.Since(start))) })()
		q.RegisterStopFunc(func() { <-hang }, quit.Timeout(100*sec))
		q.GracefulStop()
		j.want(t, "1m52.5s")
		if n := strings.Count(logged(), "still running"); n != 5 { // after 5, 10, 20, 40 and 80 s
			t.Errorf("the log warns %d times, want 5:\n%s", n, logged())
		}
	})
}

// TestNoStacksWithoutNeed checks that a shutdown in which nothing hangs takes
// no stacks.
func TestNoStacksWithoutNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		defer quit.OnStacks(func() { t.Error("the stacks are taken, and nothing hangs") })()
		q.RegisterStopFunc(func() { time.Sleep(19 * sec) })
		q.RegisterQuitCloser(&bothWays{
			shutdown: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			close:    func() error { return nil },
		}, quit.Timeout(sec))
		q.Go(func(ctx context.Context) error { <-ctx.Done(); time.Sleep(sec); return nil })
		q.GracefulStop()
	})
}

// TestEndWaitsForStacks makes the look at the stacks take long. The shutdown
// ends when the stacks have been taken, or else at its deadline.
func TestEndWaitsForStacks(t *testing.T) {
	for _, test := range []struct {
		name    string
		timeout time.Duration
		own     time.Duration // Timeout option of the closer that hangs
		drain   bool          // a goroutine hangs, and no closer
		look    time.Duration // that a look takes
		want    time.Duration // that the shutdown takes
		missing bool          // the stacks come too late
	}{
		{name: "closer", look: 2 * sec, want: 23600 * ms},
		{name: "closer, too slow", look: time.Hour, want: 25*sec - 50*ms, missing: true},
		{name: "no limit", timeout: -1, own: 80 * sec, look: 900 * ms, want: 90900 * ms},
		{
			name: "no limit, too slow", timeout: -1, own: 80 * sec,
			look: time.Hour, want: 91 * sec, missing: true,
		},
		{name: "drain", drain: true, look: 4 * sec, want: 22 * sec}, // taken from 18 s on
		{name: "drain, in time", drain: true, look: sec, want: 21600 * ms},
		{
			name: "drain, too slow", drain: true,
			look: time.Hour, want: 25*sec - 50*ms, missing: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quietEvent()
				q.Timeout = test.timeout
				hang := make(chan struct{})
				if test.drain {
					q.Go(func(context.Context) error { <-hang; return nil }, quit.Name("hung"))
				} else {
					q.RegisterStopFunc(func() { <-hang }, quit.Name("hung"), quit.Timeout(test.own))
				}
				defer quit.OnStacks(func() { time.Sleep(test.look) })()
				start := time.Now()
				q.GracefulStop()
				if took := time.Since(start); took != test.want {
					t.Errorf("Shutdown took %v, want %v", took, test.want)
				}
				has := func() bool {
					return strings.Contains(q.Report().Steps[0].Stacks, "1 goroutine of hung:")
				}
				if has() == test.missing {
					t.Errorf("the report has the stacks: %v, want %v", has(), !test.missing)
				}
				time.Sleep(test.look)
				if synctest.Wait(); !has() {
					t.Error("the report never has the stacks")
				}
				close(hang)
			})
		})
	}
}

// TestNextBeforeStacks checks that the closer after an abandoned one begins
// before the stacks have been taken.
func TestNextBeforeStacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		hang, called := make(chan struct{}), make(chan struct{})
		defer close(hang)
		start := time.Now()
		defer quit.OnStacks(func() { <-called })()
		q.RegisterStopFunc(func() {
			if at := time.Since(start); at != 21600*ms {
				t.Errorf("the next closer was called after %v, want 21.6s", at)
			}
			close(called)
		})
		q.RegisterStopFunc(func() { <-hang }, quit.Name("hung"))
		if err := q.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v, want an abandoned step", err)
		}
	})
}

// TestStacksWhenLastReturns makes a closer hang and another one return while
// only the reserve is left. The stacks of the first are taken once, when the
// second has returned. The AfterDrain closer does not wait for them.
func TestStacksWhenLastReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Timeout = 10 * sec
		var looks journal
		hang := make(chan struct{})
		defer close(hang)
		q.RegisterStopFunc(func() { <-hang }, quit.Name("hung"), quit.Timeout(100*ms))
		q.RegisterStopFunc(func() { time.Sleep(500 * ms) })
		q.RegisterStopFunc(func() { time.Sleep(600 * ms) })
		q.RegisterStopFunc(func() { time.Sleep(8 * sec) })
		start := time.Now()
		called := make(chan struct{})
		q.RegisterStopFunc(func() { close(called) }, quit.AfterDrain())
		defer quit.OnStacks(func() { <-called; looks.add(fmt.Sprint(time.Since(start))) })()
		q.GracefulStop()
		looks.want(t, "9.1s")
		const want = "1 goroutine of hung:"
		for _, s := range q.Report().Steps {
			hung := s.Name == "hung"
			if s.Abandoned != hung || strings.Contains(s.Stacks, want) != hung {
				t.Errorf("the step of %s: abandoned %v, stacks %q", s.Name, s.Abandoned, s.Stacks)
			}
		}
	})
}
