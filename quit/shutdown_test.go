package quit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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

func TestOrder(t *testing.T) {
	q := quietEvent()
	var j journal
	say := func(s string) func() { return func() { j.add(s) } }
	q.RegisterStopFunc(say("1 stop"))
	q.RegisterCloser(closerFunc(func() error { j.add("2 closer"); return nil }))
	q.RegisterStopFunc(say("a1"), quit.AfterDrain())
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error { j.add("3 quit"); return nil }))
	q.RegisterStopFunc(say("4 stop"))
	q.RegisterCloser(closerFunc(func() error { j.add("a2"); return nil }), quit.AfterDrain())
	q.AddGoroutine()
	go func() {
		defer q.DoneGoroutine()
		<-q.Done()
		for len(j.all()) < 4 {
			runtime.Gosched() // the drain comes after all closers
		}
		j.add("goroutine")
	}()
	if err := q.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	j.want(t, "4 stop", "3 quit", "2 closer", "1 stop", "goroutine", "a2", "a1")
}

// TestNextAfterReturn has each closer check that none other runs.
func TestNextAfterReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		running := 0 // a race, if two of them ever run at once
		for range 20 {
			q.RegisterStopFunc(func() {
				running++
				time.Sleep(time.Millisecond)
				if running != 1 {
					t.Errorf("%d closers run at once", running)
				}
				running--
			})
		}
		q.GracefulStop()
	})
}

func TestUnregister(t *testing.T) {
	q := quietEvent()
	var j journal
	var unregister []func() bool
	for i := range 6 {
		unregister = append(unregister, q.RegisterStopFunc(func() { j.add(fmt.Sprint(i)) }))
	}
	for _, i := range []int{5, 0, 2} { // the last, the first, one in the middle
		if !unregister[i]() {
			t.Errorf("unregister %d = false, want true", i)
		}
		if unregister[i]() {
			t.Errorf("unregister %d = true the second time, want false", i)
		}
	}
	q.RegisterStopFunc(func() {
		if unregister[4]() != true {
			t.Error("unregister in a closer, of one yet to be called, = false, want true")
		}
	})
	q.GracefulStop()
	j.want(t, "3", "1")
	if unregister[1]() {
		t.Error("unregister after the call = true, want false")
	}
}

// TestUnregisterRace has unregister and the shutdown compete for each closer:
// exactly one of them gets it.
func TestUnregisterRace(t *testing.T) {
	for range 100 {
		q := quietEvent()
		const n = 50
		var called [n]atomic.Int32
		var taken [n]bool
		var unregister [n]func() bool
		for i := range n {
			unregister[i] = q.RegisterStopFunc(func() { called[i].Add(1) })
		}
		var wg sync.WaitGroup
		wg.Go(q.GracefulStop)
		wg.Go(func() {
			for i := range n {
				taken[i] = unregister[i]()
			}
		})
		wg.Wait()
		for i := range n {
			if c := called[i].Load(); c > 1 || (c == 1) == taken[i] {
				t.Fatalf("closer %d was called %d times, unregister reported %v", i, c, taken[i])
			}
		}
	}
}

// TestOnceEach has every kind of misbehaviour around each closer, many
// callers, and closers registered all the while.
func TestOnceEach(t *testing.T) {
	for _, concurrent := range []bool{false, true} {
		t.Run(fmt.Sprintf("Concurrent=%v", concurrent), func(t *testing.T) {
			for range 20 {
				q := quietEvent()
				q.Concurrent = concurrent
				hang := make(chan struct{})
				var calls sync.Map // int to *atomic.Int32
				var n, called atomic.Int32
				var register func(depth int)
				register = func(depth int) {
					c := new(atomic.Int32)
					calls.Store(n.Add(1), c)
					behave := rand.IntN(6)
					var opts []quit.Option
					if rand.IntN(2) == 0 {
						opts = append(opts, quit.AfterDrain())
					}
					if behave == 0 {
						opts = append(opts, quit.Timeout(time.Millisecond))
					}
					q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
						c.Add(1)
						called.Add(1)
						if depth > 0 {
							register(depth - 1)
						}
						switch behave {
						case 0:
							<-hang
						case 1:
							panic("panic")
						case 2:
							runtime.Goexit()
						case 3:
							return errors.New("failed")
						case 4:
							q.GracefulStop()
						}
						return nil
					}), opts...)
				}
				for range 20 {
					register(2)
				}
				var wg sync.WaitGroup
				results := make([]error, 50)
				for i := range results {
					wg.Go(func() {
						if i%10 == 0 {
							register(1)
						}
						results[i] = q.Shutdown(context.Background())
						if i%10 == 1 {
							register(1) // after the end: called at once
						}
					})
				}
				wg.Wait()
				for i, err := range results {
					if err != results[0] {
						t.Fatalf("caller %d got %v, caller 0 got %v", i, err, results[0])
					}
				}
				// One that was abandoned may only now come to count itself, or to
				// register another: wait for them, and then look for a call too many.
				const all = 20*3 + 10*2
				for end := time.Now().Add(time.Minute); called.Load() < all && time.Now().Before(end); {
					runtime.Gosched()
				}
				if got := called.Load(); got != all {
					t.Errorf("%d calls, want %d", got, all)
				}
				calls.Range(func(id, c any) bool {
					if got := c.(*atomic.Int32).Load(); got != 1 {
						t.Errorf("closer %d was called %d times, want 1", id, got)
					}
					return true
				})
				close(hang)
				if t.Failed() {
					return
				}
			}
		})
	}
}

