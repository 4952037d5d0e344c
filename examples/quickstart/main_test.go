//go:build unix

package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

func TestMain(m *testing.M) {
	process.Main(m, func() {
		// The program takes signals from its WaitSignal on, which nobody outside can see: one
		// that comes when it serves might be too early.
		quit.GetQuitEvent().NotifySignal()
		fmt.Fprintln(os.Stderr, ready)
		main()
	})
}

const (
	ready     = "takes signals"
	closed    = "worker ended\ndatabase closed\n"
	portTaken = "listen tcp :8080: bind: address already in use"
)

// takePort listens on the port of the program, which others may have for a while.
func takePort(t *testing.T) net.Listener {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		ln, err := net.Listen("tcp", ":8080")
		if err == nil {
			return ln
		}
		if time.Now().After(end) {
			t.Skipf("the program has a port of its own: %v", err)
		}
	}
}

// TestStop stops the program, and wants the worker to end before the database is closed.
func TestStop(t *testing.T) {
	for range 10 {
		takePort(t).Close()
		p := process.Start(t)
		p.AwaitStderr(ready)
		awaitServing(p)
		p.Process.Signal(syscall.SIGTERM) // unless it has ended
		<-p.Exited()
		if strings.Contains(p.Stderr(), portTaken) {
			continue // somebody else was faster
		}
		p.WantExit(0)
		if got := p.Stdout(); got != closed {
			t.Errorf("stdout = %q, want %q", got, closed)
		}
		return
	}
	t.Error("the program does not get a port that was free")
}

// awaitServing waits until the program serves, or somebody else does, or it has ended.
func awaitServing(p *process.Process) {
	for {
		if conn, err := net.Dial("tcp", "127.0.0.1:8080"); err == nil {
			conn.Close()
			return
		}
		select {
		case <-p.Exited():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestPortTaken wants a taken port to end the program in order.
func TestPortTaken(t *testing.T) {
	defer takePort(t).Close()
	p := process.Start(t)
	p.WantExit(1)
	if got := p.Stderr(); !strings.Contains(got, portTaken) {
		t.Errorf("stderr = %q, want it to say why", got)
	}
	if got := p.Stdout(); got != closed {
		t.Errorf("stdout = %q, want %q", got, closed)
	}
}
