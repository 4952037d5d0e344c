package quit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func TestReentrance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		start := time.Now()
		q.RegisterStopFunc(q.GracefulStop)
		q.RegisterQuitCloser(q) // with itself
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			q.GracefulStop()
			done := make(chan error)
			go func() { done <- q.Shutdown(ctx) }() // known by its context alone
			return errors.Join(
				q.Shutdown(context.Background()),
				q.Shutdown(ctx),
				<-done,
			)
		}))
		q.RegisterStopFunc(func() { q.GracefulStop() }, quit.AfterDrain())
		if err := q.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the shutdown took %v, want none", took)
		}
	})
}

// TestRing makes three events close each other, as registered events and in
// stop funcs. One caller shuts down one of them, or three callers all of them
// at the same time.
func TestRing(t *testing.T) {
	for _, callers := range []int{1, 3} {
		for _, concurrent := range []bool{false, true} {
			for range 50 {
				synctest.Test(t, func(t *testing.T) {
					events := []*quit.QuitEvent{quietEvent(), quietEvent(), quietEvent()}
					start := time.Now()
					for i, q := range events {
						q.Concurrent = concurrent
						next, last := events[(i+1)%3], events[(i+2)%3]
						q.RegisterStopFunc(next.GracefulStop)
						q.RegisterQuitCloser(last)
						q.RegisterQuitCloser(next)
					}
					var wg sync.WaitGroup
					for _, q := range events[:callers] {
						wg.Go(func() {
							if err := q.Shutdown(context.Background()); err != nil {
								t.Errorf("Shutdown() = %v, want nil", err)
							}
						})
					}
					wg.Wait()
					if took := time.Since(start); took != 0 {
						t.Errorf("%d callers: a ring took %v, want none", callers, took)
					}
				})
			}
		}
	}
}

// TestLateRing closes a ring with a registration after the end.
func TestLateRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, ended := quietEvent(), quietEvent()
		start := time.Now()
		ended.GracefulStop()
		q.RegisterStopFunc(func() { ended.RegisterQuitCloser(q) })
		q.RegisterStopFunc(func() {
			ended.RegisterStopFunc(func() {
				ended.RegisterStopFunc(q.GracefulStop) // a late closer in a late closer
			})
		})
		slow := quit.Graceful(func() { time.Sleep(1100 * time.Millisecond) }, q.GracefulStop)
		q.RegisterQuitCloser(slow, quit.Timeout(time.Second))
		err := q.Shutdown(context.Background())
		if took := time.Since(start); took != 1100*time.Millisecond ||
			strings.Contains(fmt.Sprint(err), "abandoned") {
			t.Errorf("the shutdown took %v, want the 1.1s of one closer: %v", took, err)
		}
	})
}

// TestAbandonedMayWait makes an abandoned closer call the shutdown, which no
// longer waits for it. The call waits for the end and returns the result.
func TestAbandonedMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		start := time.Now()
		failure := errors.New("failure")
		q.RegisterCloser(closerFunc(func() error { time.Sleep(10 * time.Second); return failure }))
		var waited, inTime error
		var took time.Duration
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			inTime = q.Shutdown(ctx)
			time.Sleep(2 * time.Second) // its share is one second, and an eighth more
			// This call is known by its goroutine and by its context.
			waited = q.Shutdown(context.WithoutCancel(ctx))
			took = time.Since(start)
			return nil
		}), quit.Timeout(time.Second))
		err := q.Shutdown(context.Background())
		synctest.Wait()
		if !errors.Is(err, failure) || waited != err || inTime != nil {
			t.Errorf("Shutdown() = %v; in the closer = %v, and once it was abandoned = %v",
				err, inTime, waited)
		}
		if want := 11125 * time.Millisecond; took != want {
			t.Errorf("the abandoned closer waited until %v, want %v", took, want)
		}
	})
}

// TestLateClosersAreTwo uses two closers of an event that has ended. One of
// them holds up the shutdown that the other one waits for.
func TestLateClosersAreTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended, q := quietEvent(), quietEvent()
		ended.GracefulStop()
		start := time.Now()
		q.RegisterStopFunc(func() {
			ended.RegisterStopFunc(func() {
				q.GracefulStop() // does not wait, since this closer holds it up
				time.Sleep(2 * time.Second)
			})
		})
		go q.GracefulStop()
		time.Sleep(time.Second)
		ended.RegisterStopFunc(func() {
			q.GracefulStop()
			if took := time.Since(start); took != 2*time.Second {
				t.Errorf("the other late closer waited until %v, want 2s", took)
			}
		})
	})
}

