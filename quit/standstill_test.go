package quit_test

import (
	"context"
	"fmt"
	"math/rand"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// still is a shutdown during which the process stands still. Before it does so,
// closers return at once or hang. After that, others need 2/5 of the reserve of
// their event.
type still struct {
	root *quit.QuitEvent
	from time.Duration // after the start of the shutdown
	hang chan struct{} // closed at the end

	// until returns the time when the process goes on. It is given the ends of
	// the times of the steps that run.
	until func(ends []time.Duration) time.Duration

	start time.Time
	mu    sync.Mutex    // nothing is synchronized with an abandoned closer
	to    time.Duration // 0: the process has not stood still
	calls []*stillCall
	want  int // closers
}

// stillCall is a call of a closer.
type stillCall struct {
	name     string
	at, end  time.Duration // end is that of its context
	returned time.Duration // 0: not yet
	reserve  time.Duration // of its event
}

func newStill(root *quit.QuitEvent) *still {
	return &still{root: root, hang: make(chan struct{})}
}

// over reports whether the process has stood still before at.
func (s *still) over(at time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to > 0 && at >= s.to
}

// closer registers a closer with q. It hangs if its name begins with "hang",
// returns at once if it begins with "quick", and else needs its time. If it
// begins with "more", it registers another one when it is called.
func (s *still) closer(q *quit.QuitEvent, name string, opts ...quit.Option) {
	s.mu.Lock()
	s.want++
	s.mu.Unlock()
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		c := &stillCall{name: name, at: time.Since(s.start), reserve: q.Reserve()}
		end, _ := ctx.Deadline()
		if c.end = end.Sub(s.start); ctx.Err() != nil {
			c.end = c.at
		}
		s.mu.Lock()
		s.calls = append(s.calls, c)
		s.mu.Unlock()
		kind, rest, _ := strings.Cut(name, " ")
		if kind == "more" {
			s.closer(q, "need "+rest, opts...)
		}
		switch {
		case kind == "hang":
			<-s.hang
		case kind != "quick" && s.over(c.at):
			time.Sleep(c.reserve / 5 * 2)
		}
		s.mu.Lock()
		c.returned = time.Since(s.start)
		s.mu.Unlock()
		return nil
	}), append(opts, quit.Name(name))...)
}

// run runs the shutdown and checks that every closer was called once before its
// end, that those called after the process has gone on have had 2/5 of the
// reserve, and that it has ended in time.
func (s *still) run(t *testing.T) (err error) {
	t.Helper()
	s.start = time.Now()
	go func() { // ends when the process stands still
		time.Sleep(s.from)
		synctest.Wait()
		if s.root.HasEnded() {
			return
		}
		to := s.until(s.ends(nil, s.root.Report().Steps))
		s.root.StandStill(to - s.from)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.to = to
	}()
	err = s.root.Shutdown(context.Background())
	took := time.Since(s.start)
	s.check(t, took)
	close(s.hang)
	synctest.Wait()
	time.Sleep(time.Hour)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) != s.want {
		t.Errorf("%d calls in all, want %d", len(s.calls), s.want)
	}
	return err
}

// ends appends the ends of the times of the running steps to to.
func (s *still) ends(to []time.Duration, steps []quit.Step) []time.Duration {
	for _, st := range steps {
		if !st.Start.IsZero() && st.End.IsZero() {
			share := st.Deadline.Sub(st.Start)
			to = s.ends(append(to, st.Deadline.Sub(s.start)+share/8), st.Steps)
		}
	}
	return to
}

func (s *still) check(t *testing.T, took time.Duration) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.root.Report()
	limit := r.Deadline.Sub(s.start)
	if s.to > 0 {
		limit = max(limit, s.to+s.root.Reserve())
	}
	if !r.Deadline.IsZero() && took >= limit {
		t.Errorf("Shutdown took %v, want less than %v", took, limit)
	}
	called := make(map[string]int)
	for _, c := range s.calls {
		if called[c.name]++; called[c.name] > 1 {
			t.Errorf("%s was called %d times", c.name, called[c.name])
		}
		if s.to == 0 || c.at < s.to || c.returned > 0 {
			continue
		}
		const rounded = 10 * time.Nanosecond
		if had, want := min(c.end, took)-c.at, c.reserve/5*2-rounded; had < want {
			t.Errorf("%s has had %v from %v until %v, of 2/5 of the reserve %v",
				c.name, had, c.at, c.at+had, want)
		}
	}
	if len(s.calls) != s.want {
		t.Errorf("%d closers were called when Shutdown returned after %v, want %d",
			len(s.calls), took, s.want)
	}
}

var abandonedEvent = regexp.MustCompile(`QuitEvent \([^)]*\): abandoned`)

