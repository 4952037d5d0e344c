//go:build unix

package quittest_test

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quittest"
)

func TestMain(m *testing.M) { process.Main(m, nil) }

// TestSignals has tests of programs that end by a signal, one after the other
// in one process. Nothing of package quit is left after each.
func TestSignals(t *testing.T) {
	for _, test := range []struct {
		name  string
		main  func(q *quit.QuitEvent) // until the end of the test
		fires bool                    // by a signal
	}{
		{name: "WaitSignal", main: waitForUsr1, fires: true},
		{name: "WaitSignal again", main: waitForUsr1, fires: true},
		{name: "NotifySignal", main: func(q *quit.QuitEvent) {
			q.NotifySignal(syscall.SIGUSR1)
			sendUsr1(q)
		}, fires: true},
		{name: "NotifySignal, and no signal", main: func(q *quit.QuitEvent) { q.NotifySignal(syscall.SIGUSR1) }},
		{name: "neither", main: func(*quit.QuitEvent) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := quittest.New(t)
			test.main(q)
			var sig *quit.SignalError
			if got := errors.As(q.Cause(), &sig); got != test.fires {
				t.Errorf("the cause is %v, which is a signal: %v, want %v", q.Cause(), got, test.fires)
			}
		})
		wantNothingLeft(t)
	}
}

func waitForUsr1(q *quit.QuitEvent) {
	go sendUsr1(q)
	quit.WaitSignal(syscall.SIGUSR1)
}

// sendUsr1 sends SIGUSR1 until q has fired. A Go program that does not handle
// it ignores it.
func sendUsr1(q *quit.QuitEvent) {
	for !q.HasFired() {
		syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		time.Sleep(time.Millisecond)
	}
}

// TestBubbleAlone runs the tests with bubbles in a process in which nobody has
// used os/signal before.
func TestBubbleAlone(t *testing.T) {
	process.StartCommand(t, process.Self(t, "-test.run=^TestNewFails$", "-test.timeout=1m")).WantExit(0)
}

// wantNothingLeft wants no goroutine of package quit, now or soon.
func wantNothingLeft(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if all := string(stacks[:runtime.Stack(stacks, true)]); !strings.Contains(all, "graceful/quit.") {
			return
		}
	}
	t.Errorf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
}
