package quit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// TestDrainIsExact makes counted goroutines come and go, and count others,
// while several waits and the drain run. A wait must return, and must not do so
// while a goroutine that was counted before it still runs.
func TestDrainIsExact(t *testing.T) {
	for range 100 {
		q := quietEvent()
		var live atomic.Int64
		var spawn func(depth int)
		spawn = func(depth int) {
			q.AddGoroutine()
			live.Add(1)
			go func() {
				defer q.DoneGoroutine()
				defer live.Add(-1)
				if depth > 0 {
					for range 1 + rand.IntN(2) {
						spawn(depth - 1) // counted while this one still is
					}
				}
			}()
		}
		for range 8 {
			spawn(6)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				q.WaitGoroutines()
				if n := live.Load(); n != 0 {
					t.Errorf("WaitGoroutines returned with %d goroutines left", n)
				}
			})
		}
		wg.Go(func() {
			if err := q.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown() = %v", err)
			}
			if n := live.Load(); n != 0 {
				t.Errorf("the drain ended with %d goroutines left", n)
			}
		})
		wg.Wait()
	}
}

// TestCountAcrossStripes calls AddGoroutine in some goroutines and
// DoneGoroutine in others, so that single stripes fall below zero while the sum
// does not.
func TestCountAcrossStripes(t *testing.T) {
	q := quietEvent()
	const pairs, each = 16, 1000
	var wg sync.WaitGroup
	for range pairs {
		counted := make(chan struct{}, 64)
		wg.Go(func() {
			for range each {
				q.AddGoroutine()
				counted <- struct{}{}
			}
			close(counted)
		})
		wg.Go(func() {
			for range counted {
				q.DoneGoroutine()
			}
		})
	}
	q.WaitGoroutines() // closes the stripes while they are in use
	wg.Wait()
	q.AddGoroutine()
	q.DoneGoroutine()
	if err := q.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v, want nil", err)
	}
}

// TestFireBetweenLookAndAdd makes the event fire after TryAddGoroutine has seen
// that it has not fired, and before it counts. By then the drain may already be
// over. The add is the first one of the event, which HoldCounter blocks. There
// is one processor, so the test goes on when the add blocks, or if its
// goroutine is preempted just before that. In the latter case nothing is
// counted in the end, and the test tries again.
func TestFireBetweenLookAndAdd(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const tries = 100
	for name, let := range map[string]func(q *quit.QuitEvent) (in bool){
		"TryAddGoroutine": (*quit.QuitEvent).TryAddGoroutine,
		"Go": func(q *quit.QuitEvent) bool {
			return q.Go(func(context.Context) error {
				t.Error("a goroutine was started")
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range tries {
				q := quietEvent()
				release := q.HoldCounter()
				began, in := make(chan struct{}), make(chan bool, 1)
				go func() {
					close(began)
					in <- let(q)
				}()
				<-began
				q.Fire()
				release()
				if <-in {
					t.Errorf("%s() = true, and was counted after the fire", name)
				}
				if n := q.Report().Goroutines; n != 0 {
					t.Errorf("%d are counted, want none", n)
				}
				if q.HasCounted() {
					return // it looked before the fire, and added after it
				}
				t.Log("the fire came before the look, once more")
			}
			t.Errorf("the fire came before the look, %d times of %d", tries, tries)
		})
	}
}

// TestTryAddGoroutineNoWindow looks for a goroutine that is admitted but not
// awaited, and for one that is admitted after the fire.
func TestTryAddGoroutineNoWindow(t *testing.T) {
	for range 100 {
		q := quietEvent()
		var live atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					fired := q.HasFired()
					if !q.TryAddGoroutine() {
						if !q.HasFired() {
							t.Error("TryAddGoroutine() = false before the fire")
						}
						return
					}
					if fired {
						t.Error("TryAddGoroutine() = true after the fire")
					}
					live.Add(1)
					live.Add(-1)
					q.DoneGoroutine()
					yield()
				}
			})
		}
		wg.Go(func() {
			// If this goroutine is admitted, the drain waits for it.
			if q.TryAddGoroutine() {
				live.Add(1)
				go func() {
					defer q.DoneGoroutine()
					defer live.Add(-1)
					<-q.Done()
				}()
			}
		})
		wg.Go(func() {
			q.GracefulStop()
			if n := live.Load(); n != 0 {
				t.Errorf("the shutdown ended with %d of those that were let in", n)
			}
		})
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}

