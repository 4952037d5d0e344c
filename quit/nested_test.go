package quit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func TestComposition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, child := quietEvent(), quietEvent()
		var j journal
		failure := errors.New("of the pool")
		child.RegisterCloser(closerFunc(func() error {
			j.add("child's closer")
			return failure
		}), quit.Name("pool"))
		child.RegisterStopFunc(func() { j.add("child's after drain") }, quit.AfterDrain())
		child.AddGoroutine()
		go func() {
			defer child.DoneGoroutine()
			<-child.Done()
			if !parent.HasFired() {
				t.Error("the child fired before the parent")
			}
			time.Sleep(time.Second)
			j.add("child's goroutine")
		}()
		parent.RegisterStopFunc(func() { j.add("parent's database") })
		parent.RegisterQuitCloser(child, quit.Name("workers"))
		parent.RegisterStopFunc(func() {
			if child.HasFired() {
				t.Error("the child fired before its turn")
			}
			j.add("parent's server")
		})
		err := parent.Shutdown(context.Background())
		j.want(t, "parent's server", "child's closer", "child's goroutine", "child's after drain",
			"parent's database")
		want := "quit: workers (quit/nested_test.go:LINE): " +
			"pool (quit/nested_test.go:LINE): of the pool"
		got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE")
		if got != want || !errors.Is(err, failure) {
			t.Errorf("Shutdown() = %q, want %q", got, want)
		}
		if child.Cause() != context.Canceled {
			t.Errorf("the child's Cause() = %v, want %v", child.Cause(), context.Canceled)
		}
	})
}

// TestCompositionTime makes a closer of a child hang. The child ends within its
// share of the parent's time nonetheless.
func TestCompositionTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, child := quietEvent(), quietEvent()
		hang := make(chan struct{})
		defer close(hang)
		start := time.Now()
		child.RegisterStopFunc(func() { <-hang }, quit.Name("hung"))
		child.AddGoroutine() // never done
		parent.RegisterQuitCloser(child)
		err := parent.Shutdown(context.Background())
		if took := time.Since(start); took >= 20*time.Second {
			t.Errorf("the child took %v, want less than its share of 20s", took)
		}
		text := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE")
		if !strings.Contains(text, "*quit.QuitEvent (") || !strings.Contains(text, ": hung (") ||
			!strings.Contains(text, "1 goroutine left") ||
			strings.Contains(text, "*quit.QuitEvent (quit/nested_test.go:LINE): abandoned") {
			t.Errorf("Shutdown() = %v", err)
		}
	})
}

// TestSharedChild makes two events close the same child. Both wait for it.
func TestSharedChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, child := quietEvent(), quietEvent(), quietEvent()
		a.RegisterQuitCloser(child)
		b.RegisterQuitCloser(child)
		child.RegisterStopFunc(func() { time.Sleep(time.Second) })
		start := time.Now()
		var wg sync.WaitGroup
		for _, q := range []*quit.QuitEvent{a, b} {
			wg.Go(func() {
				q.GracefulStop()
				if took := time.Since(start); took != time.Second {
					t.Errorf("the shutdown took %v, want the 1s of the child", took)
				}
			})
		}
		wg.Wait()
	})
}

// TestFailureGoesUp makes an event fail by itself. The events above it fire
// with the same cause at once, and have the failure in their results once.
func TestFailureGoesUp(t *testing.T) {
	for name, fails := range map[string]func(q *quit.QuitEvent, err error){
		"Fail": func(q *quit.QuitEvent, err error) { q.Fail(err) },
		"Go": func(q *quit.QuitEvent, err error) {
			q.Go(func(context.Context) error { return err })
		},
		"panic": func(q *quit.QuitEvent, err error) {
			q.Go(func(context.Context) error { panic(err) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, other, child, leaf := quietEvent(), quietEvent(), quietEvent(), quietEvent()
				q.RegisterQuitCloser(child, quit.Name("child"))
				other.RegisterQuitCloser(child, quit.Name("shared"))
				child.RegisterQuitCloser(leaf, quit.Name("leaf"))
				failure := errors.New("lost")
				fails(leaf, failure)
				synctest.Wait()
				for i, up := range []*quit.QuitEvent{leaf, child, q, other} {
					if !up.HasFired() || up.Cause() != leaf.Cause() ||
						!errors.Is(up.Cause(), failure) {
						t.Errorf("event %d above: HasFired() = %v, Cause() = %v, want %v",
							i, up.HasFired(), up.Cause(), leaf.Cause())
					}
				}
				for outer, up := range map[string]*quit.QuitEvent{"child": q, "shared": other} {
					err := up.Shutdown(context.Background())
					text := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE")
					prefix := "quit: " + outer + " (quit/nested_test.go:LINE): " +
						"leaf (quit/nested_test.go:LINE): "
					if !strings.HasPrefix(text, prefix) || strings.Count(text, "lost") != 1 ||
						strings.Contains(text, "\n") {
						t.Errorf("Shutdown() = %q, want %q and the failure once", text, prefix)
					}
					if !errors.Is(err, failure) {
						t.Errorf("errors.Is(%v, failure) = false", err)
					}
				}
			})
		})
	}
}

