//go:build !unix && !windows

package quit_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/gracefulgo/graceful/quit"
)

// TestNoNumbers handles signals on a system that has none, or whose signals
// have no numbers.
func TestNoNumbers(t *testing.T) {
	q := quietEvent()
	stop := q.NotifySignal()
	closed := false
	q.RegisterStopFunc(func() { closed = true })
	q.Fail(&quit.SignalError{Signal: syscall.SIGTERM})
	if err := q.WaitSignal(); err != nil || !closed {
		t.Errorf("WaitSignal() = %v, closed %t, want nil, true", err, closed)
	}
	stop()
	if got := (&quit.SignalError{Signal: os.Interrupt}).ExitCode(); got != 1 {
		t.Errorf("ExitCode() = %d, want 1", got)
	}
}