func TestRegisterDuringShutdown(t *testing.T) {
	q := quietEvent()
	var j journal
	say := func(s string) func() { return func() { j.add(s) } }
	q.RegisterStopFunc(func() {
		j.add("a1")
		q.RegisterStopFunc(say("late for its phase"))
		q.RegisterStopFunc(say("a3"), quit.AfterDrain())
	}, quit.AfterDrain())
	q.RegisterStopFunc(say("a0, registered between"), quit.AfterDrain())
	q.RegisterStopFunc(say("1"))
	q.RegisterStopFunc(func() {
		j.add("2")
		q.RegisterStopFunc(say("3"))
		q.RegisterStopFunc(say("a2"), quit.AfterDrain())
	})
	q.GracefulStop()
	j.want(t, "2", "3", "1", "a2", "a0, registered between", "a1", "late for its phase", "a3")
}

func TestRegisterDuringDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		var j journal
		q.RegisterStopFunc(func() { j.add("a1") }, quit.AfterDrain())
		q.AddGoroutine()
		go q.GracefulStop()
		synctest.Wait()
		q.RegisterStopFunc(func() { j.add("late") })
		synctest.Wait()
		j.want(t) // the drain goes on
		q.DoneGoroutine()
		q.GracefulStop()
		j.want(t, "late", "a1")
	})
}

func TestRegisterAfterEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		q.Timeout = 10 * time.Second
		q.GracefulStop()
		time.Sleep(time.Minute) // the event's own deadline has passed
		var share time.Duration
		unregister := q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			end, _ := ctx.Deadline()
			share = time.Until(end)
			if err := q.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown() in a late closer = %v", err)
			}
			return errors.New("late failure")
		}))
		if share != 8*time.Second {
			t.Errorf("the share of a closer registered after the end = %v, want 8s", share)
		}
		if unregister() {
			t.Error("unregister = true, want false: it was called")
		}
		synctest.Wait()
		if !strings.Contains(logged(), "late failure") {
			t.Errorf("the late failure is not logged:\n%s", logged())
		}
		if err := q.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown() = %v after the end, want the nil it was", err)
		}
		q.Fail(errors.New("later failure"))
		synctest.Wait()
		if !strings.Contains(logged(), "later failure") {
			t.Errorf("a failure after the end is not logged:\n%s", logged())
		}

		start := time.Now()
		hang := make(chan struct{})
		q.RegisterStopFunc(func() { <-hang })
		if took := time.Since(start); took != 9*time.Second {
			t.Errorf("a late closer that hangs held up Register for %v, want 9s", took)
		}
		close(hang)
	})
}

// share is what a closer saw of its time.
type share struct {
	start, end time.Duration // since the start of the shutdown; end of its context
	live       bool
	forever    bool
}

