package quit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func TestReentrance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		start := time.Now()
		q.RegisterStopFunc(q.GracefulStop)
		q.RegisterQuitCloser(q) // with itself
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			q.GracefulStop()
			done := make(chan error)
			go func() { done <- q.Shutdown(ctx) }() // known by its context
			return errors.Join(q.Shutdown(context.Background()), q.Shutdown(ctx), <-done)
		}))
		q.RegisterStopFunc(func() { q.GracefulStop() }, quit.AfterDrain())
		if err := q.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the shutdown took %v, want none", took)
		}
	})
}

// TestRing has three events close each other, by contexts and by stop funcs,
// shut down by one caller or by one for each at the same time.
func TestRing(t *testing.T) {
	for _, callers := range []int{1, 3} {
		for _, concurrent := range []bool{false, true} {
			for range 50 {
				synctest.Test(t, func(t *testing.T) {
					events := []*quit.QuitEvent{quietEvent(), quietEvent(), quietEvent()}
					start := time.Now()
					for i, q := range events {
						q.Concurrent = concurrent
						next, last := events[(i+1)%3], events[(i+2)%3]
						q.RegisterStopFunc(next.GracefulStop)
						q.RegisterQuitCloser(last)
						q.RegisterQuitCloser(next)
					}
					var wg sync.WaitGroup
					for _, q := range events[:callers] {
						wg.Go(func() {
							if err := q.Shutdown(context.Background()); err != nil {
								t.Errorf("Shutdown() = %v, want nil", err)
							}
						})
					}
					wg.Wait()
					if took := time.Since(start); took != 0 {
						t.Errorf("%d callers: a ring took %v, want none", callers, took)
					}
				})
			}
		}
	}
}

// TestLateRing closes a ring by a registration after the end.
func TestLateRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, ended := quietEvent(), quietEvent()
		start := time.Now()
		ended.GracefulStop()
		q.RegisterStopFunc(func() { ended.RegisterQuitCloser(q) })
		q.RegisterStopFunc(func() {
			ended.RegisterStopFunc(func() {
				ended.RegisterStopFunc(q.GracefulStop) // late in a late one
			})
		})
		slow := quit.Graceful(func() { time.Sleep(1100 * time.Millisecond) }, q.GracefulStop)
		q.RegisterQuitCloser(slow, quit.Timeout(time.Second))
		err := q.Shutdown(context.Background())
		if took := time.Since(start); took != 1100*time.Millisecond || strings.Contains(fmt.Sprint(err), "abandoned") {
			t.Errorf("the shutdown took %v, want the 1.1s of one closer: %v", took, err)
		}
	})
}
