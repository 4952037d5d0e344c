package quit_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/gracefulgo/graceful/quit"
)

func TestEventZeroValue(t *testing.T) {
	for name, e := range map[string]*quit.Event{"zero": {}, "NewEvent": quit.NewEvent()} {
		if e.HasFired() {
			t.Errorf("%s: HasFired() = true before the fire", name)
		}
		select {
		case <-e.Done():
			t.Errorf("%s: Done is closed before the fire", name)
		default:
		}
		if !e.Fire() {
			t.Errorf("%s: the first Fire() = false, want true", name)
		}
		if e.Fire() {
			t.Errorf("%s: the second Fire() = true, want false", name)
		}
		if !e.HasFired() {
			t.Errorf("%s: HasFired() = false after the fire", name)
		}
		<-e.Done()
	}
}

func TestEventFiredBeforeDoneIsAsked(t *testing.T) {
	var e quit.Event
	e.Fire()
	<-e.Done()
	if done := e.Done(); e.Done() != done {
		t.Error("Done() is not always the same channel")
	}
}

// fireable has the methods that Event and QuitEvent share.
type fireable interface {
	Fire() bool
	HasFired() bool
	Done() <-chan struct{}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestFireOnce fires one event from many goroutines.
func TestFireOnce(t *testing.T) {
	for range 200 {
		for _, e := range []fireable{new(quit.Event), quietEvent()} {
			var fired atomic.Int32
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					if e.Fire() {
						fired.Add(1)
					}
					if !e.HasFired() || !isClosed(e.Done()) {
						t.Error("after Fire returned, HasFired is false or Done is open")
					}
				})
			}
			wg.Wait()
			if n := fired.Load(); n != 1 {
				t.Fatalf("%d calls of Fire returned true, want 1", n)
			}
		}
	}
}

// TestHasFiredWaits asks in the middle of a fire, when Done is about to be
// closed.
func TestHasFiredWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := quit.NewEvent()
		announce := e.BeginFire()
		go func() {
			if !e.HasFired() || !isClosed(e.Done()) {
				t.Error("HasFired() does not agree with Done")
			}
		}()
		synctest.Wait()
		announce()
	})
}

// TestFiredDoneRace looks for a goroutine that sees one sign of the fire
// without another. The first package of this kind failed such a test in every
// seventh run.
func TestFiredDoneRace(t *testing.T) {
	failure := errors.New("failure")
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for range rounds {
		q := quietEvent()
		e := quit.NewEvent()
		ctx := q.Context()
		start := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			<-start
			q.Fail(failure)
			e.Fire()
		})
		// Each observer spins until it sees one sign, and then checks all
		// others.
		observe := func(sign func() bool, others func()) {
			wg.Go(func() {
				<-start
				for !sign() {
					runtime.Gosched() // there may be fewer processors than observers
				}
				others()
			})
		}
		all := func(sign string) func() {
			return func() {
				if !q.HasFired() {
					t.Errorf("%s, but HasFired() = false", sign)
				}
				if !isClosed(q.Done()) {
					t.Errorf("%s, but Done is open", sign)
				}
				if ctx.Err() == nil {
					t.Errorf("%s, but Context().Err() = nil", sign)
				}
				if q.Cause() != failure {
					t.Errorf("%s, but Cause() = %v, want %v", sign, q.Cause(), failure)
				}
			}
		}
		observe(q.HasFired, all("HasFired"))
		observe(func() bool { return isClosed(q.Done()) }, all("Done closed"))
		observe(func() bool { return ctx.Err() != nil }, all("Context cancelled"))
		observe(func() bool { return q.Cause() != nil }, all("Cause set"))
		observe(e.HasFired, func() {
			if !isClosed(e.Done()) {
				t.Error("Event.HasFired, but Done is open")
			}
		})
		observe(func() bool { return isClosed(e.Done()) }, func() {
			if !e.HasFired() {
				t.Error("Event.Done is closed, but HasFired() = false")
			}
		})
		close(start)
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}

// TestFireHappensBefore fails under the race detector unless the fire is
// synchronized before every observation of it.
func TestFireHappensBefore(t *testing.T) {
	for range 100 {
		q := quietEvent()
		var written int
		go func() {
			written = 1
			q.Fire()
		}()
		var wg sync.WaitGroup
		read := func() {
			if written != 1 {
				t.Error("what was written before Fire is not seen after it")
			}
		}
		wg.Go(func() { <-q.Done(); read() })
		wg.Go(func() { <-q.Context().Done(); read() })
		wg.Go(func() {
			for !q.HasFired() {
				runtime.Gosched()
			}
			read()
		})
		wg.Wait()
	}
}

func TestCause(t *testing.T) {
	failure := errors.New("failure")
	sig := &quit.SignalError{}
	for _, test := range []struct {
		name string
		fire func(q *quit.QuitEvent) bool
		want error
	}{
		{name: "Fire", fire: (*quit.QuitEvent).Fire, want: context.Canceled},
		{
			name: "Fail(nil)",
			fire: func(q *quit.QuitEvent) bool { return q.Fail(nil) },
			want: context.Canceled,
		},
		{
			name: "Fail(err)",
			fire: func(q *quit.QuitEvent) bool { return q.Fail(failure) },
			want: failure,
		},
		{
			name: "Fail(signal)",
			fire: func(q *quit.QuitEvent) bool { return q.Fail(sig) },
			want: sig,
		},
		{
			name: "GracefulStop",
			fire: func(q *quit.QuitEvent) bool { q.GracefulStop(); return true },
			want: context.Canceled,
		},
		{
			name: "Shutdown",
			fire: func(q *quit.QuitEvent) bool { return q.Shutdown(t.Context()) == nil },
			want: context.Canceled,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := quietEvent()
			if err := q.Cause(); err != nil {
				t.Errorf("Cause() = %v before the fire, want nil", err)
			}
			ctx := q.Context()
			if !test.fire(q) {
				t.Error("the call that fired reports false")
			}
			if q.Fail(errors.New("later")) || q.Fire() {
				t.Error("a later fire reports true")
			}
			if got := q.Cause(); got != test.want {
				t.Errorf("Cause() = %v, want %v", got, test.want)
			}
			if got := context.Cause(ctx); got != test.want {
				t.Errorf("context.Cause(Context()) = %v, want %v", got, test.want)
			}
			if got := ctx.Err(); got != context.Canceled {
				t.Errorf("Context().Err() = %v, want %v", got, context.Canceled)
			}
		})
	}
}