// TestWaitsAreCounted makes a closer wait for another event twice. The end of
// one wait leaves the other.
func TestWaitsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, other := quietEvent(), quietEvent()
		start := time.Now()
		other.RegisterStopFunc(func() {
			time.Sleep(2 * time.Second)
			q.GracefulStop() // closes a cycle, so it does not wait
		})
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			var wg sync.WaitGroup
			wg.Go(func() {
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				if err := other.Shutdown(short); err != context.DeadlineExceeded {
					t.Errorf("Shutdown(short) = %v, want %v", err, context.DeadlineExceeded)
				}
			})
			wg.Go(func() {
				if err := other.Shutdown(ctx); err != nil {
					t.Errorf("Shutdown(ctx) = %v, want nil", err)
				}
			})
			wg.Wait()
			return nil
		}))
		other.Timeout = -1
		go other.GracefulStop()
		synctest.Wait()
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("the shutdown took %v, want 2s", took)
		}
	})
}

// TestWaitIsOver ends a wait before another wait would have closed a cycle with
// it. The other one waits.
func TestWaitIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, other := quietEvent(), quietEvent()
		start := time.Now()
		other.Timeout = -1
		other.RegisterStopFunc(func() {
			time.Sleep(2 * time.Second)
			q.GracefulStop() // its closer no longer waits
			if took := time.Since(start); took != 3*time.Second {
				t.Errorf("the wait ended after %v, want 3s", took)
			}
		})
		go other.GracefulStop()
		synctest.Wait()
		third := quietEvent()
		third.RegisterStopFunc(func() { time.Sleep(3 * time.Second) })
		q.Concurrent = true
		q.RegisterStopFunc(third.GracefulStop) // another wait of q, which goes on
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			other.Shutdown(short)
			time.Sleep(2 * time.Second)
			return nil
		}))
		q.GracefulStop()
		other.GracefulStop()
	})
}

// TestAbandonedHoldsUpNobody makes a closer wait for another event when it is
// abandoned. A closer of the other event then waits for the end of the first.
func TestAbandonedHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, other := quietEvent(), quietEvent()
		start := time.Now()
		other.RegisterStopFunc(func() {
			time.Sleep(2 * time.Second)
			q.GracefulStop()
			if took, want := time.Since(start), 11125*time.Millisecond; took != want {
				t.Errorf("the wait ended after %v, want %v", took, want)
			}
		})
		third := quietEvent()
		third.RegisterStopFunc(func() { time.Sleep(10 * time.Second) })
		q.RegisterStopFunc(third.GracefulStop)
		q.RegisterStopFunc(other.GracefulStop, quit.Timeout(time.Second))
		q.GracefulStop()
		other.GracefulStop()
	})
}

// TestNoWaitIsLeft uses waits of every kind: for a child, for another event,
// for one that is given up and for closers that are registered late. Some of
// them would close a cycle. When all events have ended, no wait is left.
func TestNoWaitIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child, other, ended := quietEvent(), quietEvent(), quietEvent(), quietEvent()
		ended.GracefulStop()
		other.RegisterQuitCloser(q)
		other.RegisterStopFunc(func() { time.Sleep(5 * time.Second) })
		child.RegisterStopFunc(func() { time.Sleep(time.Second) })
		q.RegisterQuitCloser(child)
		q.RegisterStopFunc(child.GracefulStop)
		q.RegisterStopFunc(other.GracefulStop)
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			if err := other.Shutdown(short); err != context.DeadlineExceeded {
				t.Errorf("Shutdown(short) = %v, want %v", err, context.DeadlineExceeded)
			}
			return nil
		}))
		q.RegisterStopFunc(func() { ended.RegisterQuitCloser(q) })
		q.RegisterStopFunc(func() { ended.RegisterStopFunc(func() { time.Sleep(time.Second) }) })
		for _, e := range []*quit.QuitEvent{q, child, other, ended} {
			e.Timeout = -1
		}
		go other.GracefulStop()
		synctest.Wait()
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		other.GracefulStop()
		for name, e := range map[string]*quit.QuitEvent{
			"q":     q,
			"child": child,
			"other": other,
			"ended": ended,
		} {
			if n := e.Waits(); n != 0 {
				t.Errorf("%d waits of and for %s are left", n, name)
			}
		}
	})
}
