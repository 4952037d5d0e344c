package quit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// share is the time of a closer, as the closer saw it.
type share struct {
	start, end time.Duration // since the start of the shutdown; end is that of its context
	live       bool
	forever    bool
}

// TestShares uses closers that hang, and checks the time that each of them
// gets.
func TestShares(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	tenSeconds := []share{
		{start: 0, end: 7200 * ms, live: true},
		{start: 8100 * ms, end: 8820 * ms, live: true},
	}
	for _, test := range []struct {
		name    string
		timeout time.Duration
		ctx     time.Duration // deadline of the caller's context, if not 0
		opts    []quit.Option
		want    []share // of closers that hang, one after another
		took    time.Duration
	}{
		// A reserve of a tenth, and 1 s at most, is kept back. A step has 4/5
		// of the rest, and an eighth of that more until it is abandoned.
		{
			name: "default",
			want: []share{
				{start: 0, end: 19200 * ms, live: true},
				{start: 21600 * ms, end: 23520 * ms, live: true},
			},
			took: 23760 * ms,
		},
		{name: "Timeout", timeout: 10 * s, want: tenSeconds, took: 8910 * ms},
		{
			name: "ctx alone",
			ctx:  100 * s,
			want: []share{
				{start: 0, end: 79200 * ms, live: true},
				{start: 89100 * ms, end: 97020 * ms, live: true},
			},
			took: 98010 * ms,
		},
		{
			name:    "ctx earlier",
			timeout: 100 * s,
			ctx:     10 * s,
			want:    tenSeconds,
			took:    8910 * ms,
		},
		{
			name:    "ctx later",
			timeout: 10 * s,
			ctx:     100 * s,
			want:    tenSeconds,
			took:    8910 * ms,
		},
		{
			name:    "no limit but ctx",
			timeout: -1,
			ctx:     10 * s,
			want:    tenSeconds,
			took:    8910 * ms,
		},
		{
			name:    "a reserve of a tenth",
			timeout: s,
			want: []share{
				{start: 0, end: 720 * ms, live: true},
				{start: 810 * ms, end: 882 * ms, live: true},
			},
			took: 891 * ms,
		},
		{
			name:    "own Timeout",
			timeout: 10 * s,
			opts:    []quit.Option{quit.Timeout(8 * ms)},
			want: []share{
				{start: 0, end: 8 * ms, live: true},
				{start: 9 * ms, end: 17 * ms, live: true},
			},
			took: 18 * ms,
		},
		{
			name:    "own Timeout, no limit",
			timeout: -1,
			opts:    []quit.Option{quit.Timeout(8 * s)},
			want: []share{
				{start: 0, end: 8 * s, live: true},
				{start: 9 * s, end: 17 * s, live: true},
			},
			took: 18 * s,
		},
		{
			name:    "own Timeout longer",
			timeout: 10 * s,
			opts:    []quit.Option{quit.Timeout(time.Hour)},
			want:    tenSeconds,
			took:    8910 * ms,
		},
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
						saw := share{
							start:   time.Since(start),
							end:     end.Sub(start),
							live:    ctx.Err() == nil,
							forever: !ok,
						}
						got = append(got, saw)
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
				mu.Lock() // an abandoned closer may still hold it
				defer mu.Unlock()
				if !slices.Equal(got, test.want) {
					t.Errorf("the closers were given %v, want %v", got, test.want)
				}
				lines := strings.Count(fmt.Sprint(err), "abandoned after")
				if lines != len(test.want) || !errors.Is(err, context.DeadlineExceeded) {
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
				t.Errorf("ctx.Err() = %v, want nil: "+
					"the caller's cancellation is not the closer's", ctx.Err())
			}
			return nil
		}))
		values := context.WithValue(context.Background(), key{}, "value")
		ctx, cancel := context.WithCancel(values)
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