// TestShares has closers that hang, and looks at what the next ones are left with.
func TestShares(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	for _, test := range []struct {
		name    string
		timeout time.Duration
		ctx     time.Duration // deadline of the caller's context, if not 0
		opts    []quit.Option
		want    []share // of closers that hang, one after the other
		took    time.Duration
	}{
		// A reserve of a tenth, or 1s, is kept back. A step has 4/5 of the rest, and an eighth of that until it is abandoned.
		{name: "default", want: []share{{0, 19200 * ms, true, false}, {21600 * ms, 23520 * ms, true, false}}, took: 23760 * ms},
		{name: "Timeout", timeout: 10 * s, want: []share{{0, 7200 * ms, true, false}, {8100 * ms, 8820 * ms, true, false}}, took: 8910 * ms},
		{name: "ctx alone", ctx: 100 * s, want: []share{{0, 79200 * ms, true, false}, {89100 * ms, 97020 * ms, true, false}}, took: 98010 * ms},
		{name: "ctx earlier", timeout: 100 * s, ctx: 10 * s, want: []share{{0, 7200 * ms, true, false}, {8100 * ms, 8820 * ms, true, false}}, took: 8910 * ms},
		{name: "ctx later", timeout: 10 * s, ctx: 100 * s, want: []share{{0, 7200 * ms, true, false}, {8100 * ms, 8820 * ms, true, false}}, took: 8910 * ms},
		{name: "no limit but ctx", timeout: -1, ctx: 10 * s, want: []share{{0, 7200 * ms, true, false}, {8100 * ms, 8820 * ms, true, false}}, took: 8910 * ms},
		{name: "a reserve of a tenth", timeout: s, want: []share{{0, 720 * ms, true, false}, {810 * ms, 882 * ms, true, false}}, took: 891 * ms},
		{name: "own Timeout", timeout: 10 * s, opts: []quit.Option{quit.Timeout(8 * ms)}, want: []share{{0, 8 * ms, true, false}, {9 * ms, 17 * ms, true, false}}, took: 18 * ms},
		{name: "own Timeout, no limit", timeout: -1, opts: []quit.Option{quit.Timeout(8 * s)}, want: []share{{0, 8 * s, true, false}, {9 * s, 17 * s, true, false}}, took: 18 * s},
		{name: "own Timeout longer", timeout: 10 * s, opts: []quit.Option{quit.Timeout(time.Hour)}, want: []share{{0, 7200 * ms, true, false}, {8100 * ms, 8820 * ms, true, false}}, took: 8910 * ms},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quietEvent()
				q.Timeout = test.timeout
				hang := make(chan struct{})
				defer close(hang)
				start := time.Now()
				var mu sync.Mutex
				var got []share
				for range test.want {
					q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
						end, ok := ctx.Deadline()
						mu.Lock()
						got = append(got, share{time.Since(start), end.Sub(start), ctx.Err() == nil, !ok})
						mu.Unlock()
						<-hang
						return nil
					}), test.opts...)
				}
				ctx := context.Background()
				if test.ctx > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.ctx)
					defer cancel()
				}
				err := q.Shutdown(ctx)
				if took := time.Since(start); took != test.took {
					t.Errorf("Shutdown took %v, want %v", took, test.took)
				}
				mu.Lock() // nothing is synchronized with the return of an abandoned closer
				defer mu.Unlock()
				if !slices.Equal(got, test.want) {
					t.Errorf("the closers were given %v, want %v", got, test.want)
				}
				if lines := strings.Count(fmt.Sprint(err), "abandoned after"); lines != len(test.want) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Shutdown() = %v, want %d abandoned steps", err, len(test.want))
				}
			})
		})
	}
}

func TestNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Timeout = -1
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			if end, ok := ctx.Deadline(); ok {
				t.Errorf("the context has the deadline %v, want none", end)
			}
			time.Sleep(100 * time.Hour)
			return ctx.Err()
		}))
		if err := q.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
	})
}

func TestExpiredContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		ctx, cancel := context.WithTimeout(context.Background(), -time.Second)
		defer cancel()
		var j journal
		returned := make(chan struct{})
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			j.add(fmt.Sprint("closer ", ctx.Err()))
			<-returned // else the end may come before the call looks at its ctx
			return nil
		}))
		if err := q.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("Shutdown(ctx) = %v, want %v", err, context.DeadlineExceeded)
		}
		close(returned)
		if err := q.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v, want nil: the closer returned", err)
		}
		j.want(t, "closer <nil>")
	})
}

type key struct{}

func TestCloserContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		called := make(chan struct{})
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			defer close(called)
			if got := ctx.Value(key{}); got != "value" {
				t.Errorf("ctx.Value = %v, want that of the context given to Shutdown", got)
			}
			time.Sleep(time.Second) // the caller's context is cancelled now
			if ctx.Err() != nil {
				t.Errorf("ctx.Err() = %v, want nil: the caller's cancellation is not the closer's", ctx.Err())
			}
			return nil
		}))
		ctx, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "value"))
		cancel()
		if err := q.Shutdown(ctx); err != context.Canceled {
			t.Errorf("Shutdown(ctx) = %v, want %v", err, context.Canceled)
		}
		<-called
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestDelay(t *testing.T) {
	for _, test := range []struct{ delay, before, want time.Duration }{
		{3 * time.Second, 0, 3 * time.Second},
		{3 * time.Second, time.Second, 3 * time.Second},     // it counts from the fire
		{3 * time.Second, 5 * time.Second, 5 * time.Second}, // and may be over by the shutdown
		{time.Hour, 0, 7200 * time.Millisecond},             // it is a step, with a share
	} {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			q.Timeout = 10 * time.Second
			q.Delay = test.delay
			start := time.Now()
			var called time.Duration
			q.RegisterStopFunc(func() { called = time.Since(start) })
			q.Fire()
			time.Sleep(test.before)
			if err := q.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if called != test.want {
				t.Errorf("Delay %v, shutdown %v after the fire: the closer was called after %v, want %v",
					test.delay, test.before, called, test.want)
			}
		})
	}
}

