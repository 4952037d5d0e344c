package recipes_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
)

// A lease that is extended by 3 s each time.
type lease struct {
	expires  time.Time
	last     time.Time // extended
	released time.Time
}

func (l *lease) beat(context.Context) error {
	l.last = time.Now()
	l.expires = l.last.Add(3 * time.Second)
	return nil
}

func (l *lease) release(context.Context) error {
	l.released = time.Now()
	return nil
}

// TestHeartbeat has work that takes far longer to finish than the lease is.
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
				if now := time.Now(); !now.Before(l.expires) {
					t.Errorf("the lease has run out %v ago, and work still uses it", now.Sub(l.expires))
				}
			}
			finished = time.Now()
			return nil
		})
		time.Sleep(5 * time.Second)
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if l.released.Before(finished) || l.last.After(l.released) {
			t.Errorf("last beat %v, work finished %v, released %v: want it in this order",
				l.last, finished, l.released)
		}
		last := l.last
		time.Sleep(time.Minute)
		if l.last != last {
			t.Error("a beat came after the end")
		}
	})
}

// TestHeartbeatTimeUp has work that outlasts the drain: its lease runs out.
func TestHeartbeatTimeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, l := newEvent(), new(lease)
		recipes.Heartbeat(q, time.Second, l.beat)
		expired := make(chan bool, 1)
		q.Go(func(context.Context) error {
			time.Sleep(time.Minute)
			expired <- time.Now().After(l.expires)
			return nil
		})
		if err := q.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v, want %v", err, context.DeadlineExceeded)
		}
		if age := time.Since(l.last); age > 5*time.Second {
			t.Errorf("the last beat came %v before the end", age)
		}
		if !<-expired {
			t.Error("the lease did not run out")
		}
	})
}

// TestHeartbeatFails has beats that hang and fail, again and again.
func TestHeartbeatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, beats := newEvent(), 0
		recipes.Heartbeat(q, time.Second, func(ctx context.Context) error {
			beats++
			<-ctx.Done()
			return ctx.Err()
		})
		time.Sleep(20 * time.Second)
		if q.HasFired() || beats < 5 {
			t.Errorf("after 20 s: %d beats, fired: %v, want 5 or more, and false", beats, q.HasFired())
		}
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
