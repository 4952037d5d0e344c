package quit_test

import (
	"context"
	"encoding/json"
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

func TestExpiredContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		ctx, cancel := context.WithTimeout(context.Background(), -time.Second)
		defer cancel()
		var j journal
		returned := make(chan struct{})
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			j.add(fmt.Sprint("closer ", ctx.Err()))
			<-returned // or the end might come before the call looks at its ctx
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

func TestDelay(t *testing.T) {
	for _, test := range []struct{ delay, before, want time.Duration }{
		{delay: 3 * sec, want: 3 * sec},
		{delay: 3 * sec, before: sec, want: 3 * sec},     // counted from the fire
		{delay: 3 * sec, before: 5 * sec, want: 5 * sec}, // over before the shutdown
		{delay: time.Hour, want: 7200 * ms},              // a step with a share
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
				t.Errorf("Delay %v, shutdown %v after the fire: "+
					"the closer was called after %v, want %v",
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
			q.RegisterStopFunc(func() { time.Sleep(time.Second); j.add("after drain") },
				quit.AfterDrain())
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
		want := slices.Concat(slices.Repeat([]string{"closer"}, 6), []string{"goroutine"},
			slices.Repeat([]string{"after drain"}, 5))
		j.want(t, want...)
		// The delay, the closers, the rest of the drain and the AfterDrain
		// closers take a second each.
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
	}) // it also fails if a goroutine is left
}

func TestNilContext(t *testing.T) {
	var ctx context.Context
	if err := quietEvent().Shutdown(ctx); err != nil {
		t.Errorf("Shutdown(nil) = %v, want nil", err)
	}
}

// passedDeadline is a context whose deadline has passed but that is not done.
type passedDeadline struct {
	context.Context
	end time.Time
}

func (c passedDeadline) Deadline() (time.Time, bool) { return c.end, true }

// TestPassedDeadline uses contexts whose deadline has passed but that are not
// done. The deadline is ignored.
func TestPassedDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		for _, end := range []time.Time{{}, time.Now()} {
			q := quietEvent()
			q.RegisterStopFunc(func() { <-hang })
			start := time.Now()
			q.Shutdown(passedDeadline{context.Background(), end})
			if took := time.Since(start); took != 21600*time.Millisecond {
				t.Errorf("the deadline %v gave the shutdown %v, want 21.6s", end, took)
			}
		}
	})
}

// TestWhoFiresSetsDeadline uses an event that shuts itself down when it fires,
// as a child may that fails by itself. A call to Shutdown that fires it sets
// its deadline, and so does a parent.
func TestWhoFiresSetsDeadline(t *testing.T) {
	type key struct{}
	for i := range 20 {
		q := quietEvent()
		for range 1000 { // enough for some to run before the fire has returned
			context.AfterFunc(q.Context(), q.GracefulStop)
		}
		var value any
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			value = ctx.Value(key{})
			return nil
		}))
		outer := q
		if i%2 == 0 {
			outer = quietEvent()
			outer.RegisterQuitCloser(q)
		}
		values := context.WithValue(t.Context(), key{}, "the parent's")
		ctx, cancel := context.WithTimeout(values, time.Minute)
		if err := outer.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		want, _ := ctx.Deadline()
		cancel()
		if outer != q {
			want = outer.Report().Steps[0].Deadline
		}
		if got := q.Report().Deadline; !got.Equal(want) || value != "the parent's" {
			t.Errorf("the deadline is %v off, the value of the context is %v",
				got.Sub(want), value)
		}
	}
}

// TestCountBelowZero calls DoneGoroutine more often than AddGoroutine: before
// the shutdown, in it, and after the drain. The result of the shutdown reports
// it. A report never shows a negative number.
func TestCountBelowZero(t *testing.T) {
	for _, test := range []struct {
		name     string
		register func(q *quit.QuitEvent)
		want     string
	}{
		{name: "before", register: (*quit.QuitEvent).DoneGoroutine, want: "1 time"},
		{
			name:     "twice",
			register: func(q *quit.QuitEvent) { q.DoneGoroutine(); q.DoneGoroutine() },
			want:     "2 times",
		},
		{
			name:     "made up for",
			register: func(q *quit.QuitEvent) { q.DoneGoroutine(); q.AddGoroutine() },
		},
		{
			name:     "by a closer",
			register: func(q *quit.QuitEvent) { q.RegisterStopFunc(q.DoneGoroutine) },
			want:     "1 time",
		},
		{
			name: "after the drain",
			register: func(q *quit.QuitEvent) {
				q.RegisterStopFunc(q.DoneGoroutine, quit.AfterDrain())
			},
			want: "1 time",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, logged := loggedEvent()
				look := func() {
					t.Helper()
					report := q.Report()
					text, err := json.Marshal(report)
					if report.Goroutines < 0 || err != nil ||
						!strings.Contains(string(text), `"goroutines":0`) {
						t.Errorf("Report().Goroutines = %d, in JSON: %s, %v",
							report.Goroutines, text, err)
					}
					drawn := report.String()
					if strings.Contains(drawn, "-1") || strings.Contains(drawn, "-2") {
						t.Errorf("the report has a negative number:\n%s", drawn)
					}
				}
				q.RegisterStopFunc(look)
				q.RegisterStopFunc(look, quit.AfterDrain())
				test.register(q)
				look()
				err := q.Shutdown(context.Background())
				look()
				want := ""
				if test.want != "" {
					want = "quit: DoneGoroutine was called " + test.want + " more than AddGoroutine"
				}
				if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
					t.Errorf("Shutdown() = %q, want %q", got, want)
				}
				const record = `level=ERROR msg="quit: failed" err="`
				if strings.Contains(logged(), record+want) != (want != "") {
					t.Errorf("the log does not tell:\n%s", logged())
				}
			})
		})
	}
}