func TestEscalation(t *testing.T) {
	closed := errors.New("while closing")
	for _, test := range []struct {
		name      string
		shutdown  func(ctx context.Context) error
		wantClose bool
	}{
		{name: "in time", shutdown: func(context.Context) error { return nil }},
		{
			name:     "failed in time",
			shutdown: func(context.Context) error { return errors.New("failed") },
		},
		{
			name:      "out of time",
			shutdown:  func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			wantClose: true,
		},
		{
			name:     "out of time, but nil",
			shutdown: func(ctx context.Context) error { <-ctx.Done(); return nil },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quietEvent()
				calls := 0
				q.RegisterQuitCloser(&bothWays{
					shutdown: test.shutdown,
					close:    func() error { calls++; return closed },
				})
				err := q.Shutdown(context.Background())
				if (calls == 1) != test.wantClose || calls > 1 {
					t.Errorf("Close was called %d times, want it: %v", calls, test.wantClose)
				}
				if errors.Is(err, closed) != test.wantClose {
					t.Errorf("Shutdown() = %v, with the error of Close: want %v",
						err, test.wantClose)
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

// TestCloseHangs makes the Close after a failed Shutdown hang, exit or panic.
// The error of Shutdown counts nonetheless.
func TestCloseHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := errors.New("failure")
		hang := make(chan struct{})
		defer close(hang)
		q := quietEvent()
		register := func(name string, closes func() error) {
			q.RegisterQuitCloser(&bothWays{
				shutdown: func(ctx context.Context) error { <-ctx.Done(); return failure },
				close:    closes,
			}, quit.Name(name))
		}
		register("hangs", func() error { <-hang; return nil })
		register("exits", func() error { runtime.Goexit(); return nil })
		register("panics", func() error { panic("boom") })
		err := q.Shutdown(context.Background())
		got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE")
		for _, name := range []string{"hangs", "exits", "panics"} {
			want := "quit: " + name + " (quit/step_test.go:LINE): failure\n"
			if !strings.Contains(got, want) {
				t.Errorf("Shutdown() does not have %q:\n%s", want, got)
			}
		}
		if n := strings.Count(got, "\n") + 1; n != 6 {
			t.Errorf("Shutdown() has %d lines, want 6:\n%s", n, got)
		}
	})
}

// TestAbandonedFailsLate makes an abandoned closer return and another one panic
// while the shutdown still runs.
func TestAbandonedFailsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		q.RegisterStopFunc(func() { time.Sleep(10 * time.Second) })
		slow := func() { time.Sleep(5 * time.Second); panic("late") }
		q.RegisterStopFunc(slow, quit.Name("slow"), quit.Timeout(time.Second))
		q.RegisterStopFunc(func() { time.Sleep(2 * time.Second) },
			quit.Name("quiet"), quit.Timeout(time.Second))
		err := q.Shutdown(context.Background())
		var p *quit.PanicError
		if !errors.As(err, &p) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v, want both that it was abandoned and its panic", err)
		}
		want := `level=ERROR msg="quit: abandoned step failed" step=slow`
		log := logged()
		if !strings.Contains(log, want) || !strings.Contains(log, "runtime/panic.go") {
			t.Errorf("the late panic is not logged with its stack:\n%s", log)
		}
		want = `level=DEBUG msg="quit: abandoned step returned" step=quiet`
		if !strings.Contains(log, want) {
			t.Errorf("the late return is not logged:\n%s", log)
		}
	})
}

// TestReturnsAtTheLast makes a closer return at the moment when it would be
// abandoned. It has either returned or been abandoned, and not both.
func TestReturnsAtTheLast(t *testing.T) {
	for range 500 {
		synctest.Test(t, func(t *testing.T) {
			q, logged := loggedEvent()
			q.RegisterStopFunc(func() { time.Sleep(900 * time.Millisecond) },
				quit.Timeout(800*time.Millisecond))
			err := q.Shutdown(context.Background())
			s := q.Report().Steps[0]
			synctest.Wait()
			if told := strings.Contains(logged(), "step abandoned"); told != s.Abandoned ||
				s.Abandoned != (err != nil) {
				t.Errorf("abandoned: %v, Shutdown() = %v; the log:\n%s", s.Abandoned, err, logged())
			}
		})
	}
}

