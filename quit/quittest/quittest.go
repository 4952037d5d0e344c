// Package quittest helps to test code that uses package quit.
package quittest

import (
	"context"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/goid"
	"github.com/gracefulgo/graceful/quit"
)

// timeout is what the shutdown at the end of a test has.
const timeout = 5 * time.Second

// New returns a new event for a test, which is also [quit.GetQuitEvent] until
// the test ends; then the old one is back. At the end of the test it is shut
// down, within 5 seconds unless its Timeout is set by then, and the test fails,
// with the report, if that returned an error or left a goroutine. Signals that
// it handled are no longer handled then. Called twice in a test, the second
// event hides the first until it is shut down.
//
// Since the process has one event at a time, a test that calls New must not run in
// parallel with others: New ends a test that has called t.Parallel, and says
// so. Such a test takes [quit.NewQuitEvent], and hands it to the code that it tests.
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

// stopSignals ends all that q, which has ended, has left of its handlers of
// signals: another one takes their place, and is stopped. In a bubble of
// [testing/synctest] there are none, since os/signal cannot be used there.
func stopSignals(q *quit.QuitEvent) {
	if !goid.InBubble() {
		q.NotifySignal()()
	}
}

// forbidParallel ends the test if it is parallel. [testing.T.Setenv] is what
// knows: it panics in a test that is, or has a parent that is, and has a later call of
// t.Parallel panic. The variable itself means nothing.
func forbidParallel(t testing.TB) {
	t.Helper()
	defer func() {
		t.Helper()
		if v := recover(); v != nil {
			t.Fatal("quittest: New sets the process's event, so a parallel test cannot use it: use quit.NewQuitEvent instead")
		}
	}()
	t.Setenv("QUITTEST", t.Name())
}
