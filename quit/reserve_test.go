package quit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// hangers are closers that never return, and their observations.
type hangers struct {
	hang  chan struct{} // closed at the end of the test
	start time.Time

	mu    sync.Mutex // nothing is synchronized with an abandoned closer
	calls map[string]int
	lived map[string]time.Duration // from the call to the end of its context
	dead  []string                 // those whose context had ended at the call
}

func newHangers() *hangers {
	return &hangers{
		hang:  make(chan struct{}),
		start: time.Now(),
		calls: make(map[string]int),
		lived: make(map[string]time.Duration),
	}
}

// register registers one with q. If also is not nil, each closer calls it
// before it hangs.
func (h *hangers) register(q *quit.QuitEvent, name string, also func(), opts ...quit.Option) {
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		called := time.Now()
		h.mu.Lock()
		h.calls[name]++
		if ctx.Err() != nil {
			h.dead = append(h.dead, name)
		}
		h.mu.Unlock()
		if also != nil {
			also()
		}
		<-ctx.Done()
		h.mu.Lock()
		h.lived[name] = time.Since(called)
		h.mu.Unlock()
		<-h.hang
		return nil
	}), append(opts, quit.Name(name))...)
}

// check checks that each of n closers was called once, with a context that
// lived for at least least.
func (h *hangers) check(t *testing.T, n int, least time.Duration) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.calls) != n {
		t.Errorf("%d closers were called, want %d", len(h.calls), n)
	}
	for name, calls := range h.calls {
		if lived := h.lived[name]; calls != 1 || lived < least {
			t.Errorf("%s was called %d times, and its ctx lived for %v, want once and %v",
				name, calls, lived, least)
		}
	}
	if len(h.dead) > 0 {
		t.Errorf("the contexts of %q had ended at the call", h.dead)
	}
}

// wave is a group of successive steps of a report that have the same times
// since the start.
type wave struct {
	n             int
	phase         quit.Phase
	start, share  time.Duration // share is the end of the share
	end           time.Duration
	returned      bool // rather than abandoned
	first, latest string
}

func waves(r quit.Report, start time.Time) (all []wave) {
	for _, s := range r.Steps {
		w := wave{
			n:        1,
			phase:    s.Phase,
			start:    s.Start.Sub(start),
			share:    s.Deadline.Sub(start),
			end:      s.End.Sub(start),
			returned: !s.Abandoned,
		}
		if len(all) > 0 {
			last := &all[len(all)-1]
			w.n, w.first, w.latest = last.n, last.first, last.latest
			if w == *last {
				last.n++
				last.latest = s.Name
				continue
			}
		}
		w.n, w.first, w.latest = 1, s.Name, s.Name
		all = append(all, w)
	}
	return all
}

func (w wave) String() string {
	how := "abandoned"
	if w.returned {
		how = "returned"
	}
	names := w.first
	if w.n > 1 {
		names += " to " + w.latest
	}
	return fmt.Sprintf("%d in %v at %v until %v, %s at %v: %s",
		w.n, w.phase, w.start, w.share, how, w.end, names)
}

func wantWaves(t *testing.T, r quit.Report, start time.Time, want ...string) {
	t.Helper()
	var got []string
	for _, w := range waves(r, start) {
		got = append(got, w.String())
	}
	if got, want := strings.Join(got, "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("the steps were\n%s\nwant\n%s", got, want)
	}
}