func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Concurrent = true
		q.Delay = time.Second
		start := time.Now()
		var j journal
		for range 5 {
			q.RegisterStopFunc(func() { time.Sleep(time.Second); j.add("closer") })
			q.RegisterStopFunc(func() { time.Sleep(time.Second); j.add("after drain") }, quit.AfterDrain())
		}
		q.RegisterStopFunc(func() {
			q.RegisterStopFunc(func() { time.Sleep(time.Second); j.add("closer") })
		})
		q.AddGoroutine()
		go func() {
			<-q.Done()
			time.Sleep(3 * time.Second)
			j.add("goroutine")
			q.DoneGoroutine()
		}()
		if err := q.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		want := slices.Concat(slices.Repeat([]string{"closer"}, 6), []string{"goroutine"}, slices.Repeat([]string{"after drain"}, 5))
		j.want(t, want...)
		// Delay, closers, the rest of the drain, AfterDrain: a second each.
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("the shutdown took %v, want 4s", took)
		}
	})
}

func TestConcurrentHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Concurrent = true
		q.Timeout = 10 * time.Second
		hang := make(chan struct{})
		for range 5 {
			q.RegisterStopFunc(func() { <-hang })
		}
		var drained bool
		q.RegisterStopFunc(func() { drained = true }, quit.AfterDrain())
		start := time.Now()
		err := q.Shutdown(context.Background())
		if took := time.Since(start); took != 8100*time.Millisecond {
			t.Errorf("five that hang at once took %v, want 8.1s", took)
		}
		if !drained {
			t.Error("the AfterDrain closer was not called")
		}
		if n := strings.Count(fmt.Sprint(err), "\n") + 1; n != 5 {
			t.Errorf("Shutdown() has %d lines, want 5: %v", n, err)
		}
		close(hang)
	})
}

func TestFiftyCallers(t *testing.T) {
	q := quietEvent()
	failure := errors.New("failure")
	q.RegisterCloser(closerFunc(func() error { return failure }))
	var wg sync.WaitGroup
	var errs [50]error
	for i := range errs {
		wg.Go(func() {
			switch i % 3 {
			case 0:
				q.GracefulStop()
				errs[i] = q.Shutdown(context.Background())
			case 1:
				errs[i] = q.Shutdown(context.Background())
			case 2:
				errs[i] = q.WaitSignal()
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err == nil || err != errs[0] || !errors.Is(err, failure) {
			t.Errorf("caller %d got %v, want %v", i, err, errs[0])
		}
	}
}

func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		var (
			failed, ignored = errors.New("it failed"), errors.New("never mind")
			cause, second   = errors.New("the cause"), errors.New("a second failure")
			inPanic         = errors.New("in a panic")
		)
		hang := make(chan struct{})
		defer close(hang)
		q.RegisterCloser(closerFunc(func() error { return failed }))
		q.RegisterCloser(closerFunc(func() error { return fmt.Errorf("wrapped: %w", ignored) }), quit.Ignore(errors.New("other")), quit.Ignore(ignored))
		q.RegisterStopFunc(func() { <-hang }, quit.Name("hung"))
		q.RegisterStopFunc(func() { panic(inPanic) }, quit.Name("panicky"))
		q.RegisterStopFunc(runtime.Goexit, quit.Name("goexit"))
		q.RegisterCloser(closerFunc(func() error { return errors.New("two\nlines") }), quit.Name("wordy"))
		q.RegisterStopFunc(func() {}, quit.Name("fine"))
		q.AddGoroutine()
		q.Fail(cause)
		q.Fail(second)
		err := q.Shutdown(context.Background())

		for _, want := range []error{failed, cause, second, inPanic, context.DeadlineExceeded} {
			if !errors.Is(err, want) {
				t.Errorf("errors.Is(err, %q) = false", want)
			}
		}
		if errors.Is(err, ignored) {
			t.Errorf("errors.Is(err, %q) = true, but it is ignored", ignored)
		}
		var p *quit.PanicError
		if !errors.As(err, &p) || p.Value != inPanic || !strings.Contains(string(p.Stack), "TestErrors") {
			t.Errorf("errors.As(*PanicError) = %+v", p)
		}
		// In the order in which they happened.
		wantLines := []string{
			"the cause",
			"a second failure",
			"quit: wordy (quit/shutdown_test.go:LINE): two",
			"quit: wordy (quit/shutdown_test.go:LINE): lines",
			"quit: goexit (quit/shutdown_test.go:LINE): called runtime.Goexit instead of returning",
			"quit: panicky (quit/shutdown_test.go:LINE): panic: in a panic",
			"quit: hung (quit/shutdown_test.go:LINE): abandoned after 21.6s: context deadline exceeded",
			"quit: quit_test.closerFunc (quit/shutdown_test.go:LINE): it failed",
			"quit: drain: 1 goroutine left after 1.92s: context deadline exceeded",
		}
		got := lineNumber.ReplaceAllString(err.Error(), "_test.go:LINE")
		if want := strings.Join(wantLines, "\n"); got != want {
			t.Errorf("Shutdown() =\n%s\nwant\n%s", got, want)
		}
	})
}