// TestDoneContextSetsNoDeadline uses an event that shuts itself down when it
// fires, and a context that was cancelled long before its deadline. That
// deadline is ignored.
func TestDoneContextSetsNoDeadline(t *testing.T) {
	for i := range 20 {
		q := quietEvent()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		cancel()
		n := 1000 // enough for some to run before the fire has returned
		if i%2 == 0 {
			n, ctx = 1, slowErr{ctx} // it runs after that, while Shutdown looks at ctx
		}
		for range n {
			context.AfterFunc(q.Context(), q.GracefulStop)
		}
		if err := q.Shutdown(ctx); err != context.Canceled && err != nil {
			t.Errorf("Shutdown(ctx) = %v, want %v", err, context.Canceled)
		}
		if r := q.Report(); r.Deadline.Sub(r.Started) > quit.DefaultTimeout {
			t.Errorf("the shutdown has %v, want %v at most",
				r.Deadline.Sub(r.Started), quit.DefaultTimeout)
		}
	}
}

// slowErr is a context whose Err method lets other goroutines run.
type slowErr struct{ context.Context }

func (c slowErr) Err() error { runtime.Gosched(); return c.Context.Err() }

// TestResultInTime makes the deadline of the context given to Shutdown limit a
// shutdown in which nearly all closers hang. The call waits for the result.
func TestResultInTime(t *testing.T) {
	failure := errors.New("failure")
	for _, limit := range []time.Duration{
		time.Millisecond,
		100 * time.Millisecond,
		time.Second,
		10 * time.Second,
		time.Hour,
	} {
		for _, logBlocks := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/log blocks=%v", limit, logBlocks), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hang := make(chan struct{})
					defer close(hang)
					q := quietEvent()
					if logBlocks {
						q = eventWith(func(slog.Record) { <-hang })
					}
					for range 5 {
						q.RegisterStopFunc(func() { <-hang })
					}
					q.RegisterStopFunc(func() { <-hang }, quit.AfterDrain())
					q.RegisterCloser(closerFunc(func() error { return failure }))
					ctx, cancel := context.WithTimeout(context.Background(), limit)
					defer cancel()
					start := time.Now()
					err := q.Shutdown(ctx)
					n := len(strings.Split(fmt.Sprint(err), "\n"))
					if n != 7 || !errors.Is(err, failure) || err == ctx.Err() {
						t.Errorf("Shutdown(ctx) has %d lines, want 7: %v", n, err)
					}
					most := limit + max(min(limit/10, time.Second), 10*time.Millisecond)
					if took := time.Since(start); took > most {
						t.Errorf("the shutdown took %v, want %v at most", took, most)
					}
					if again := q.Shutdown(context.Background()); again != err {
						t.Errorf("Shutdown() = %v after the end, want the same as before", again)
					}
				})
			})
		}
	}
}

// oddContext is a context whose Value method calls a func, except for the key
// by which the package finds its own steps.
type oddContext struct {
	context.Context
	value func() any
}

func (c oddContext) Value(key any) any {
	if fmt.Sprintf("%T", key) == "quit.stepKey" {
		return nil
	}
	return c.value()
}