// TestNoTimerAfterEnd makes a closer return at the moment when a warning
// would be logged. No timer is left after the end.
func TestNoTimerAfterEnd(t *testing.T) {
	for range 500 {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			q.RegisterStopFunc(func() { time.Sleep(5 * time.Second) })
			q.GracefulStop()
			synctest.Wait()
			if n := q.TimersLeft(); n != 0 {
				t.Fatalf("%d timers are set after the end, want none", n)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// TestAbandonedIsClosed makes a closer with both methods return an error from
// Shutdown after it was abandoned. While the shutdown runs, that error counts,
// and so does the error of the Close that follows. After the end they are only
// logged.
func TestAbandonedIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		stopping, closing := errors.New("while stopping"), errors.New("while closing")
		register := func(name string, after time.Duration) {
			q.RegisterQuitCloser(&bothWays{
				shutdown: func(context.Context) error { time.Sleep(after); return stopping },
				close:    func() error { time.Sleep(time.Second); return closing },
			}, quit.Name(name), quit.Timeout(time.Second))
		}
		q.RegisterStopFunc(func() { time.Sleep(10 * time.Second) })
		register("in time", 5*time.Second)
		register("too late", time.Minute)
		err := q.Shutdown(context.Background())
		for _, want := range []string{
			"quit: in time (quit/step_test.go:LINE): " +
				"abandoned after 1.125s: context deadline exceeded",
			"quit: in time (quit/step_test.go:LINE): while stopping",
			"quit: in time (quit/step_test.go:LINE): while closing",
			"quit: too late (quit/step_test.go:LINE): " +
				"abandoned after 1.125s: context deadline exceeded",
		} {
			got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE")
			if !strings.Contains(got, want) {
				t.Errorf("Shutdown() does not have %q:\n%s", want, got)
			}
		}
		n := len(strings.Split(err.Error(), "\n"))
		if n != 4 || !errors.Is(err, stopping) || !errors.Is(err, closing) {
			t.Errorf("Shutdown() has %d failures, want 4: %v", n, err)
		}
		steps := func() string { return fmt.Sprint(q.Report().Steps) }
		before := steps()
		time.Sleep(2 * time.Minute)
		if q.Report().Err() != err || q.Shutdown(context.Background()) != err ||
			steps() != before {
			t.Error("a failure after the end has changed the result")
		}
		for _, want := range []string{
			`msg="quit: step failed" step="too late" site=quit/step_test.go:LINE ` +
				`took=1m0s err="while stopping"`,
			`msg="quit: abandoned step failed" step="too late" site=quit/step_test.go:LINE ` +
				`took=1m1s err="while closing"`,
		} {
			got := lineNumber.ReplaceAllString(logged(), "_test.go:LINE")
			if !strings.Contains(got, want) {
				t.Errorf("the log does not have %q:\n%s", want, got)
			}
		}
	})
}