func TestOneFailureIsItself(t *testing.T) {
	q := quietEvent()
	failure := errors.New("failure")
	q.Fail(failure)
	if err := q.Shutdown(t.Context()); err != failure {
		t.Errorf("Shutdown() = %v, want the very error given to Fail", err)
	}
}

func TestSignalIsNoFailure(t *testing.T) {
	q := quietEvent()
	q.Fail(&quit.SignalError{Signal: someSignal{}})
	if err := q.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v, want nil", err)
	}
	var sig *quit.SignalError
	if !errors.As(q.Cause(), &sig) || !errors.Is(q.Cause(), context.Canceled) {
		t.Errorf("Cause() = %#v, want a *SignalError that is context.Canceled", q.Cause())
	}
}

type someSignal struct{}

func (someSignal) Signal()        {}
func (someSignal) String() string { return "some signal" }

func TestEscalation(t *testing.T) {
	closed := errors.New("while closing")
	for _, test := range []struct {
		name      string
		shutdown  func(ctx context.Context) error
		wantClose bool
	}{
		{"in time", func(context.Context) error { return nil }, false},
		{"failed in time", func(context.Context) error { return errors.New("failed") }, false},
		{"out of time", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, true},
		{"out of time, but nil", func(ctx context.Context) error { <-ctx.Done(); return nil }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quietEvent()
				calls := 0
				q.RegisterQuitCloser(&bothWays{test.shutdown, func() error { calls++; return closed }})
				err := q.Shutdown(context.Background())
				if (calls == 1) != test.wantClose || calls > 1 {
					t.Errorf("Close was called %d times, want it: %v", calls, test.wantClose)
				}
				if errors.Is(err, closed) != test.wantClose {
					t.Errorf("Shutdown() = %v, with the error of Close: want %v", err, test.wantClose)
				}
				if test.wantClose && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Shutdown() = %v, want the error of Shutdown too", err)
				}
			})
		})
	}
	t.Run("not of an io.Closer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			calls := 0
			q.RegisterCloser(closerFunc(func() error {
				calls++
				time.Sleep(21 * time.Second) // past its share, but not abandoned yet
				return errors.New("slow")
			}))
			q.GracefulStop()
			if calls != 1 {
				t.Errorf("Close was called %d times, want 1", calls)
			}
		})
	})
}

// TestIgnoreKeepsTheRest ignores one of several errors, and what is no error of the closer.
func TestIgnoreKeepsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		other, closing := errors.New("other"), errors.New("closing")
		q.RegisterCloser(closerFunc(func() error { return errors.Join(context.Canceled, other) }), quit.Ignore(context.Canceled))
		q.RegisterQuitCloser(&bothWays{
			func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			func() error { return closing },
		}, quit.Ignore(context.DeadlineExceeded))
		hang := make(chan struct{})
		defer close(hang)
		q.RegisterStopFunc(func() { <-hang }, quit.Ignore(context.DeadlineExceeded), quit.Name("hung"), quit.Timeout(1))
		q.RegisterStopFunc(func() { panic(context.Canceled) }, quit.Ignore(context.Canceled), quit.Name("panicky"))
		err := q.Shutdown(context.Background())
		for _, want := range []string{": other", ": closing", "hung (", "panicky ("} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("Shutdown() does not have %q: %v", want, err)
			}
		}
		if n := strings.Count(fmt.Sprint(err), "\n") + 1; n != 4 {
			t.Errorf("Shutdown() has %d lines, want 4: %v", n, err)
		}
	})
}

func TestGraceful(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			var j journal
			q.RegisterQuitCloser(quit.Graceful(func() { j.add("stop") }, func() { j.add("force") }))
			if err := q.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			j.want(t, "stop")
		})
	})
	t.Run("forced", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			var j journal
			forced := make(chan struct{})
			start := time.Now()
			q.RegisterQuitCloser(quit.Graceful(
				func() { <-forced; j.add("stopped") },
				func() { j.add(fmt.Sprint("force after ", time.Since(start))); close(forced) }))
			err := q.Shutdown(context.Background())
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "forced to stop") {
				t.Errorf("Shutdown() = %v", err)
			}
			j.want(t, "force after 19.2s", "stopped")
		})
	})
	t.Run("panics and Goexit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			forced := make(chan struct{})
			q.RegisterQuitCloser(quit.Graceful(func() { <-forced; panic("stop") }, func() { close(forced); panic("force") }))
			var late bool
			q.RegisterQuitCloser(quit.Graceful(runtime.Goexit, func() { late = true }))
			q.RegisterQuitCloser(quit.Graceful(func() { time.Sleep(3 * time.Second) }, runtime.Goexit), quit.Timeout(2900*time.Millisecond))
			err := q.Shutdown(context.Background())
			for _, want := range []string{"panic: stop", "panic: force", "called runtime.Goexit"} {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("Shutdown() = %v, want it to have %q", err, want)
				}
			}
			synctest.Wait()
			if late {
				t.Error("force was called although stop had ended its goroutine in time")
			}
		})
	})
	t.Run("nil", func(t *testing.T) {
		if c := quit.Graceful(nil, func() {}); c != nil {
			t.Errorf("Graceful(nil, force) = %v, want nil", c)
		}
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			q.RegisterQuitCloser(quit.Graceful(func() { time.Sleep(time.Second) }, nil))
			if err := q.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestComposition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, child := quietEvent(), quietEvent()
		var j journal
		failure := errors.New("of the pool")
		child.RegisterCloser(closerFunc(func() error { j.add("child's closer"); return failure }), quit.Name("pool"))
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
		j.want(t, "parent's server", "child's closer", "child's goroutine", "child's after drain", "parent's database")
		want := "quit: workers (quit/shutdown_test.go:LINE): pool (quit/shutdown_test.go:LINE): of the pool"
		if got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE"); got != want || !errors.Is(err, failure) {
			t.Errorf("Shutdown() = %q, want %q", got, want)
		}
		if child.Cause() != context.Canceled {
			t.Errorf("the child's Cause() = %v, want %v", child.Cause(), context.Canceled)
		}
	})
}