// TestReserveTimes checks all times of shutdowns in which every closer hangs.
// With 25 s, the reserve is one second. Each of the first two steps takes 9/10
// of the time left of the other 24 s. After them less than half a second of
// that is left, so all others begin together and have all the time that is
// left, 1.24 s.
func TestReserveTimes(t *testing.T) {
	for _, test := range []struct {
		name       string
		timeout    time.Duration
		ctx        time.Duration // deadline of the caller's context, if not 0
		concurrent bool
		delay      time.Duration
		closers    int
		after      int  // closers with AfterDrain
		goroutine  bool // whether a goroutine that never ends is counted
		want       []string
	}{
		{
			name:    "one",
			closers: 1,
			want: []string{
				"1 in closers at 0s until 19.2s, abandoned at 21.6s: c1",
				"1 in drain at 21.6s until 23.52s, returned at 21.6s: drain",
			},
		},
		{
			name:  "one after the drain",
			after: 1, goroutine: true,
			want: []string{
				"1 in drain at 0s until 19.2s, returned at 21.6s: drain",
				"1 in after drain at 21.6s until 23.52s, abandoned at 23.76s: a1",
			},
		},
		{
			name:    "two, one after the drain and a goroutine",
			closers: 1, after: 1, goroutine: true,
			want: []string{
				"1 in closers at 0s until 19.2s, abandoned at 21.6s: c1",
				"1 in drain at 21.6s until 23.52s, returned at 23.76s: drain",
				"1 in after drain at 23.76s until 24.752s, abandoned at 24.876s: a1",
			},
		},
		{
			name:    "three, and nothing is left for the goroutine",
			closers: 3, goroutine: true,
			want: []string{
				"1 in closers at 0s until 19.2s, abandoned at 21.6s: c3",
				"1 in closers at 21.6s until 23.52s, abandoned at 23.76s: c2",
				"1 in closers at 23.76s until 24.752s, abandoned at 24.876s: c1",
				"1 in drain at 24.876s until 24.876s, returned at 24.876s: drain",
			},
		},
		{
			name:    "no AfterDrain closer: its half is the others'",
			closers: 1000, goroutine: true,
			want: []string{
				"1 in closers at 0s until 19.2s, abandoned at 21.6s: c1000",
				"1 in closers at 21.6s until 23.52s, abandoned at 23.76s: c999",
				"998 in closers at 23.76s until 24.752s, abandoned at 24.876s: c998 to c1",
				"1 in drain at 24.876s until 24.876s, returned at 24.876s: drain",
			},
		},
		{
			name:  "AfterDrain closers alone",
			after: 20, goroutine: true,
			want: []string{
				"1 in drain at 0s until 19.2s, returned at 21.6s: drain",
				"1 in after drain at 21.6s until 23.52s, abandoned at 23.76s: a20",
				"19 in after drain at 23.76s until 24.752s, abandoned at 24.876s: a19 to a1",
			},
		},
		{
			name:    "both",
			closers: 20, after: 1000, goroutine: true,
			want: []string{
				"1 in closers at 0s until 19.2s, abandoned at 21.6s: c20",
				"1 in closers at 21.6s until 23.52s, abandoned at 23.76s: c19",
				"18 in closers at 23.76s until 24.256s, abandoned at 24.318s: c18 to c1",
				"1 in drain at 24.318s until 24.318s, returned at 24.318s: drain",
				"1000 in after drain at 24.318s until 24.8636s, abandoned at 24.9318s: a1000 to a1",
			},
		},
		{
			name: "a second", timeout: sec,
			closers: 4, after: 1,
			want: []string{
				"1 in closers at 0s until 720ms, abandoned at 810ms: c4",
				"1 in closers at 810ms until 882ms, abandoned at 891ms: c3",
				"2 in closers at 891ms until 934.6ms, abandoned at 940.05ms: c2 to c1",
				"1 in drain at 940.05ms until 940.05ms, returned at 940.05ms: drain",
				"1 in after drain at 940.05ms until 988.01ms, abandoned at 994.005ms: a1",
			},
		},
		{
			name: "ten milliseconds, of which the reserve is one", timeout: 10 * ms,
			closers: 20,
			want: []string{
				"1 in closers at 0s until 7.2ms, abandoned at 8.1ms: c20",
				"1 in closers at 8.1ms until 8.82ms, abandoned at 8.91ms: c19",
				"18 in closers at 8.91ms until 9.782ms, abandoned at 9.891ms: c18 to c1",
				"1 in drain at 9.891ms until 9.891ms, returned at 9.891ms: drain",
			},
		},
		{
			name: "a nanosecond: a reserve of a millisecond, and nothing else", timeout: 1,
			closers: 3, after: 2, goroutine: true,
			want: []string{
				"3 in closers at 0s until 400µs, abandoned at 450µs: c3 to c1",
				"1 in drain at 450µs until 450µs, returned at 450µs: drain",
				"2 in after drain at 450µs until 890µs, abandoned at 945µs: a2 to a1",
			},
		},
		{
			name: "a deadline of ctx", timeout: -1, ctx: 100 * sec,
			closers: 5,
			want: []string{
				"1 in closers at 0s until 1m19.2s, abandoned at 1m29.1s: c5",
				"1 in closers at 1m29.1s until 1m37.02s, abandoned at 1m38.01s: c4",
				"1 in closers at 1m38.01s until 1m38.802s, abandoned at 1m38.901s: c3",
				"2 in closers at 1m38.901s until 1m39.7802s, abandoned at 1m39.8901s: c2 to c1",
				"1 in drain at 1m39.8901s until 1m39.8901s, returned at 1m39.8901s: drain",
			},
		},
		{
			name: "a delay is the first that takes its share", delay: time.Hour,
			closers: 20,
			want: []string{
				"1 in delay at 0s until 19.2s, returned at 19.2s: delay",
				"1 in closers at 19.2s until 23.04s, abandoned at 23.52s: c20",
				"19 in closers at 23.52s until 24.704s, abandoned at 24.852s: c19 to c1",
				"1 in drain at 24.852s until 24.852s, returned at 24.852s: drain",
			},
		},
		{
			name: "Concurrent", concurrent: true,
			closers: 20, after: 3, goroutine: true,
			want: []string{
				"20 in closers at 0s until 19.2s, abandoned at 21.6s: c20 to c1",
				"1 in drain at 21.6s until 23.52s, returned at 23.76s: drain",
				"3 in after drain at 23.76s until 24.752s, abandoned at 24.876s: a3 to a1",
			},
		},
		{
			name: "Concurrent, with a delay", concurrent: true, delay: time.Hour,
			closers: 20, after: 1000, goroutine: true,
			want: []string{
				"1 in delay at 0s until 19.2s, returned at 19.2s: delay",
				"20 in closers at 19.2s until 23.04s, abandoned at 23.52s: c20 to c1",
				"1 in drain at 23.52s until 23.52s, returned at 23.52s: drain",
				"1000 in after drain at 23.52s until 24.704s, abandoned at 24.852s: a1000 to a1",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, h := quietEvent(), newHangers()
				defer close(h.hang)
				q.Timeout, q.Concurrent, q.Delay = test.timeout, test.concurrent, test.delay
				for i := range test.closers {
					h.register(q, fmt.Sprint("c", i+1), nil)
				}
				for i := range test.after {
					h.register(q, fmt.Sprint("a", i+1), nil, quit.AfterDrain())
				}
				if test.goroutine {
					q.AddGoroutine()
				}
				ctx := context.Background()
				if test.ctx > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.ctx)
					defer cancel()
				}
				start := time.Now()
				q.Shutdown(ctx)
				r := q.Report()
				wantWaves(t, r, start, test.want...)
				took, last := time.Since(start), r.Steps[len(r.Steps)-1].End.Sub(start)
				if took != last {
					t.Errorf("Shutdown took %v, want the %v until the end of the last step",
						took, last)
				}
			})
		})
	}
}