// TestFailureStaysDown makes a child end without a failure of its own, or fail
// when it is no longer registered. Its parent does not fire.
func TestFailureStaysDown(t *testing.T) {
	failure := errors.New("failure")
	for _, test := range []struct {
		name string
		end  func(child *quit.QuitEvent, unregister func() bool)
	}{
		{name: "fired", end: func(child *quit.QuitEvent, _ func() bool) { child.Fire() }},
		{name: "Fail(nil)", end: func(child *quit.QuitEvent, _ func() bool) { child.Fail(nil) }},
		{name: "signal", end: func(child *quit.QuitEvent, _ func() bool) {
			child.Fail(&quit.SignalError{Signal: someSignal{}})
		}},
		{name: "signal of Go", end: func(child *quit.QuitEvent, _ func() bool) {
			child.Go(func(context.Context) error {
				return fmt.Errorf("stopped: %w", &quit.SignalError{})
			})
		}},
		{name: "ignored", end: func(child *quit.QuitEvent, _ func() bool) {
			child.Go(func(context.Context) error { return failure }, quit.Ignore(failure))
		}},
		{name: "shut down", end: func(child *quit.QuitEvent, _ func() bool) {
			child.GracefulStop()
		}},
		{name: "shut down with a failure", end: func(child *quit.QuitEvent, _ func() bool) {
			child.RegisterCloser(closerFunc(func() error { return failure }))
			child.GracefulStop()
		}},
		{name: "fired before it fails", end: func(child *quit.QuitEvent, _ func() bool) {
			child.Fire()
			child.Fail(failure)
		}},
		{name: "unregistered", end: func(child *quit.QuitEvent, unregister func() bool) {
			if !unregister() {
				t.Error("unregister = false")
			}
			child.Fail(failure)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, child := quietEvent(), quietEvent()
				test.end(child, q.RegisterQuitCloser(child))
				synctest.Wait()
				if q.HasFired() {
					t.Errorf("the parent has fired, with %v", q.Cause())
				}
				q.GracefulStop()
			})
		})
	}
}

// TestFailureBeforeRegistration registers an event that has already failed.
func TestFailureBeforeRegistration(t *testing.T) {
	q, child := quietEvent(), quietEvent()
	failure := errors.New("lost")
	child.Fail(failure)
	above := quietEvent()
	above.RegisterQuitCloser(q, quit.Name("middle"))
	q.RegisterQuitCloser(child, quit.Name("child"))
	if q.Cause() != failure || above.Cause() != failure {
		t.Errorf("Cause() = %v, and above %v, want %v", q.Cause(), above.Cause(), failure)
	}
	err := above.Shutdown(t.Context())
	want := "quit: middle (quit/nested_test.go:LINE): child (quit/nested_test.go:LINE): lost"
	if got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE"); got != want {
		t.Errorf("Shutdown() = %q, want %q", got, want)
	}
}

// TestFailureIgnoredInPart makes an event fail with two errors, and its parent
// ignores one of them. The other one is in the result once.
func TestFailureIgnoredInPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		above, q, child := quietEvent(), quietEvent(), quietEvent()
		ignored, lost := errors.New("ignored"), errors.New("lost")
		above.RegisterQuitCloser(q, quit.Name("q"))
		q.RegisterQuitCloser(child, quit.Name("child"), quit.Ignore(ignored))
		child.Fail(errors.Join(ignored, lost))
		synctest.Wait()
		err := above.Shutdown(context.Background())
		want := "quit: q (quit/nested_test.go:LINE): child (quit/nested_test.go:LINE): lost"
		if got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE"); got != want {
			t.Errorf("Shutdown() = %q, want %q", got, want)
		}
	})
}