// TestTryAddGoroutineTurnedAway makes the drain end although goroutines call
// TryAddGoroutine all the time.
func TestTryAddGoroutineTurnedAway(t *testing.T) {
	q := quietEvent()
	q.Fire()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !isClosed(stop) {
				if q.TryAddGoroutine() {
					t.Error("TryAddGoroutine() = true after the fire")
					return
				}
				yield()
			}
		})
	}
	if err := q.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v, want nil", err)
	}
	close(stop)
	wg.Wait()
}

// TestTryAddGoroutineLooksFirst calls TryAddGoroutine after the fire. It must
// not count even for a moment, or refused calls would hold up the drain.
func TestTryAddGoroutineLooksFirst(t *testing.T) {
	q := quietEvent()
	q.Fire()
	if q.TryAddGoroutine() || q.HasCounted() {
		t.Errorf("TryAddGoroutine has counted after the fire")
	}
}

func TestAddGoroutineDuringDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.AddGoroutine()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			q.GracefulStop()
		}()
		synctest.Wait() // the drain waits for the first
		q.AddGoroutine()
		q.DoneGoroutine()
		synctest.Wait()
		if isClosed(ended) {
			t.Fatal("the drain ended with a goroutine left")
		}
		q.DoneGoroutine()
		<-ended
	})
}

// TestWaitGoroutinesCountedAgain counts another goroutine at the moment when
// the count falls to zero. A wait that is woken by the zero must look again.
// There is one processor, so no other goroutine runs between the two calls
// unless this one is preempted there. A wait that does not look again ends
// early in every round.
func TestWaitGoroutinesCountedAgain(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const rounds = 100
	early := 0
	for range rounds {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			q.AddGoroutine()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				q.WaitGoroutines()
			}()
			synctest.Wait()
			q.DoneGoroutine()
			q.AddGoroutine()
			synctest.Wait()
			if isClosed(ended) {
				early++
			}
			q.DoneGoroutine()
			<-ended
		})
	}
	if early == rounds {
		t.Errorf("the wait ended with a goroutine counted, %d times of %d", early, rounds)
	}
}

func TestWaitGoroutinesBeforeFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.WaitGoroutines() // nothing to wait for
		for range 3 {      // any number of times
			q.AddGoroutine()
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(q.WaitGoroutines)
			}
			synctest.Wait()
			q.DoneGoroutine()
			wg.Wait()
		}
		if q.HasFired() {
			t.Error("WaitGoroutines fired the event")
		}
	})
}

func TestCounterBelowZero(t *testing.T) {
	q := quietEvent()
	q.AddGoroutine()
	for range 3 {
		q.DoneGoroutine()
	}
	q.WaitGoroutines()
	err := q.Shutdown(t.Context())
	if err == nil || !strings.Contains(err.Error(), "2 times") ||
		!strings.HasPrefix(err.Error(), "quit: DoneGoroutine ") {
		t.Errorf("Shutdown() = %v, want it to tell of 2 calls too many", err)
	}
}

func TestDoneHappensBefore(t *testing.T) {
	for range 200 {
		q := quietEvent()
		written := make([]int, 4)
		for i := range written {
			q.AddGoroutine()
			go func() {
				defer q.DoneGoroutine()
				written[i] = 1
			}()
		}
		q.GracefulStop()
		for i, w := range written { // a race, unless DoneGoroutine synchronizes
			if w != 1 {
				t.Fatalf("goroutine %d: what it wrote before DoneGoroutine "+
					"is not seen after the drain", i)
			}
		}
	}
}

func TestNoAllocs(t *testing.T) {
	q := quietEvent()
	q.AddGoroutine() // the stripes are allocated now
	q.Done()
	for name, f := range map[string]func(){
		"AddGoroutine, DoneGoroutine":    func() { q.AddGoroutine(); q.DoneGoroutine() },
		"TryAddGoroutine, DoneGoroutine": func() { q.TryAddGoroutine(); q.DoneGoroutine() },
		"HasFired":                       func() { q.HasFired() },
		"Done":                           func() { q.Done() },
	} {
		// Goroutines that other tests have started may still end, and allocate,
		// now.
		n := testing.AllocsPerRun(100, f)
		for range 10 {
			n = min(n, testing.AllocsPerRun(100, f))
		}
		if n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func TestGoWaitsForStarted(t *testing.T) {
	for range 100 {
		q := quietEvent()
		var started, ended atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				// Bounded, or these goroutines could keep the shutdown from
				// running.
				for range 300 {
					if !q.Go(func(context.Context) error {
						runtime.Gosched()
						ended.Add(1)
						return nil
					}) {
						return
					}
					started.Add(1)
				}
			})
		}
		for started.Load() == 0 {
			runtime.Gosched() // until the shutdown comes in the middle
		}
		if err := q.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		awaited := ended.Load()
		wg.Wait()
		if started.Load() != awaited {
			t.Fatalf("Go reported true %d times, and %d of them had ended after the shutdown",
				started.Load(), awaited)
		}
	}
}