// TestReserve uses every relevant number of closers that hang, with every
// limit. Each is called once, and has 2/5 of the reserve with a live context.
// The shutdown ends before its deadline.
func TestReserve(t *testing.T) {
	for _, limit := range []struct{ timeout, ctx, deadline, reserve time.Duration }{
		{timeout: 25 * sec, deadline: 25 * sec, reserve: sec},
		{timeout: sec, deadline: sec, reserve: 100 * ms},
		{timeout: 10 * ms, deadline: 10 * ms, reserve: ms},
		{timeout: 1, deadline: ms, reserve: ms},
		{timeout: 25 * sec, ctx: 3 * sec, deadline: 3 * sec, reserve: 300 * ms},
	} {
		for _, n := range []int{1, 2, 3, 4, 20, 1000} {
			if n == 1000 && limit.timeout != sec {
				continue // TestReserveTimes has such cases
			}
			for _, where := range []string{"closers", "after drain", "both"} {
				for _, concurrent := range []bool{false, true} {
					for _, goroutine := range []bool{false, true} {
						synctest.Test(t, func(t *testing.T) {
							q, h := quietEvent(), newHangers()
							q.Timeout, q.Concurrent = limit.timeout, concurrent
							for i := range n {
								if where == "after drain" || where == "both" && i%2 == 1 {
									h.register(q, fmt.Sprint(i), nil, quit.AfterDrain())
								} else {
									h.register(q, fmt.Sprint(i), nil)
								}
							}
							if goroutine {
								q.AddGoroutine()
							}
							most := max(limit.ctx, time.Hour)
							ctx, cancel := context.WithTimeout(context.Background(), most)
							if limit.ctx > 0 {
								ctx, cancel = context.WithTimeout(
									context.Background(), limit.ctx)
							}
							defer cancel()
							start := time.Now()
							q.Shutdown(ctx)
							if took := time.Since(start); took >= limit.deadline {
								t.Errorf("Shutdown took %v, want less than %v",
									took, limit.deadline)
							}
							h.check(t, n, limit.reserve/5*2)
							close(h.hang)
							if t.Failed() {
								t.Fatalf("%d hang in %s, with %+v, Concurrent %v, a goroutine %v",
									n, where, limit, concurrent, goroutine)
							}
						})
					}
				}
			}
		}
	}
}