// TestFailureOfUnregistered makes an event fail that is then unregistered, and
// another closer fail. The result of the event at the top has both failures.
func TestFailureOfUnregistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		above, q, child := quietEvent(), quietEvent(), quietEvent()
		above.RegisterQuitCloser(q, quit.Name("q"))
		unregister := q.RegisterQuitCloser(child)
		q.RegisterCloser(closerFunc(func() error { return errors.New("another") }))
		child.Fail(errors.New("lost"))
		unregister()
		err := fmt.Sprint(above.Shutdown(context.Background()))
		if strings.Count(err, "lost") != 1 || strings.Count(err, "another") != 1 {
			t.Errorf("Shutdown() = %q, want both failures once", err)
		}
	})
}

// TestFailureOfUnregisteredAtOnce unregisters an event as soon as its failure
// has fired the parent. Many contexts depend on that of the parent, so the fire
// takes long. The failure is in the result.
func TestFailureOfUnregisteredAtOnce(t *testing.T) {
	q, child := quietEvent(), quietEvent()
	unregister := q.RegisterQuitCloser(child)
	for range 100_000 {
		_, cancel := context.WithCancel(q.Context())
		defer cancel()
	}
	failure := errors.New("lost")
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { child.Fail(failure) })
	<-q.Done()
	unregister()
	if err := q.Shutdown(t.Context()); err != failure {
		t.Errorf("Shutdown() = %v, want %v", err, failure)
	}
}

// TestFailureBesideBlocking makes an event fail whose parent has a closer that
// returns an error with an Unwrap method that blocks. Both failures are in the
// result, within the time of the shutdown.
func TestFailureBesideBlocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		defer close(block)
		q, child := quietEvent(), quietEvent()
		unregister := q.RegisterQuitCloser(child)
		calls := 1 // the first call blocks
		blocking := unwrapper{&calls, func() { <-block }}
		q.RegisterCloser(closerFunc(func() error { return blocking }))
		child.Fail(errors.New("cause"))
		unregister() // the failure is the cause all the same
		result := make(chan error, 1)
		go func() { result <- q.Shutdown(context.Background()) }()
		synctest.Wait()
		select {
		case err := <-result:
			for _, want := range []string{"lost", "cause"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Shutdown() = %q, without %q", err, want)
				}
			}
		default:
			t.Error("Shutdown waits for Unwrap")
		}
	})
}

// TestFailureInRing makes an event fail that forms a ring with two others. One
// of the others is registered twice, and with itself.
func TestFailureInRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := quietEvent(), quietEvent(), quietEvent()
		a.RegisterQuitCloser(b)
		b.RegisterQuitCloser(c)
		b.RegisterQuitCloser(c)
		c.RegisterQuitCloser(a)
		c.RegisterQuitCloser(c)
		failure := errors.New("lost")
		start := time.Now()
		b.Fail(failure)
		for _, q := range []*quit.QuitEvent{a, b, c} {
			if q.Cause() != failure {
				t.Errorf("Cause() = %v, want %v", q.Cause(), failure)
			}
		}
		err := a.Shutdown(context.Background())
		if !errors.Is(err, failure) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Shutdown() = %v, want one line with %v", err, failure)
		}
		if err := b.Shutdown(context.Background()); err != failure {
			t.Errorf("Shutdown() = %v, want %v", err, failure)
		}
		// From c, b is reached only through a, for which c could not wait.
		if err := c.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("a ring took %v, want none", took)
		}
	})
}

// TestFailureOfMany makes goroutines of many children fail at once, while
// children are registered and unregistered. One failure fires the parent. It is
// in the parent's result even if that child is unregistered after that, and so
// are the failures of all children that stay.
func TestFailureOfMany(t *testing.T) {
	q := quietEvent()
	const n = 50
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			child := quietEvent()
			child.Go(func(context.Context) error { return fmt.Errorf("failure %02d", i) })
			unregister := q.RegisterQuitCloser(child)
			if i%2 == 0 {
				unregister()
			}
		})
	}
	wg.Wait()
	<-q.Done()
	cause := fmt.Sprint(q.Cause())
	if !strings.HasPrefix(cause, "failure ") {
		t.Errorf("Cause() = %v, want the failure of a child", cause)
	}
	text := fmt.Sprint(q.Shutdown(t.Context()))
	for i := range n {
		failure, want := fmt.Sprintf("failure %02d", i), i%2
		if failure == cause {
			want = 1
		}
		if got := strings.Count(text, failure); got != want {
			t.Errorf("%s is there %d times, want %d; the cause is %s", failure, got, want, cause)
		}
	}
}

