package recipes_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
)

// lease is a lease that each beat extends by 3 s.
type lease struct {
	mu       sync.Mutex // guards the fields below
	last     time.Time  // extended
	released time.Time
}

func (l *lease) beat(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = time.Now()
	return nil
}

func (l *lease) release(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = time.Now()
	return nil
}

// times returns when the lease was last extended, and when it was released.
func (l *lease) times() (last, released time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, l.released
}

func (l *lease) hasRunOut() bool {
	last, _ := l.times()
	return time.Since(last) >= 3*time.Second
}

// TestHeartbeat uses work that goes on after the fire for far longer than the
// lease.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, l := newEvent(), new(lease)
		recipes.ReleaseLease(q, l.release)
		recipes.Heartbeat(q, time.Second, l.beat)
		var finished time.Time
		q.Go(func(ctx context.Context) error {
			<-ctx.Done()
			for range 10 {
				time.Sleep(time.Second + time.Millisecond)
				if l.hasRunOut() {
					t.Error("the lease has run out, and work still uses it")
				}
			}
			finished = time.Now()
			return nil
		})
		time.Sleep(5 * time.Second)
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		last, released := l.times()
		if released.Before(finished) || last.After(released) {
			t.Errorf("last beat %v, work finished %v, released %v: want it in this order",
				last, finished, released)
		}
		time.Sleep(time.Minute)
		if later, _ := l.times(); later != last {
			t.Error("a beat came after the end")
		}
	})
}

// TestHeartbeatTimeUp uses work that outlasts the drain: its lease runs out.
func TestHeartbeatTimeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, l := newEvent(), new(lease)
		recipes.Heartbeat(q, time.Second, l.beat)
		q.Go(func(context.Context) error {
			time.Sleep(time.Minute)
			if !l.hasRunOut() {
				t.Error("the lease did not run out")
			}
			return nil
		})
		if err := q.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v, want %v", err, context.DeadlineExceeded)
		}
		if l.hasRunOut() {
			t.Error("the last beat came long before the drain was given up")
		}
		q.WaitGoroutines()
	})
}

// TestHeartbeatFails uses beats that hang and fail, again and again.
func TestHeartbeatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var beats atomic.Int64
		q := newEvent()
		recipes.Heartbeat(q, time.Second, func(ctx context.Context) error {
			beats.Add(1)
			<-ctx.Done()
			return ctx.Err()
		})
		time.Sleep(20 * time.Second)
		if n := beats.Load(); q.HasFired() || n < 5 {
			t.Errorf("after 20 s: %d beats, fired: %v, want 5 or more, and false", n, q.HasFired())
		}
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestHeartbeatIsFinished uses a beat under way when the drain is over.
func TestHeartbeatIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		finished := false
		recipes.Heartbeat(q, time.Second, func(ctx context.Context) error {
			select {
			case <-time.After(time.Second / 2):
				finished = true
			case <-ctx.Done():
				t.Errorf("the beat was cut off: %v", context.Cause(ctx))
			}
			return nil
		})
		time.Sleep(time.Second + time.Second/4)
		if err := q.Shutdown(context.Background()); err != nil || !finished {
			t.Errorf("Shutdown() = %v, the beat is finished: %v; want nil, true", err, finished)
		}
	})
}
