package recipes_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
)

func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		pool := recipes.NewPool(q, 3)
		var running, most, started, finished atomic.Int64
		task := func(ctx context.Context) error {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(5 * time.Second)
			running.Add(-1)
			finished.Add(1)
			return ctx.Err() // cut off?
		}
		submitters := newEvent()
		for range 10 {
			submitters.Go(func(ctx context.Context) error {
				for pool.Go(ctx, task) {
					started.Add(1)
				}
				return nil
			})
		}
		time.Sleep(12 * time.Second) // three tasks are halfway, and ten wait for a slot
		q.Fire()
		synctest.Wait()
		if n := submitters.Report().Goroutines; n > 0 {
			t.Errorf("%d wait for a slot after the fire", n)
		}
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if started.Load() != 9 || finished.Load() != 9 || most.Load() != 3 {
			t.Errorf("%d tasks started, %d finished, at most %d at once; want 9, 9, 3",
				started.Load(), finished.Load(), most.Load())
		}
	})
}

func TestPoolCallerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		pool := recipes.NewPool(q, 1)
		pool.Go(context.Background(), func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if pool.Go(ctx, func(context.Context) error { return nil }) {
			t.Error("Go() = true for a caller that has gone")
		}
		// The task is cut off when its time is over, and the error says so.
		if err := q.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

// TestPoolHangs uses a task that goes on when its time is over.
func TestPoolHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		recipes.NewPool(q, 1).Go(context.Background(), hang)
		wantNamed(t, q, "1 goroutine of task")
		q.WaitGoroutines()
	})
}

// hang is work that ignores its context.
func hang(context.Context) error {
	time.Sleep(time.Hour)
	return nil
}

// TestPoolRefused uses a pool with free slots after the event has fired.
func TestPoolRefused(t *testing.T) {
	q := newEvent()
	pool := recipes.NewPool(q, 1)
	q.Fire()
	for range 100 { // select picks either
		if pool.Go(context.Background(), func(context.Context) error { return nil }) {
			t.Fatal("Go() = true after the fire")
		}
	}
	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}