// TestStandStill makes the process stand still while a nested event is being
// shut down. No closer of the event is left, and each has its time.
func TestStandStill(t *testing.T) {
	for _, test := range []struct {
		name     string
		timeout  time.Duration
		from, to time.Duration
		build    func(s *still, q, child *quit.QuitEvent)
		abandons bool // the parent does not wait for the event any longer
	}{
		{
			name: "until after the deadline", from: sec, to: 40 * sec,
			build: func(s *still, q, child *quit.QuitEvent) { q.RegisterQuitCloser(child) },
		},
		{
			name: "until a moment before the time of the step is over",
			from: sec, to: 21590 * ms,
			build: func(s *still, q, child *quit.QuitEvent) { q.RegisterQuitCloser(child) },
		},
		{
			name: "until a moment after", from: sec, to: 21610 * ms,
			build: func(s *still, q, child *quit.QuitEvent) {
				s.closer(q, "need first")
				q.RegisterQuitCloser(child)
			},
		},
		{
			name: "until shortly before the reserve", from: sec, to: 23200 * ms, abandons: true,
			build: func(s *still, q, child *quit.QuitEvent) { q.RegisterQuitCloser(child) },
		},
		{
			name: "a quick AfterDrain closer of the parent",
			from: sec, to: 40 * sec, abandons: true,
			build: func(s *still, q, child *quit.QuitEvent) {
				s.closer(q, "quick db", quit.AfterDrain())
				q.RegisterQuitCloser(child)
			},
		},
		{
			name: "an AfterDrain closer of the parent that hangs",
			from: sec, to: 40 * sec, abandons: true,
			build: func(s *still, q, child *quit.QuitEvent) {
				s.closer(q, "hang db", quit.AfterDrain())
				q.RegisterQuitCloser(child)
			},
		},
		{
			name: "in the reserve of the parent", from: 23800 * ms, to: 40 * sec,
			build: func(s *still, q, child *quit.QuitEvent) {
				s.closer(q, "need db", quit.AfterDrain())
				q.RegisterQuitCloser(child)
				s.closer(q, "hang p1")
				s.closer(q, "hang p2")
			},
		},
		{
			name: "in the reserve of the parent without others",
			from: 23800 * ms, to: 40 * sec,
			build: func(s *still, q, child *quit.QuitEvent) {
				q.RegisterQuitCloser(child)
				s.closer(q, "hang p1")
				s.closer(q, "hang p2")
			},
		},
		{
			name: "in the reserve of the child", from: 18500 * ms, to: 40 * sec,
			build: func(s *still, q, child *quit.QuitEvent) {
				s.closer(q, "quick db", quit.AfterDrain())
				q.RegisterQuitCloser(child)
			},
		},
		{
			name: "in a chain", from: sec, to: 40 * sec, abandons: true,
			build: func(s *still, q, child *quit.QuitEvent) {
				middle := quietEvent()
				s.closer(middle, "need m", quit.AfterDrain())
				middle.RegisterQuitCloser(child)
				q.RegisterQuitCloser(middle)
			},
		},
		{
			name: "a Timeout of the step", timeout: -1, from: sec, to: 9010 * ms,
			build: func(s *still, q, child *quit.QuitEvent) {
				q.RegisterQuitCloser(child, quit.Timeout(8*sec))
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, child := quietEvent(), quietEvent()
				q.Timeout = test.timeout
				s := newStill(q)
				s.from, s.until = test.from, func([]time.Duration) time.Duration { return test.to }
				for i := range 3 {
					s.closer(child, fmt.Sprint("need a", i), quit.AfterDrain())
					s.closer(child, fmt.Sprint("need c", i))
					s.closer(child, fmt.Sprint("hang c", i))
				}
				test.build(s, q, child)
				err := s.run(t)
				if got := abandonedEvent.MatchString(fmt.Sprint(err)); got != test.abandons {
					t.Errorf("Shutdown() = %v, want that an event is abandoned: %v",
						err, test.abandons)
				}
			})
		})
	}
}

// TestStandStillAnywhere makes the process stand still at any time of the
// shutdown of any tree of events.
func TestStandStillAnywhere(t *testing.T) {
	seeds := 400
	if testing.Short() || quit.UnderRace {
		seeds = 100
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewSource(int64(seed)))
			root := quietEvent()
			root.Timeout = []time.Duration{0, 3 * sec, 12 * sec, 100 * ms, 60 * sec}[r.Intn(5)]
			s := newStill(root)
			s.tree(r, root, 0)
			total := root.Timeout
			if total == 0 {
				total = quit.DefaultTimeout
			}
			part := func(of time.Duration) time.Duration {
				return time.Duration(r.Float64() * float64(of))
			}
			s.from = part(total)
			if r.Intn(2) == 0 { // or most steps are over
				s.from /= 10
			}
			s.until = func(ends []time.Duration) time.Duration {
				if len(ends) == 0 || r.Intn(4) == 0 {
					return s.from + 1 + part(total+total/2)
				}
				near := ends[r.Intn(len(ends))] + part(total/8) - total/16
				return max(near, s.from+1)
			}
			s.run(t)
			if t.Failed() {
				t.Logf("seed %d: the process stands still from %v to %v, Timeout %v",
					seed, s.from, s.to, root.Timeout)
				t.Logf("%v", root.Report())
			}
		})
		if t.Failed() {
			return
		}
	}
}

// tree registers some closers with q, and events with more of them.
func (s *still) tree(r *rand.Rand, q *quit.QuitEvent, depth int) {
	q.Concurrent = r.Intn(4) == 0
	for i := range 1 + r.Intn(4) {
		var opts []quit.Option
		if r.Intn(3) == 0 {
			opts = append(opts, quit.AfterDrain())
		}
		name := fmt.Sprint(s.want, ".", depth, ".", i)
		switch r.Intn(9) {
		case 0, 1:
			s.closer(q, "hang "+name, opts...)
		case 2:
			s.closer(q, "quick "+name, opts...)
		case 3:
			s.closer(q, "need "+name, opts...)
		case 4:
			s.closer(q, "more "+name, opts...)
		default:
			if depth == 3 {
				continue
			}
			child := quietEvent()
			child.Timeout = []time.Duration{0, 0, -1, 5 * sec, 500 * ms}[r.Intn(5)]
			if r.Intn(4) == 0 {
				opts = append(opts, quit.Timeout([]time.Duration{4 * sec, sec, 50 * ms}[r.Intn(3)]))
			}
			s.tree(r, child, depth+1)
			q.RegisterQuitCloser(child, opts...)
		}
	}
}
