package recipes_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
	"github.com/gracefulgo/graceful/quit"
)

// TestEvery fires during a run that is longer than the period, so that a tick
// is already waiting. The run is finished, and no other begins. A select picks
// either at random, hence the many events.
func TestEvery(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			q := newEvent()
			begun, ended := 0, 0
			recipes.Every(q, time.Second, func(ctx context.Context) error {
				if begun++; begun-ended > 1 {
					t.Error("two runs at once")
				}
				time.Sleep(3500 * time.Millisecond)
				ended++
				return ctx.Err() // cut off?
			})
			time.Sleep(6 * time.Second) // the second run has begun
			if err := q.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if begun != 2 || ended != 2 {
				t.Errorf("%d runs begun, %d ended, want 2 and 2", begun, ended)
			}
		})
	}
}

func TestEveryTimeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		recipes.Every(q, time.Second, func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}, quit.Name("report"))
		time.Sleep(2 * time.Second)
		if err := q.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

// TestEveryHangs uses a run that goes on when its time is over.
func TestEveryHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		recipes.Every(q, time.Second, hang, quit.Name("report"))
		time.Sleep(2 * time.Second)
		wantNamed(t, q, "1 goroutine of report")
		q.WaitGoroutines()
	})
}

func TestEveryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		failure := errors.New("no table")
		recipes.Every(q, time.Second, func(context.Context) error { return failure })
		<-q.Done()
		if q.Cause() != failure {
			t.Errorf("Cause() = %v, want %v", q.Cause(), failure)
		}
		if err := q.Shutdown(context.Background()); !errors.Is(err, failure) {
			t.Errorf("Shutdown() = %v, want %v", err, failure)
		}
	})
}