// TestReserveOrder checks that the order is total until only the reserve is
// left. Until then no closer begins before the previous one is abandoned. The
// two closers that are left then begin together, and either may be called
// first.
func TestReserveOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, h := quietEvent(), newHangers()
		defer close(h.hang)
		var j journal
		for i := range 4 {
			h.register(q, fmt.Sprint(i), func() {
				j.add(fmt.Sprint(i, " at ", time.Since(h.start)))
			})
		}
		q.GracefulStop()
		want := []string{"0 at 23.76s", "1 at 23.76s", "2 at 21.6s", "3 at 0s"}
		if got := slices.Sorted(slices.Values(j.all())); !slices.Equal(got, want) {
			t.Errorf("what happened, sorted = %q, want %q", got, want)
		}
	})
}

// TestReserveOfQuickClosers uses many closers that return in time, and together
// use up the time. The rest still have the reserve.
func TestReserveOfQuickClosers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		start := time.Now()
		const n = 300
		late := 0
		for range n {
			q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
				time.Sleep(100 * ms)
				if ctx.Err() != nil {
					late++
				}
				return nil
			}))
		}
		if err := q.Shutdown(context.Background()); err != nil || late > 0 {
			t.Errorf("Shutdown() = %v, %d closers were late, want none", err, late)
		}
		// After 236 of them, 400 ms are left before the reserve, and the rest
		// begin at once.
		wantLast := "64 in closers at 23.6s until 24.72s, returned at 23.7s: "
		all := waves(q.Report(), start)
		if got := all[len(all)-2].String(); !strings.HasPrefix(got, wantLast) {
			t.Errorf("the last closers are %s, want %s", got, wantLast)
		}
	})
}

// TestReserveAddedTo registers closers while only the reserve is left. It does
// so in each phase, both inside and outside of running closers. Each closer has
// at least 2/5 of the reserve, even if that makes the shutdown longer.
func TestReserveAddedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, h := quietEvent(), newHangers()
		defer close(h.hang)
		at := func(d time.Duration) { time.Sleep(d - time.Since(h.start)) }
		h.register(q, "a1", func() { h.register(q, "c of a1", nil) }, quit.AfterDrain())
		h.register(q, "c1", func() {
			at(24 * sec)
			h.register(q, "c of c1", nil)
			h.register(q, "a of c1", nil, quit.AfterDrain())
		})
		h.register(q, "c2", nil)
		h.register(q, "c3", nil)
		go func() {
			at(24400 * ms)
			h.register(q, "c at 24.4s", nil)
			at(24450 * ms)
			h.register(q, "a at 24.45s", nil, quit.AfterDrain())
		}()
		q.Shutdown(context.Background())
		h.check(t, 9, 400*ms)
		wantWaves(t, q.Report(), h.start,
			"1 in closers at 0s until 19.2s, abandoned at 21.6s: c3",
			"1 in closers at 21.6s until 23.52s, abandoned at 23.76s: c2",
			"1 in closers at 23.76s until 24.256s, abandoned at 24.318s: c1",
			"1 in closers at 24s until 24.4s, abandoned at 24.45s: c of c1",
			"1 in closers at 24.4s until 24.8s, abandoned at 24.85s: c at 24.4s",
			"1 in drain at 24.85s until 24.85s, returned at 24.85s: drain",
			"3 in after drain at 24.85s until 25.25s, abandoned at 25.3s: a at 24.45s to a1",
			"1 in closers at 24.85s until 25.25s, abandoned at 25.3s: c of a1")
	})
}