// TestFailureWhileParentEnds makes a child fail while its parent shuts it down.
// Either the results of both have the failure, or neither has it.
func TestFailureWhileParentEnds(t *testing.T) {
	for range 100 {
		q, child := quietEvent(), quietEvent()
		failure := errors.New("failure")
		q.RegisterQuitCloser(child, quit.Ignore(errors.New("another")))
		var wg sync.WaitGroup
		wg.Go(func() { child.Fail(failure) })
		wg.Go(q.GracefulStop)
		wg.Wait()
		err, inner := q.Shutdown(t.Context()), child.Shutdown(t.Context())
		if errors.Is(err, failure) != errors.Is(inner, failure) {
			t.Errorf("Shutdown() = %v, and that of the child %v", err, inner)
		}
	}
}

// TestChildHangs makes six closers of a child hang. The result of the parent
// has all six failures. The parent's own limit for the child does not hide
// them.
func TestChildHangs(t *testing.T) {
	const closers = 6
	check := func(t *testing.T, q *quit.QuitEvent, err error) {
		t.Helper()
		text := fmt.Sprint(err)
		if n := strings.Count(text, "\n") + 1; n != closers ||
			strings.Count(text, ": abandoned after ") != closers {
			t.Errorf("Shutdown() = %v, want %d abandoned closers", err, closers)
		}
		if n := strings.Count(text, "quit: "); n != closers {
			t.Errorf("Shutdown() has the prefix %d times, want %d: %v", n, closers, err)
		}
		for i := range closers {
			if !strings.Contains(text, fmt.Sprintf(": hung%d (quit/nested_test.go:", i)) {
				t.Errorf("Shutdown() does not have closer %d: %v", i, err)
			}
		}
		if s := q.Report().Steps[0]; s.Abandoned || len(s.Steps) != closers+1 {
			t.Errorf("the step of the child: abandoned %v, %d steps in it, want %d",
				s.Abandoned, len(s.Steps), closers+1)
		}
	}
	hangs := func(hang chan struct{}) *quit.QuitEvent {
		child := quietEvent()
		for i := range closers {
			child.RegisterStopFunc(func() { <-hang }, quit.Name(fmt.Sprint("hung", i)))
		}
		return child
	}
	for _, timeout := range []time.Duration{
		10 * time.Millisecond,
		10 * time.Second,
		1000 * time.Hour,
	} {
		t.Run(timeout.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				defer close(hang)
				q := quietEvent()
				q.Timeout = timeout
				q.RegisterQuitCloser(hangs(hang))
				start := time.Now()
				check(t, q, q.Shutdown(context.Background()))
				if took := time.Since(start); took > timeout {
					t.Errorf("the shutdown took %v, want %v at most", took, timeout)
				}
			})
		})
	}
	t.Run("real time", func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		q, child := quietEvent(), hangs(hang)
		child.Timeout = 50 * time.Millisecond // a limit that a slow machine does not break
		q.RegisterQuitCloser(child)
		check(t, q, q.Shutdown(context.Background()))
	})
}

// TestChildIsSlow shuts a child down before its parent does, and with more time
// than the parent has. It ends after the share of its step and before the step
// is abandoned. Its failure is in the result, but no failure of the step.
func TestChildIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		q, child := quietEvent(), quietEvent()
		q.Timeout, child.Timeout = 10*time.Second, 9*time.Second // shares of 7.2s and 6.48s
		child.RegisterStopFunc(func() { <-hang }, quit.Name("hung"))
		q.RegisterQuitCloser(child, quit.Name("child"))
		go child.GracefulStop()
		synctest.Wait()
		err := q.Shutdown(context.Background())
		want := "quit: child (quit/nested_test.go:LINE): hung (quit/nested_test.go:LINE): " +
			"abandoned after 7.29s: context deadline exceeded"
		if got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE"); got != want {
			t.Errorf("Shutdown() = %q, want %q", got, want)
		}
	})
}

// TestChildOfAnotherShutdown checks that an event is abandoned if another call
// shuts it down, with more time than its parent gives. It has no overtime.
func TestChildOfAnotherShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, child := quietEvent(), quietEvent()
		parent.Timeout, child.Timeout = 10*time.Second, time.Minute
		release := make(chan struct{})
		child.RegisterStopFunc(func() { <-release })
		parent.RegisterQuitCloser(child)
		go child.GracefulStop() // ends after the release
		synctest.Wait()
		start := time.Now()
		err := parent.Shutdown(t.Context())
		took := time.Since(start)
		if took != 8100*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v after %v, want the event to be abandoned", err, took)
		}
		close(release)
		child.GracefulStop()
	})
}