// TestCompositionTime has the child end within its parent's share, although what
// it closes hangs.
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
		text := fmt.Sprint(err)
		if !strings.Contains(text, "*quit.QuitEvent (") || !strings.Contains(text, ": hung (") ||
			!strings.Contains(text, "1 goroutine left") || strings.Contains(text, "*quit.QuitEvent (quit/shutdown_test.go:1): abandoned") {
			t.Errorf("Shutdown() = %v", err)
		}
	})
}

func TestReentrance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		start := time.Now()
		q.RegisterStopFunc(q.GracefulStop)
		q.RegisterQuitCloser(q) // with itself
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			q.GracefulStop()
			done := make(chan error)
			go func() { done <- q.Shutdown(ctx) }() // known by its context
			return errors.Join(q.Shutdown(context.Background()), q.Shutdown(ctx), <-done)
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

// TestRing has three events close each other, by contexts and by stop funcs,
// shut down by one caller or by one for each at the same time.
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

// TestSharedChild has two events close one: both wait for it.
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

func TestNothingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		for range 100 {
			q := quietEvent()
			if err := q.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("a hundred shutdowns with nothing to do took %v, want none", took)
		}
	}) // which also fails if a goroutine is left
}

func TestNilContext(t *testing.T) {
	var ctx context.Context
	if err := quietEvent().Shutdown(ctx); err != nil {
		t.Errorf("Shutdown(nil) = %v, want nil", err)
	}
}

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		hang := make(chan struct{})
		defer close(hang)
		q.RegisterStopFunc(func() { <-hang }, quit.Name("hung"))
		q.RegisterStopFunc(func() { panic("boom") }, quit.Name("panicky"))
		q.Fail(errors.New("the reason"))
		q.GracefulStop()
		log := logged()
		for _, want := range []string{
			`level=INFO msg="quit: fired" cause="the reason"`,
			`level=ERROR msg="quit: step failed" step=panicky site=quit/shutdown_test.go:`,
			`panic: boom`,
			`runtime/panic.go`,
			`level=DEBUG msg="quit: step begins" step=hung site=quit/shutdown_test.go:`,
			`level=WARN msg="quit: step still running" step=hung site=quit/shutdown_test.go:`,
			`for=5s left=16.6s`, `for=10s left=11.6s`, `for=20s left=1.6s`,
			`level=ERROR msg="quit: step abandoned" step=hung`,
			`level=DEBUG msg="quit: step ended" step=drain`,
			`level=INFO msg="quit: stopped" took=21.6s failures=3`,
		} {
			if !strings.Contains(log, want) {
				t.Errorf("the log does not have %q", want)
			}
		}
		if n := strings.Count(log, "still running"); n != 3 {
			t.Errorf("%d warnings of a step still running, want 3", n)
		}
		if t.Failed() {
			t.Log(log)
		}
	})
}

// callingHandler is a log handler that calls the event it is the handler of,
// but not in the calls that it causes itself.
type callingHandler struct {
	slog.Handler
	calls *atomic.Int32
	call  func()
}

func (h callingHandler) Handle(context.Context, slog.Record) error {
	if h.calls.Add(1) <= 20 {
		h.call()
	}
	return nil
}

func (h callingHandler) Enabled(context.Context, slog.Level) bool { return true }

func TestLogHandlerMayCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quit.NewQuitEvent()
		h := callingHandler{slog.DiscardHandler, new(atomic.Int32), func() {
			q.RegisterStopFunc(func() {})()
			q.TryAddGoroutine()
			q.DoneGoroutine()
			q.Cause()
			q.Fail(context.Canceled)
		}}
		q.Logger = slog.New(h)
		q.RegisterCloser(nil)
		q.RegisterStopFunc(func() { panic("boom") })
		q.GracefulStop()
		if h.calls.Load() < 5 {
			t.Errorf("the handler was called %d times", h.calls.Load())
		}
	})
}

