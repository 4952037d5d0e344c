package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
	"github.com/gracefulgo/graceful/quit"
)

func TestReleaseLease(t *testing.T) {
	for _, test := range []struct {
		name     string
		act      func(q *quit.QuitEvent) // as the leader
		released bool
		fails    bool
	}{
		{"in time", func(*quit.QuitEvent) { time.Sleep(10 * time.Second) }, true, false},
		{"hangs", func(*quit.QuitEvent) { time.Sleep(time.Minute) }, false, true},
		{"is cut off", func(q *quit.QuitEvent) { <-q.WorkContext().Done() }, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, l := newEvent(), new(lease)
				var acts atomic.Bool
				acts.Store(true)
				recipes.ReleaseLease(q, func(ctx context.Context) error {
					if acts.Load() {
						t.Error("released while one acts as the leader")
					}
					return l.release(ctx)
				})
				q.Go(func(context.Context) error {
					test.act(q)
					acts.Store(false)
					return nil
				})
				err := q.Shutdown(context.Background())
				_, released := l.times()
				if got := !released.IsZero(); got != test.released {
					t.Errorf("released = %v, want %v", got, test.released)
				}
				if (err != nil) != test.fails {
					t.Errorf("Shutdown() = %v, want an error: %v", err, test.fails)
				}
				if !test.released && !strings.Contains(fmt.Sprint(err), "not released") {
					t.Errorf("Shutdown() = %v, want in it that the lease was not released", err)
				}
				q.WaitGoroutines()
			})
		})
	}
}

// TestReleaseLeaseOfItsOwnEvent makes another part of the program hang. The
// lease is released nonetheless.
func TestReleaseLeaseOfItsOwnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, leader, l := newEvent(), newEvent(), new(lease)
		q.Go(func(context.Context) error { time.Sleep(time.Minute); return nil })
		q.RegisterQuitCloser(leader, quit.Name("leader"))
		recipes.ReleaseLease(leader, l.release)
		leader.Go(func(ctx context.Context) error { <-ctx.Done(); return nil })
		err := q.Shutdown(context.Background())
		_, released := l.times()
		if !errors.Is(err, context.DeadlineExceeded) || released.IsZero() {
			t.Errorf("Shutdown() = %v, released: %v; want %v, and released",
				err, !released.IsZero(), context.DeadlineExceeded)
		}
		q.WaitGoroutines()
	})
}