// TestChildOfTwoParents shuts two parents of an event down at the same time.
// The one that comes second has less time. It abandons the event, which ends
// within the time of the other.
func TestChildOfTwoParents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second, child := quietEvent(), quietEvent(), quietEvent()
		first.Timeout, second.Timeout = time.Minute, 10*time.Second
		child.RegisterStopFunc(func() { time.Sleep(20 * time.Second) })
		first.RegisterQuitCloser(child)
		second.RegisterQuitCloser(child)
		all := make(chan error, 1)
		go func() { all <- first.Shutdown(context.Background()) }()
		synctest.Wait()
		start := time.Now()
		err := second.Shutdown(context.Background())
		took := time.Since(start)
		if took > second.Timeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() of the second = %v after %v, want the event to be abandoned",
				err, took)
		}
		if err := <-all; err != nil {
			t.Errorf("Shutdown() of the first = %v, want nil", err)
		}
	})
}

// TestLateChildLogs registers an event after the end of its parent's shutdown.
// No other shutdown waits for the event's log, so its own does.
func TestLateChildLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent := quietEvent()
		parent.GracefulStop()
		var logged []string
		child := eventWith(func(r slog.Record) {
			time.Sleep(100 * time.Millisecond)
			logged = append(logged, r.Message)
		})
		parent.RegisterQuitCloser(child)
		if n := len(logged); n == 0 || logged[n-1] != "quit: stopped" {
			t.Errorf("when the registration returns, %q is logged, want the end too", logged)
		}
		synctest.Wait()
	})
}

// TestLogOfEventOfCloser makes a closer shut an event down with its context.
// The shutdown of the closer waits for the log of that event too.
func TestLogOfEventOfCloser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged journal
		q, other := quietEvent(), eventWith(func(r slog.Record) {
			time.Sleep(100 * time.Millisecond)
			logged.add(r.Message)
		})
		q.RegisterQuitCloser(quit.ShutdownFunc(other.Shutdown))
		q.GracefulStop()
		if got := logged.all(); !slices.Contains(got, "quit: stopped") {
			t.Errorf("at the end, %q is logged, want the end of the event too", got)
		}
	})
}

// TestChildGoesOn uses an event that does not end, since each of its closers
// registers the next one. Its parent does not wait for it beyond the deadline,
// even if closers of its own hang before and after it.
func TestChildGoesOn(t *testing.T) {
	for _, test := range []struct {
		hang          bool
		before, after int
	}{
		{}, {hang: true}, {after: 1}, {before: 1}, {before: 1, after: 1},
		{before: 4}, {before: 4, after: 1}, {hang: true, before: 4, after: 1},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, child := quietEvent(), quietEvent()
				parent.Timeout = 10 * time.Second
				n := 0
				release := make(chan struct{})
				var retry quit.ShutdownFunc
				retry = func(ctx context.Context) error {
					if n++; n == 200 {
						return nil
					}
					time.Sleep(100 * time.Millisecond)
					if test.hang {
						<-ctx.Done()
					}
					child.RegisterQuitCloser(retry)
					if test.hang {
						<-release
					}
					return nil
				}
				child.RegisterQuitCloser(retry)
				parent.RegisterQuitCloser(child)
				for range test.before {
					parent.RegisterStopFunc(func() { <-release })
				}
				for range test.after {
					parent.RegisterStopFunc(func() { <-release }, quit.AfterDrain())
				}
				start := time.Now()
				err := parent.Shutdown(context.Background())
				if took := time.Since(start); took > parent.Timeout {
					t.Errorf("Shutdown() took %v, want %v at most (an error: %v)",
						took, parent.Timeout, err != nil)
				}
				close(release)
				child.GracefulStop()
				time.Sleep(24 * time.Hour) // for closers that were abandoned
			})
		})
	}
}

// TestAbandonedChildCallsParent makes a closer of an event call the shutdown of
// the parent after the parent has abandoned the event. The end of the parent
// waits for the event nonetheless, so the call does not wait.
func TestAbandonedChildCallsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, child := quietEvent(), quietEvent()
		parent.Timeout = 10 * time.Second
		start := time.Now()
		var again func()
		again = func() {
			time.Sleep(100 * time.Millisecond)
			if age := time.Since(start); age < 9*time.Second {
				child.RegisterStopFunc(again)
				return
			}
			if !parent.Report().Steps[0].Abandoned {
				t.Errorf("the event is not abandoned")
			}
			before := time.Now()
			parent.GracefulStop()
			if took := time.Since(before); took != 0 {
				t.Errorf("the call took %v, want none", took)
			}
		}
		child.RegisterStopFunc(again)
		parent.RegisterQuitCloser(child)
		parent.GracefulStop()
		if took := time.Since(start); took != 9*time.Second || !child.HasEnded() {
			t.Errorf("GracefulStop took %v, want 9s, the time until the end of the event", took)
		}
		synctest.Wait()
		if n := parent.Waits() + child.Waits(); n != 0 {
			t.Errorf("%d waits are noted after the end, want none", n)
		}
	})
}