// TestContextValueMisbehaves gives Shutdown a context whose Value method does
// not return values. A closer that cannot be called because of that has failed.
// The shutdown ends in time nonetheless.
func TestContextValueMisbehaves(t *testing.T) {
	for _, test := range []struct {
		name   string
		value  func(first bool, hang chan struct{}) any // first is set for the first call
		failed int                                      // number of the four closers that fail
		want   string                                   // their failure
	}{
		{
			name: "blocks once", failed: 1, want: "abandoned after ",
			value: func(first bool, hang chan struct{}) any {
				if first {
					<-hang
				}
				return nil
			},
		},
		{
			name: "blocks", failed: 4, want: "abandoned after ",
			value: func(_ bool, hang chan struct{}) any { <-hang; return nil },
		},
		{
			name: "ends its goroutine", failed: 4, want: "called runtime.Goexit",
			value: func(bool, chan struct{}) any { runtime.Goexit(); return nil },
		},
		{
			name:  "panics", // the same as no value
			value: func(bool, chan struct{}) any { panic("in Value") },
		},
	} {
		for _, concurrent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/concurrent=%v", test.name, concurrent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hang := make(chan struct{})
					defer close(hang)
					q := quietEvent()
					q.Timeout = 10 * time.Second
					q.Delay = time.Second // needs no values, like the drain
					q.Concurrent = concurrent
					for range 3 {
						q.RegisterStopFunc(func() {})
					}
					q.RegisterStopFunc(func() {}, quit.AfterDrain())
					var calls atomic.Int32
					value := func() any { return test.value(calls.Add(1) == 1, hang) }
					ctx := oddContext{context.Background(), value}
					done := make(chan error, 1)
					go func() { done <- q.Shutdown(ctx) }()
					var err error
					select {
					case err = <-done:
					case <-time.After(time.Hour):
						t.Fatalf("the shutdown does not end:\n%v", q.Report())
					}
					r := q.Report()
					if took := r.Ended.Sub(r.Started); took > q.Timeout {
						t.Errorf("the shutdown took %v, want %v at most", took, q.Timeout)
					}
					failed := 0
					for _, s := range r.Steps {
						if s.Site == "" && s.Err != nil {
							t.Errorf("the step %s has failed with %v", s.Name, s.Err)
						}
						if s.Site != "" && s.Err != nil &&
							strings.Contains(s.Err.Error(), test.want) {
							failed++
						}
					}
					if failed != test.failed || len(r.Steps) != 6 || (err == nil) != (failed == 0) {
						t.Errorf("%d closers have failed with %q, want %d: %v\n%v",
							failed, test.want, test.failed, err, r)
					}
				})
			})
		}
	}
}

// panickingError is an error whose Error method panics.
type panickingError struct{}

func (panickingError) Error() string { panic("in Error") }

// oddErr is a context that is done with the error err.
type oddErr struct {
	context.Context
	err error
}

func (c oddErr) Err() error { return c.err }

// TestContextErrorPanics gives Shutdown a context that is done with an error
// whose Error method panics. The call returns that error and warns, as it does
// for any context that is done.
func TestContextErrorPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		called := make(chan struct{})
		q.RegisterStopFunc(func() { <-called })
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := q.Shutdown(oddErr{ctx, panickingError{}}); err != (panickingError{}) {
			t.Errorf("Shutdown(ctx) = %T, want the error of ctx", err)
		}
		close(called)
		if err := q.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
		const warning = `level=WARN ` +
			`msg="quit: Shutdown was called with a context that is done" err=`
		if log := logged(); !strings.Contains(log, warning) {
			t.Errorf("the log has no warning:\n%s", log)
		}
	})
}

// TestResultAfterDeadline makes closers that hang register others when their
// time is up. So the shutdown ends shortly after the deadline of the context
// given to it. The call that has set this deadline waits that long. Another
// call whose context is done returns at once.
func TestResultAfterDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		const limit, closers = 10 * time.Second, 4
		q := quietEvent()
		var register func(more int)
		register = func(more int) {
			q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
				<-ctx.Done()
				if more > 0 {
					register(more - 1)
				}
				<-hang
				return nil
			}))
		}
		register(closers - 1)
		failure := errors.New("failure")
		q.RegisterCloser(closerFunc(func() error { return failure }))
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			<-q.Done()
			err, took := q.Shutdown(ctx), time.Since(start)
			if err != ctx.Err() || took != limit {
				t.Errorf("another call with the same deadline: %v after %v, want %v after %v",
					err, took, ctx.Err(), limit)
			}
		})
		err := q.Shutdown(context.WithValue(ctx, key{}, "the first"))
		if took := time.Since(start); took <= limit || took > limit+time.Second {
			t.Errorf("the shutdown took %v, want a little more than %v", took, limit)
		}
		if ended := q.Report().Ended; !time.Now().Equal(ended) {
			t.Errorf("Shutdown returned %v after the end", time.Since(ended))
		}
		n := strings.Count(fmt.Sprint(err), ": abandoned after ")
		if n != closers || !errors.Is(err, failure) {
			t.Errorf("Shutdown(ctx) = %v, want %d abandoned closers and %v", err, closers, failure)
		}
		wg.Wait()
	})
}

// TestDoneContextAfterEnd calls Shutdown after the end with a context that is
// done. That is not a mistake, since the result is known.
func TestDoneContextAfterEnd(t *testing.T) {
	q, logged := loggedEvent()
	failure := errors.New("failure")
	q.Fail(failure)
	q.Shutdown(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Shutdown(ctx); err != failure {
		t.Errorf("Shutdown(ctx) after the end = %v, want %v", err, failure)
	}
	if log := logged(); strings.Contains(log, "context that is done") {
		t.Errorf("it was taken for a mistake:\n%s", log)
	}
}
