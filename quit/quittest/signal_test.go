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

// TestSignals tests programs that end by a signal, one after another in one
// process. After each of them, nothing of package quit is left.
func TestSignals(t *testing.T) {
	for _, test := range []struct {
		name  string
		main  func(q *quit.QuitEvent) // until the end of the test
		fires bool                    // whether a signal fires the event
	}{
		{name: "WaitSignal", main: waitForUsr1, fires: true},
		{name: "WaitSignal again", main: waitForUsr1, fires: true},
		{name: "NotifySignal", main: func(q *quit.QuitEvent) {
			q.NotifySignal(syscall.SIGUSR1)
			sendUsr1(q)
		}, fires: true},
		{
			name: "NotifySignal, and no signal",
			main: func(q *quit.QuitEvent) { q.NotifySignal(syscall.SIGUSR1) },
		},
		{name: "neither", main: func(*quit.QuitEvent) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := quittest.New(t)
			test.main(q)
			var sig *quit.SignalError
			if got := errors.As(q.Cause(), &sig); got != test.fires {
				t.Errorf("the cause is %v, which is a signal: %v, want %v",
					q.Cause(), got, test.fires)
			}
		})
		wantNothingLeft(t)
	}
}

func waitForUsr1(q *quit.QuitEvent) {
	go sendUsr1(q)
	quit.WaitSignal(syscall.SIGUSR1)
}

// sendUsr1 sends SIGUSR1 until q has fired. A Go program ignores SIGUSR1 if it
// does not handle it.
func sendUsr1(q *quit.QuitEvent) {
	for !q.HasFired() {
		syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		time.Sleep(time.Millisecond)
	}
}

// TestBubbleAlone runs the tests with bubbles in a process that has not used
// os/signal before.
func TestBubbleAlone(t *testing.T) {
	cmd := process.Self(t, "-test.run=^TestNewFails$", "-test.timeout=1m")
	process.StartCommand(t, cmd).WantExit(0)
}

// wantNothingLeft waits until no goroutine of package quit is left. It fails
// the test if that takes more than a minute.
func wantNothingLeft(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		all := string(stacks[:runtime.Stack(stacks, true)])
		if !strings.Contains(all, "graceful/quit.") {
			return
		}
	}
	t.Errorf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
}