// TestDeepChain nests events, and makes the innermost one fail.
func TestDeepChain(t *testing.T) {
	const depth = 1000
	top, leaf := chain(depth, func(q *quit.QuitEvent) { q.Timeout = -1 })
	failure := errors.New("lost")
	leaf.RegisterCloser(closerFunc(func() error { return failure }), quit.Name("leaf"))
	err := top.Shutdown(t.Context())
	text := fmt.Sprint(err)
	if !errors.Is(err, failure) || strings.Contains(text, "\n") ||
		!strings.HasSuffix(text, ": lost") {
		end := text[max(0, len(text)-100):]
		t.Errorf("Shutdown() has %d lines and ends with %q", strings.Count(text, "\n")+1, end)
	}
	if n := strings.Count(text, "quit/nested_test.go:"); n != depth {
		t.Errorf("Shutdown() names %d events, want %d", n, depth)
	}
	if n := strings.Count(text, "quit: "); n != 1 {
		t.Errorf("Shutdown() has the prefix %d times, want once", n)
	}
}

// chain returns the ends of a chain of events, each registered with the
// previous one.
func chain(depth int, each func(*quit.QuitEvent)) (top, leaf *quit.QuitEvent) {
	top = quietEvent()
	each(top)
	leaf = top
	for range depth - 1 {
		inner := quietEvent()
		each(inner)
		leaf.RegisterQuitCloser(inner)
		leaf = inner
	}
	return top, leaf
}

// TestVeryDeepChain shuts down a long chain. Without a limit, all events end in
// order. With one, the innermost events have little time left, but each closer
// is called.
func TestVeryDeepChain(t *testing.T) {
	for _, test := range []struct {
		timeout time.Duration
		depth   int
	}{
		{timeout: -1, depth: 100_000},
		{timeout: 0, depth: 10_000},
		{timeout: 1, depth: 10_000},
	} {
		t.Run(test.timeout.String(), func(t *testing.T) {
			depth := test.depth
			if testing.Short() || quit.UnderRace {
				depth /= 20
			}
			var called atomic.Int32
			all := make(chan struct{})
			top, _ := chain(depth, func(q *quit.QuitEvent) {
				q.Timeout = test.timeout
				q.RegisterStopFunc(func() {
					if n := int(called.Add(1)); n == depth {
						close(all)
					}
				})
			})
			err := top.Shutdown(context.Background())
			if test.timeout < 0 && (err != nil || !isClosed(all)) {
				t.Errorf("Shutdown() = %.200v after %d closers, want nil after %d",
					err, called.Load(), depth)
			}
			<-all // closers of abandoned events may be called later
		})
	}
}

// TestBlockedLogOfChildren uses a log handler that blocks, and children with
// nothing to do between the closers of the parent. They take none of its time.
// Only the end of the parent waits for the log.
func TestBlockedLogOfChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perCloser = 20 * time.Millisecond
		hang := make(chan struct{})
		event := func() *quit.QuitEvent { return eventWith(func(slog.Record) { <-hang }) }
		q := event()
		q.Timeout = 5 * time.Second
		start := time.Now()
		var j journal
		var want []string
		for i := range 3 {
			name := fmt.Sprint("closer ", 2-i)
			q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
				end, _ := ctx.Deadline()
				j.add(fmt.Sprintf("%s at %v until %v", name, time.Since(start), end.Sub(start)))
				time.Sleep(perCloser)
				return nil
			}), quit.Name(name))
			q.RegisterQuitCloser(event(), quit.Name(fmt.Sprint("child ", 2-i)))
			at := time.Duration(i) * perCloser
			want = append(want, fmt.Sprintf("closer %d at %v until %v",
				i, at, at+(4500*time.Millisecond-at)/5*4))
		}
		if err := q.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
		// A twentieth of the reserve of 500 ms is left for the caller.
		if took := time.Since(start); took != 4975*time.Millisecond {
			t.Errorf("the shutdown took %v, want 4.975s", took)
		}
		j.want(t, want...)
		for i, s := range q.Report().Steps[:6] {
			name, took := fmt.Sprint("child ", i/2), time.Duration(0)
			if i%2 == 1 {
				name, took = fmt.Sprint("closer ", i/2), perCloser
			}
			if got := s.End.Sub(s.Start); s.Name != name || got != took || s.Err != nil {
				t.Errorf("step %d is %s, took %v and has failed with %v; want %s, %v and nil",
					i, s.Name, got, s.Err, name, took)
			}
		}
		close(hang)
	})
}