var _ quit.QuitCloser = (*quit.QuitEvent)(nil)

// TestGiveUpCounts makes a drain give up. It reports the goroutines that are
// counted at that time, not those that were counted when it began.
func TestGiveUpCounts(t *testing.T) {
	for _, test := range []struct {
		name string
		then func(q *quit.QuitEvent) // during the drain, which begins with three
		want string
	}{
		{name: "as many", then: func(*quit.QuitEvent) {}, want: "3 goroutines left"},
		{
			name: "less",
			then: func(q *quit.QuitEvent) { q.DoneGoroutine(); q.DoneGoroutine() },
			want: "1 goroutine left",
		},
		{
			name: "more",
			then: func(q *quit.QuitEvent) { q.AddGoroutine() },
			want: "4 goroutines left",
		},
		{name: "others", then: func(q *quit.QuitEvent) {
			q.AddGoroutine()
			for range 3 {
				q.DoneGoroutine()
			}
			q.AddGoroutine()
		}, want: "2 goroutines left"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quietEvent()
				for range 3 {
					q.AddGoroutine()
				}
				go func() {
					<-q.Done()
					// The drain looks at the stacks at 18 s, and its share ends
					// at 19.2 s.
					time.Sleep(18500 * ms)
					test.then(q)
				}()
				err := q.Shutdown(t.Context())
				if !strings.Contains(fmt.Sprint(err), "drain: "+test.want) {
					t.Errorf("Shutdown() = %v, want %q", err, test.want)
				}
			})
		})
	}
}

// TestCountOnceClosed counts on many stripes before and after a wait closes
// them. A report must not count the marks of closed stripes, nor the value of a
// late operation on one.
func TestCountOnceClosed(t *testing.T) {
	q := quietEvent()
	want := func(n int) {
		t.Helper()
		if got := q.Report().Goroutines; got != n {
			t.Errorf("Report().Goroutines = %d, want %d", got, n)
		}
	}
	want(0)
	onManyStacks(q.AddGoroutine)
	want(100)
	onManyStacks(q.DoneGoroutine)
	want(0)
	q.WaitGoroutines()
	want(0)
	q.AddGoroutine()
	want(1)
	onManyStacks(q.AddGoroutine)
	want(101)
	onManyStacks(q.DoneGoroutine)
	q.DoneGoroutine()
	want(0)
	q.WaitGoroutines()
	q.AddGoroutine()
	want(1)
}

// onManyStacks calls f in a hundred goroutines and waits for them.
func onManyStacks(f func()) {
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(f)
	}
	wg.Wait()
}

// TestTurnedAwayTouchesNothing calls TryAddGoroutine and Go after the fire.
// They look before they count, so refused calls do not delay the drain.
func TestTurnedAwayTouchesNothing(t *testing.T) {
	q := quietEvent()
	q.Fire()
	if q.TryAddGoroutine() || q.Go(func(context.Context) error { return nil }) {
		t.Error("TryAddGoroutine or Go = true after the fire")
	}
	if q.HasCounted() {
		t.Error("the counter was touched by those that were turned away")
	}
}

// TestNegativeIsNotShown uses a counter below zero. The report shows 0, and the
// error of the shutdown names the mistake.
func TestNegativeIsNotShown(t *testing.T) {
	for _, waited := range []bool{false, true} {
		q := quietEvent()
		if waited {
			q.WaitGoroutines()
		}
		q.DoneGoroutine()
		q.DoneGoroutine()
		if n := q.Report().Goroutines; n != 0 {
			t.Errorf("Report().Goroutines = %d, want 0", n)
		}
		text := q.Report().String()
		if strings.Contains(text, "-1") || strings.Contains(text, "-2") {
			t.Errorf("the report shows a negative number:\n%s", text)
		}
		err := q.Shutdown(t.Context())
		want := "quit: DoneGoroutine was called 2 times more than AddGoroutine"
		if fmt.Sprint(err) != want {
			t.Errorf("Shutdown() = %v, want %q", err, want)
		}
		if r := q.Report(); r.Goroutines != 0 || strings.Contains(r.String(), "-2") {
			t.Errorf("the report after the end shows a negative number:\n%s", r)
		}
	}
}
