// Package quittest helps to test code that uses package quit.
package quittest

import (
	"context"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// timeout is what the shutdown at the end of a test has.
const timeout = 5 * time.Second

// New returns a new event for a test, which is also [quit.GetQuitEvent] until the
// test ends; then the old one is back. At the end of the test it is shut down, within
// 5 seconds unless its Timeout is set by then, and the test fails, with the report, if
// that returned an error or left a goroutine. Called twice in a test, the second event
// hides the first until it is shut down.
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
		if r := q.Report(); err != nil || r.Goroutines > 0 {
			t.Errorf("quittest: the shutdown at the end of the test: %v\n%v", err, r)
		}
	})
	return q
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