// TestFailureThatCameUp makes a child fail, so that its parent fires with the
// same cause. The parent's result has the cause once, even if the step of the
// child does not have it.
func TestFailureThatCameUp(t *testing.T) {
	for _, test := range []struct {
		name  string
		then  func(child *quit.QuitEvent, unregister func() bool)
		lines int
	}{
		{name: "registered still", then: func(*quit.QuitEvent, func() bool) {}, lines: 1},
		{
			name:  "unregistered",
			then:  func(_ *quit.QuitEvent, unregister func() bool) { unregister() },
			lines: 1,
		},
		{
			name: "abandoned", // since it has more time than its parent
			then: func(child *quit.QuitEvent, _ func() bool) {
				go child.GracefulStop()
				synctest.Wait()
			},
			lines: 2,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				top, q, child := quietEvent(), quietEvent(), quietEvent()
				q.Timeout = time.Second
				top.RegisterQuitCloser(q)
				unregister := q.RegisterQuitCloser(child, quit.Name("child"))
				hang := make(chan struct{})
				defer close(hang)
				if test.lines > 1 {
					child.RegisterStopFunc(func() { <-hang })
				}
				failure := errors.New("lost")
				child.Fail(failure)
				test.then(child, unregister)
				for _, up := range []*quit.QuitEvent{q, top} {
					if up.Cause() != failure {
						t.Errorf("Cause() = %v, want %v", up.Cause(), failure)
					}
					err := up.Shutdown(context.Background())
					text := fmt.Sprint(err)
					if !errors.Is(err, failure) || strings.Count(text, "lost") != 1 ||
						len(strings.Split(text, "\n")) != test.lines {
						t.Errorf("Shutdown() = %v, want %d lines with the cause once",
							err, test.lines)
					}
				}
			})
		})
	}
}

// TestFailureOfLateReturn makes a child fail whose step is abandoned, and then
// returns before its parent ends. The parent's result has the failure once.
func TestFailureOfLateReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child := quietEvent(), quietEvent()
		q.Timeout, child.Timeout = 20*time.Second, time.Minute
		child.RegisterStopFunc(func() { time.Sleep(18 * time.Second) })
		q.RegisterStopFunc(func() { time.Sleep(1200 * time.Millisecond) })
		q.RegisterQuitCloser(child, quit.Name("child")) // abandoned after 17.1s
		failure := errors.New("lost")
		child.Fail(failure)
		go child.GracefulStop()
		synctest.Wait()
		err := q.Shutdown(context.Background())
		text := fmt.Sprint(err)
		if !errors.Is(err, failure) || strings.Count(text, "lost") != 1 ||
			len(strings.Split(text, "\n")) != 2 {
			t.Errorf("Shutdown() = %v, want 2 lines with the failure once", err)
		}
	})
}

// TestFailureOfChildThatWaits makes a child fail that waits for its parent. The
// parent cannot wait for the child, but has the failure in its result. The
// events above the parent have it too, once.
func TestFailureOfChildThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top, q, child := quietEvent(), quietEvent(), quietEvent()
		q.Delay = time.Second // so that the child waits first
		child.RegisterStopFunc(q.GracefulStop)
		q.RegisterQuitCloser(child)
		top.RegisterQuitCloser(q)
		failure := errors.New("lost")
		child.Fail(failure)
		go child.GracefulStop()
		for _, up := range []*quit.QuitEvent{top, q} {
			err := up.Shutdown(context.Background())
			if !errors.Is(err, failure) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Shutdown() = %v, want one line with the failure", err)
			}
		}
		synctest.Wait()
	})
}

// TestFailureOfChildThatShutsDown makes a child fail that shuts its parent
// down, as a step of its own. Either of them may wait for the other. The
// parent's result has the failure in any case.
func TestFailureOfChildThatShutsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child := quietEvent(), quietEvent()
		child.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			q.Shutdown(ctx)
			return nil
		}))
		q.RegisterQuitCloser(child)
		failure := errors.New("lost")
		child.Fail(failure)
		if err := child.Shutdown(context.Background()); err != failure {
			t.Errorf("Shutdown() = %v, want %v", err, failure)
		}
		err := q.Shutdown(context.Background())
		if !errors.Is(err, failure) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Shutdown() of the parent = %v, want one line with the failure", err)
		}
	})
}