// TestLogHandlerMayShutDown has a log handler call the shutdown at every message:
// it must not wait for a step that waits for it.
func TestLogHandlerMayShutDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quit.NewQuitEvent()
		h := callingHandler{slog.DiscardHandler, new(atomic.Int32), q.GracefulStop}
		q.Logger = slog.New(h)
		hang := make(chan struct{})
		defer close(hang)
		called := false
		q.RegisterStopFunc(func() { called = true })
		q.RegisterStopFunc(func() { <-hang })
		q.Go(func(ctx context.Context) error { <-ctx.Done(); panic("boom") })
		start := time.Now()
		q.GracefulStop()
		if took := time.Since(start); took != 21600*time.Millisecond || !called {
			t.Errorf("the shutdown took %v, want 21.6s; the last closer was called: %v", took, called)
		}
	})
}

// brokenError has an Error and an Unwrap method that panic if it is nil.
type brokenError struct{ text string }

func (e *brokenError) Error() string { return e.text }
func (e *brokenError) Unwrap() error { return errors.New(e.text) }

// TestBrokenError has a closer return a typed nil, the classic.
func TestBrokenError(t *testing.T) {
	q, _ := loggedEvent()
	called := false
	q.RegisterStopFunc(func() { called = true })
	q.RegisterCloser(closerFunc(func() error { var e *brokenError; return e }), quit.Name("broken"))
	err := q.Shutdown(t.Context())
	if err == nil || !strings.Contains(err.Error(), "quit: broken (") || !called {
		t.Errorf("Shutdown() = %v; the next closer was called: %v", err, called)
	}
	if text := q.Report().String(); !strings.Contains(text, "broken") {
		t.Errorf("the report does not tell:\n%s", text)
	}
}

// TestIgnoreOfNestedJoin ignores one of the errors of an event within an event.
func TestIgnoreOfNestedJoin(t *testing.T) {
	q, child, inner := quietEvent(), quietEvent(), quietEvent()
	kept, ignored := errors.New("kept"), errors.New("ignored")
	inner.RegisterCloser(closerFunc(func() error { return kept }))
	inner.RegisterCloser(closerFunc(func() error { return ignored }))
	child.RegisterQuitCloser(inner)
	q.RegisterQuitCloser(child, quit.Ignore(ignored))
	q.RegisterCloser(closerFunc(func() error { return fmt.Errorf("wrapped: %w", errors.Join(ignored, kept)) }), quit.Ignore(ignored))
	q.RegisterCloser(closerFunc(func() error { return fmt.Errorf("wrapped: %w", errors.Join(ignored, ignored)) }), quit.Ignore(ignored))
	err := q.Shutdown(t.Context())
	if n := strings.Count(fmt.Sprint(err), "kept"); n != 2 {
		t.Errorf("Shutdown() = %v, want both that are kept", err)
	}
	if n := len(strings.Split(fmt.Sprint(err), "\n")); n != 3 { // what wraps a join cannot be taken apart
		t.Errorf("Shutdown() has %d lines, want 3: %v", n, err)
	}
}

func TestSignalAmongFailures(t *testing.T) {
	failure := errors.New("failure")
	for _, test := range []struct {
		name string
		fire func(q *quit.QuitEvent)
		want error
	}{
		{"wrapped", func(q *quit.QuitEvent) { q.Fail(fmt.Errorf("stopped: %w", &quit.SignalError{})) }, nil},
		{"joined", func(q *quit.QuitEvent) { q.Fail(errors.Join(failure, &quit.SignalError{})) }, failure},
		{"of Go", func(q *quit.QuitEvent) { q.Go(func(context.Context) error { return &quit.SignalError{} }) }, nil},
	} {
		q := quietEvent()
		test.fire(q)
		<-q.Done()
		if err := q.Shutdown(t.Context()); !errors.Is(err, test.want) || (test.want == nil) != (err == nil) {
			t.Errorf("%s: Shutdown() = %v, want %v", test.name, err, test.want)
		}
	}
}

// TestLateRing closes a ring by a registration after the end.
func TestLateRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, ended := quietEvent(), quietEvent()
		start := time.Now()
		ended.GracefulStop()
		q.RegisterStopFunc(func() { ended.RegisterQuitCloser(q) })
		q.RegisterStopFunc(func() {
			ended.RegisterStopFunc(func() {
				ended.RegisterStopFunc(q.GracefulStop) // late in a late one
			})
		})
		q.RegisterQuitCloser(quit.Graceful(func() { time.Sleep(1100 * time.Millisecond) }, q.GracefulStop), quit.Timeout(time.Second))
		err := q.Shutdown(context.Background())
		if took := time.Since(start); took != 1100*time.Millisecond || strings.Contains(fmt.Sprint(err), "abandoned") {
			t.Errorf("the shutdown took %v, want the 1.1s of one closer: %v", took, err)
		}
	})
}