// TestExtremeTimeouts uses times at the limits of a Duration and a Time. Each
// closer is called with a live context, and all reported times make sense.
func TestExtremeTimeouts(t *testing.T) {
	const most = time.Duration(math.MaxInt64)
	far := time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name    string
		timeout time.Duration
		end     time.Time // of the context given to Shutdown; zero: none
		opts    []quit.Option
		least   time.Duration // for the first closer
		forever bool          // the first closer has no deadline
	}{
		{name: "1ns", timeout: 1, least: 400 * time.Microsecond}, // 2/5 of a reserve of 1 ms
		{name: "the longest", timeout: most, least: (most - time.Second) / 5 * 4},
		{name: "the longest negative", timeout: math.MinInt64, forever: true},
		{
			name:    "the longest of one step",
			timeout: -1,
			opts:    []quit.Option{quit.Timeout(most)},
			least:   most,
		},
		{
			name:    "the longest of both",
			timeout: most,
			opts:    []quit.Option{quit.Timeout(most)},
			least:   (most - time.Second) / 5 * 4,
		},
		{name: "1ns of one step", opts: []quit.Option{quit.Timeout(1)}},
		{name: "year 20000", end: far, least: (most - time.Second) / 5 * 4},
		{
			name:    "year 20000, no limit",
			timeout: -1,
			end:     far,
			least:   (most - time.Second) / 5 * 4,
		},
		{
			name:    "year 20000, Timeout",
			timeout: 10 * time.Second,
			end:     far,
			least:   7200 * time.Millisecond,
		},
		{
			name:  "no monotonic clock",
			end:   time.Date(2000, 1, 1, 0, 0, 10, 0, time.UTC),
			least: 7200 * time.Millisecond,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, logged := loggedEvent()
				q.Timeout = test.timeout
				release := make(chan struct{})
				called, after := false, false
				q.RegisterStopFunc(func() { after = true }, quit.AfterDrain())
				q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
					called = true
					end, ok := ctx.Deadline()
					if ok == test.forever || ok && time.Until(end) < test.least {
						t.Errorf("the context's deadline: %v, in %v, want at least %v",
							ok, time.Until(end), test.least)
					}
					if ctx.Err() != nil && test.least > 0 {
						t.Errorf("ctx.Err() = %v at the start", ctx.Err())
					}
					<-release
					return nil
				}), append(test.opts, quit.Name("held"))...)
				ctx := context.Background()
				if !test.end.IsZero() {
					var cancel context.CancelFunc
					ctx, cancel = context.WithDeadline(ctx, test.end)
					defer cancel()
				}
				done := make(chan error, 1)
				go func() { done <- q.Shutdown(ctx) }()
				time.Sleep(time.Minute)
				report := q.Report()
				if text := report.String(); !strings.Contains(text, "held") {
					t.Errorf("the report has no step:\n%s", text)
				}
				if text, err := json.Marshal(report); err != nil {
					t.Errorf("MarshalJSON() = %s, %v", text, err)
				}
				close(release)
				err := <-done
				synctest.Wait()
				if !called || !after {
					t.Errorf("the closers were called: %v, %v", called, after)
				}
				if hung := test.least < time.Minute && !test.forever; hung != (err != nil) {
					t.Errorf("Shutdown() = %v, want an abandoned closer: %v", err, hung)
				}
				if log := logged(); strings.Contains(log, "=-") {
					t.Errorf("the log has a negative time:\n%s", log)
				} else if test.least > time.Minute && !strings.Contains(log, "still running") {
					t.Errorf("the log does not tell of the step that runs:\n%s", log)
				}
			})
		})
	}
}

// TestHugeError uses errors of 10 MB: in one line, in many lines, and with
// bytes that are not text.
func TestHugeError(t *testing.T) {
	size := 10 << 20
	if testing.Short() || quit.UnderRace {
		size /= 10
	}
	for name, text := range map[string]string{
		"one line":   strings.Repeat("x", size),
		"many lines": strings.Repeat(strings.Repeat("x", 999)+"\n", size/1000),
		"not text":   strings.Repeat("\xff\x00", size/20),
	} {
		t.Run(name, func(t *testing.T) {
			q, child := quietEvent(), quietEvent()
			huge := errors.New(text)
			child.RegisterCloser(closerFunc(func() error { return huge }), quit.Name("huge"))
			q.RegisterQuitCloser(child)
			q.Fail(huge)
			err := q.Shutdown(t.Context())
			if !errors.Is(err, huge) || len(err.Error()) < len(text) {
				t.Errorf("Shutdown() is an error of %d bytes", len(err.Error()))
			}
			report := q.Report()
			if !strings.Contains(report.String(), "huge") {
				t.Error("the report does not tell of the closer")
			}
			if _, err := json.Marshal(report); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNextLook checks that a step is looked at after 5, 10, 20 s and so on, and
// at the end of its time. An event that goes on after the end of its step's
// time is looked at no more often.
func TestNextLook(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		last time.Duration
		want []time.Duration // the ages at the looks
	}{
		{0, []time.Duration{5 * s, 10 * s, 20 * s, 40 * s}},
		{time.Nanosecond, []time.Duration{time.Nanosecond, 5 * s, 10 * s}},
		{3 * s, []time.Duration{3 * s, 5 * s, 10 * s, 20 * s}},
		{5 * s, []time.Duration{5 * s, 10 * s, 20 * s}},
		{8 * s, []time.Duration{5 * s, 8 * s, 10 * s, 20 * s}},
	} {
		age := time.Duration(0)
		for _, want := range test.want {
			if age += quit.NextLook(age, test.last); age != want {
				t.Errorf("with the end after %v, a look after %v, want one after %v",
					test.last, age, want)
				break
			}
		}
	}
	// The process stood still for longer than the step's time.
	if left := quit.NextLook(30*s, 8*s); left != 10*s {
		t.Errorf("the next look is after another %v, want 10s", left)
	}
}