// TestFailureOfChildThatEndsLast makes a child fail whose step is abandoned.
// The child ends while the end of its parent waits for it. The parent's result
// has the failure once.
func TestFailureOfChildThatEndsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child := quietEvent(), quietEvent()
		q.Timeout = 10 * time.Second
		start := time.Now()
		var again func()
		again = func() {
			time.Sleep(100 * time.Millisecond)
			if time.Since(start) < 9*time.Second {
				child.RegisterStopFunc(again)
			}
		}
		child.RegisterStopFunc(again)
		q.RegisterQuitCloser(child)
		failure := errors.New("lost")
		child.Fail(failure)
		text := fmt.Sprint(q.Shutdown(context.Background()))
		if !child.HasEnded() || !q.Report().Steps[0].Abandoned {
			t.Error("the child was not abandoned, or has not ended")
		}
		if strings.Count(text, "lost") != 1 {
			t.Errorf("Shutdown() = %s, want the failure once", text)
		}
	})
}

// TestIgnoredFailureStaysDown makes a parent ignore an error of its child. That
// error fires neither the parent nor the events above it. Other errors do.
func TestIgnoredFailureStaysDown(t *testing.T) {
	ignored, lost := errors.New("ignored"), errors.New("lost")
	for _, test := range []struct {
		name string
		err  error
		opt  quit.Option
		up   bool // whether it goes up
	}{
		{name: "itself", err: ignored, opt: quit.Ignore(ignored)},
		{name: "wrapped", err: fmt.Errorf("w: %w", ignored), opt: quit.Ignore(ignored)},
		{
			name: "by a func",
			err:  ignored,
			opt:  quit.IgnoreFunc(func(err error) bool { return err == ignored }),
		},
		{name: "another", err: lost, opt: quit.Ignore(ignored), up: true},
		{
			name: "another too",
			err:  errors.Join(ignored, lost),
			opt:  quit.Ignore(ignored),
			up:   true,
		},
		{
			name: "Goexit in a func",
			err:  lost,
			opt:  quit.IgnoreFunc(func(error) bool { runtime.Goexit(); return true }),
			up:   true,
		},
		{
			name: "a panic",
			err:  &quit.PanicError{Value: ignored},
			opt:  quit.Ignore(ignored),
			up:   true,
		},
	} {
		for when, fail := range map[string]func(q, child *quit.QuitEvent){
			"after the registration": func(q, child *quit.QuitEvent) {
				q.RegisterQuitCloser(child, test.opt)
				child.Fail(test.err)
			},
			"before the registration": func(q, child *quit.QuitEvent) {
				child.Fail(test.err)
				q.RegisterQuitCloser(child, test.opt)
			},
			"in the innermost": func(q, child *quit.QuitEvent) {
				leaf := quietEvent()
				child.RegisterQuitCloser(leaf)
				q.RegisterQuitCloser(child, test.opt)
				leaf.Fail(test.err)
			},
		} {
			inBubble := func(t *testing.T) {
				top, q, child := quietEvent(), quietEvent(), quietEvent()
				top.RegisterQuitCloser(q)
				fail(q, child)
				synctest.Wait() // for the goroutine that calls the Ignore options
				if !child.HasFired() || q.HasFired() != test.up || top.HasFired() != test.up {
					t.Errorf("HasFired() = %v, above %v and %v, want true, %v and %v",
						child.HasFired(), q.HasFired(), top.HasFired(), test.up, test.up)
				}
				err := top.Shutdown(t.Context())
				if (err != nil) != test.up || errors.Is(test.err, lost) != errors.Is(err, lost) {
					t.Errorf("Shutdown() = %v, want a failure: %v", err, test.up)
				}
			}
			t.Run(test.name+"/"+when, func(t *testing.T) { synctest.Test(t, inBubble) })
		}
	}
}

// TestParentsRace registers and unregisters an event in many goroutines while
// its failure goes up.
func TestParentsRace(t *testing.T) {
	for range 20 {
		child := quietEvent()
		parents := [4]*quit.QuitEvent{}
		var wg sync.WaitGroup
		for i := range parents {
			parents[i] = quietEvent()
			wg.Go(func() {
				parents[i].RegisterQuitCloser(child)
				for range 500 {
					unregister := parents[i].RegisterQuitCloser(child)
					if !unregister() || unregister() {
						t.Error("unregister does not take the child out once")
					}
				}
			})
		}
		failure := errors.New("failure")
		wg.Go(func() { child.Fail(failure) })
		wg.Wait()
		for i, q := range parents {
			if q.Cause() != failure {
				t.Errorf("the cause of parent %d is %v, want %v", i, q.Cause(), failure)
			}
			q.GracefulStop()
		}
	}
}
