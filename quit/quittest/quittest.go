// Package quittest helps to test code that uses package quit.
package quittest

import (
	"context"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/goid"
	"github.com/gracefulgo/graceful/quit"
)

// timeout limits the shutdown at the end of a test.
const timeout = 5 * time.Second

// New returns a new event for a test. Until the test ends, [quit.GetQuitEvent]
// returns it too. Then the old event is back.
//
// At the end of the test the event is shut down, within 5 seconds unless its
// Timeout is set by then. The test fails, with the report, if the shutdown
// returns an error or leaves a goroutine. The event then no longer handles
// signals. If a test calls New twice, the second event hides the first one
// until the second one is shut down.
//
// The process has one event at a time, so a test that calls New must not run in
// parallel with others. New ends a test that has called t.Parallel, and says
// so. Such a test should create an event with [quit.NewQuitEvent] and pass it
// to the code that it tests.
func New(t testing.TB) *quit.QuitEvent {
	t.Helper()
	forbidParallel(t)
	q := quit.NewQuitEvent()
	old := quit.GetQuitEvent()
	quit.SetQuitEvent(q)
	t.Cleanup(func() {
		t.Helper()
		defer quit.SetQuitEvent(old)
		ctx := context.Background()
		if q.Timeout == 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		err := q.Shutdown(ctx)
		stopSignals(q)
		if r := q.Report(); err != nil || r.Goroutines > 0 {
			t.Errorf("quittest: the shutdown at the end of the test: %v\n%v", err, r)
		}
	})
	return q
}

// stopSignals ends the signal handling that is left after the shutdown of q. It
// makes q handle signals again, and then stop. In a bubble of
// [testing/synctest] nothing is left, since os/signal cannot be used there.
func stopSignals(q *quit.QuitEvent) {
	if !goid.InBubble() {
		q.NotifySignal()()
	}
}

// forbidParallel ends the test if it runs in parallel. It calls
// [testing.T.Setenv], which panics if the test or a parent of it is parallel,
// and which makes a later call to t.Parallel panic. The variable has no
// meaning.
func forbidParallel(t testing.TB) {
	t.Helper()
	defer func() {
		t.Helper()
		if v := recover(); v != nil {
			t.Fatal("quittest: New sets the process's event, " +
				"so a parallel test cannot use it: use quit.NewQuitEvent instead")
		}
	}()
	t.Setenv("QUITTEST", t.Name())
}