// TestReserveOfChild uses a child with more closers that hang than it has time
// for. It ends within its share, so its parent does not abandon it.
func TestReserveOfChild(t *testing.T) {
	for _, test := range []struct {
		name        string
		before      int // closers of the parent that hang before the child's turn
		want, inner []string
	}{
		{
			name: "first",
			want: []string{
				"1 in closers at 0s until 19.2s, returned at 19.0818s: child",
				"1 in closers at 19.0818s until 23.01636s, abandoned at 23.50818s: last",
				"1 in drain at 23.50818s until 23.50818s, returned at 23.50818s: drain",
			},
			inner: []string{
				"1 in closers at 0s until 14.56s, abandoned at 16.38s: c99",
				"1 in closers at 16.38s until 17.836s, abandoned at 18.018s: c98",
				"98 in closers at 18.018s until 18.9636s, abandoned at 19.0818s: c97 to c0",
				"1 in drain at 19.0818s until 19.0818s, returned at 19.0818s: drain",
			},
		},
		{
			name: "in the reserve", before: 4,
			want: []string{
				"1 in closers at 0s until 19.2s, abandoned at 21.6s: p3",
				"1 in closers at 21.6s until 23.52s, abandoned at 23.76s: p2",
				"2 in closers at 23.76s until 24.752s, abandoned at 24.876s: p1 to p0",
				"1 in closers at 23.76s until 24.752s, returned at 24.7411872s: child",
				"1 in closers at 23.76s until 24.752s, abandoned at 24.876s: last",
				"1 in drain at 24.876s until 24.876s, returned at 24.876s: drain",
			},
			inner: []string{
				"1 in closers at 23.76s until 24.47424s, abandoned at 24.56352s: c99",
				"1 in closers at 24.56352s until 24.634944s, abandoned at 24.643872s: c98",
				"98 in closers at 24.643872s until 24.7303744s, " +
					"abandoned at 24.7411872s: c97 to c0",
				"1 in drain at 24.7411872s until 24.7411872s, returned at 24.7411872s: drain",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, child, h := quietEvent(), quietEvent(), newHangers()
				defer close(h.hang)
				h.register(q, "last", nil)
				q.RegisterQuitCloser(child, quit.Name("child"))
				for i := range test.before {
					h.register(q, fmt.Sprint("p", i), nil)
				}
				for i := range 100 {
					h.register(child, fmt.Sprint("c", i), nil)
				}
				q.Shutdown(context.Background())
				wantWaves(t, q.Report(), h.start, test.want...)
				wantWaves(t, child.Report(), h.start, test.inner...)
				r := child.Report()
				h.check(t, test.before+1+100, r.Deadline.Sub(r.Started)/10/5*2)
			})
		})
	}
}

// TestReserveWork checks that the drain ends at once when only the reserve is
// left, and WorkContext with it.
func TestReserveWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, h := quietEvent(), newHangers()
		defer close(h.hang)
		for i := range 4 {
			h.register(q, fmt.Sprint(i), nil)
		}
		var told time.Duration
		q.AddGoroutine()
		go func() {
			<-q.WorkContext().Done()
			told = time.Since(h.start)
		}()
		err := q.Shutdown(context.Background())
		synctest.Wait()
		if want := 24876 * ms; told != want {
			t.Errorf("WorkContext ended after %v, want %v", told, want)
		}
		if !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), "drain: 1 goroutine left after 0s") {
			t.Errorf("Shutdown() = %v, want that a goroutine was left after 0s", err)
		}
	})
}