// TestCloseHangs has the Close after a failed Shutdown hang: the first error counts still.
func TestCloseHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := errors.New("failure")
		hang := make(chan struct{})
		defer close(hang)
		q := quietEvent()
		shutdown := func(ctx context.Context) error { <-ctx.Done(); return failure }
		q.RegisterQuitCloser(&bothWays{shutdown, func() error { <-hang; return nil }}, quit.Name("hangs"))
		q.RegisterQuitCloser(&bothWays{shutdown, func() error { runtime.Goexit(); return nil }}, quit.Name("exits"))
		q.RegisterQuitCloser(&bothWays{shutdown, func() error { panic("boom") }}, quit.Name("panics"))
		err := q.Shutdown(context.Background())
		got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE")
		for _, name := range []string{"hangs", "exits", "panics"} {
			if want := "quit: " + name + " (quit/shutdown_test.go:LINE): failure\n"; !strings.Contains(got, want) {
				t.Errorf("Shutdown() does not have %q:\n%s", want, got)
			}
		}
		if n := strings.Count(got, "\n") + 1; n != 6 {
			t.Errorf("Shutdown() has %d lines, want 6:\n%s", n, got)
		}
	})
}

// TestAbandonedFailsLate has a closer panic after it was abandoned, while the
// shutdown still runs.
func TestAbandonedFailsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		q.RegisterStopFunc(func() { time.Sleep(10 * time.Second) })
		q.RegisterStopFunc(func() { time.Sleep(5 * time.Second); panic("late") }, quit.Name("slow"), quit.Timeout(time.Second))
		err := q.Shutdown(context.Background())
		var p *quit.PanicError
		if !errors.As(err, &p) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v, want both that it was abandoned and its panic", err)
		}
		if log := logged(); !strings.Contains(log, `level=ERROR msg="quit: abandoned step failed" step=slow`) || !strings.Contains(log, "runtime/panic.go") {
			t.Errorf("the late panic is not logged with its stack:\n%s", log)
		}
	})
}

// zeroDeadline has a deadline that is the zero time.
type zeroDeadline struct{ context.Context }

func (zeroDeadline) Deadline() (time.Time, bool) { return time.Time{}, true }

// TestPassedDeadline has a deadline that has passed in a context that is not done:
// it is none.
func TestPassedDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		hang := make(chan struct{})
		defer close(hang)
		q.RegisterStopFunc(func() { <-hang })
		start := time.Now()
		q.Shutdown(zeroDeadline{context.Background()})
		if took := time.Since(start); took != 21600*time.Millisecond {
			t.Errorf("a deadline in the year 1 gave the shutdown %v, want 21.6s", took)
		}
	})
}

// TestNameInOneLine has a name that would break the line of its error.
func TestNameInOneLine(t *testing.T) {
	q := quietEvent()
	q.RegisterCloser(closerFunc(func() error { return errors.New("failed") }), quit.Name("two\nlines\x1b[2J"))
	if err := q.Shutdown(t.Context()); strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("Shutdown() = %q, want one line", err)
	}
}

// TestReturnsAtTheLast has a closer return at the very moment at which it would be
// abandoned: it is the one or the other, and not both.
func TestReturnsAtTheLast(t *testing.T) {
	for range 500 {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			q.RegisterStopFunc(func() { time.Sleep(900 * time.Millisecond) }, quit.Timeout(800*time.Millisecond))
			err := q.Shutdown(context.Background())
			if s := q.Report().Steps[0]; s.Abandoned != (err != nil) {
				t.Errorf("abandoned: %v, Shutdown() = %v", s.Abandoned, err)
			}
		})
	}
}

func TestReportErrIsTheSame(t *testing.T) {
	q := quietEvent()
	for range 2 {
		q.RegisterCloser(closerFunc(func() error { return errors.New("failed") }))
	}
	if err := q.Shutdown(t.Context()); q.Report().Err() != err {
		t.Errorf("Report().Err() is another error than Shutdown's %v", err)
	}
}

// TestWhoFiresSetsDeadline has an event that shuts itself down when it fires, as a
// child does that may fail by itself: who fires it by a Shutdown sets its deadline.
func TestWhoFiresSetsDeadline(t *testing.T) {
	type key struct{}
	for range 10 {
		q := quietEvent()
		for range 1000 { // so many that some run before the fire has returned
			context.AfterFunc(q.Context(), q.GracefulStop)
		}
		var value any
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error { value = ctx.Value(key{}); return nil }))
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "the parent's"), time.Minute)
		if err := q.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		want, _ := ctx.Deadline()
		cancel()
		if got := q.Report().Deadline; !got.Equal(want) || value != "the parent's" {
			t.Errorf("the deadline is %v off, the value of the context is %v", got.Sub(want), value)
		}
	}
}
