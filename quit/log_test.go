package quit_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		hang := make(chan struct{})
		defer close(hang)
		q.RegisterStopFunc(func() { <-hang }, quit.Name("hung"))
		q.RegisterStopFunc(func() { panic("boom") }, quit.Name("panicky"))
		q.Fail(errors.New("the reason"))
		q.GracefulStop()
		log := logged()
		for _, want := range []string{
			`level=INFO msg="quit: fired" cause="the reason"`,
			`level=ERROR msg="quit: step failed" step=panicky site=quit/log_test.go:`,
			`panic: boom`,
			`runtime/panic.go`,
			`level=DEBUG msg="quit: step begins" step=hung site=quit/log_test.go:`,
			`level=WARN msg="quit: step still running" step=hung site=quit/log_test.go:`,
			`for=5s left=16.6s`, `for=10s left=11.6s`, `for=20s left=1.6s`,
			`level=ERROR msg="quit: step abandoned" step=hung`,
			`level=DEBUG msg="quit: step ended" step=drain`,
			`level=INFO msg="quit: stopped" took=21.6s failures=3`,
		} {
			if !strings.Contains(log, want) {
				t.Errorf("the log does not have %q", want)
			}
		}
		if n := strings.Count(log, "still running"); n != 3 {
			t.Errorf("%d warnings of a step still running, want 3", n)
		}
		if t.Failed() {
			t.Log(log)
		}
	})
}

// callingHandler is a log handler that calls the event it is the handler of,
// but not in the calls that it causes itself.
type callingHandler struct {
	slog.Handler
	calls *atomic.Int32
	call  func()
}

func (h callingHandler) Handle(context.Context, slog.Record) error {
	if h.calls.Add(1) <= 20 {
		h.call()
	}
	return nil
}

func (h callingHandler) Enabled(context.Context, slog.Level) bool { return true }

func TestLogHandlerMayCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quit.NewQuitEvent()
		h := callingHandler{Handler: slog.DiscardHandler, calls: new(atomic.Int32), call: func() {
			q.RegisterStopFunc(func() {})()
			q.TryAddGoroutine()
			q.DoneGoroutine()
			q.Cause()
			q.Fail(context.Canceled)
		}}
		q.Logger = slog.New(h)
		q.RegisterCloser(nil)
		q.RegisterStopFunc(func() { panic("boom") })
		q.GracefulStop()
		if h.calls.Load() < 5 {
			t.Errorf("the handler was called %d times", h.calls.Load())
		}
	})
}

// TestLogHandlerMayShutDown has a log handler call the shutdown at every message:
// it must not wait for a step that waits for it.
func TestLogHandlerMayShutDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quit.NewQuitEvent()
		h := callingHandler{Handler: slog.DiscardHandler, calls: new(atomic.Int32), call: q.GracefulStop}
		q.Logger = slog.New(h)
		hang := make(chan struct{})
		defer close(hang)
		called := false
		q.RegisterStopFunc(func() { called = true })
		q.RegisterStopFunc(func() { <-hang })
		q.Go(func(ctx context.Context) error { <-ctx.Done(); panic("boom") })
		start := time.Now()
		q.GracefulStop()
		if took := time.Since(start); took != 21600*time.Millisecond || !called {
			t.Errorf("the shutdown took %v, want 21.6s; the last closer was called: %v", took, called)
		}
	})
}
