//go:build unix

package main

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

func TestMain(m *testing.M) {
	process.Main(m, func() {
		// The program takes signals from its WaitSignal on, which nobody outside can see: one
		// that comes when it serves might be too early.
		quit.GetQuitEvent().NotifySignal()
		main()
	})
}

const closed = "worker ended\ndatabase closed\n"

// TestStop stops the program, and wants the worker to end before the database is closed.
func TestStop(t *testing.T) {
	ln, err := net.Listen("tcp", ":8080")
	if err != nil {
		t.Skipf("the program has a port of its own: %v", err)
	}
	ln.Close()
	p := process.Start(t)
	for conn := net.Conn(nil); conn == nil; {
		select {
		case <-p.Exited():
			t.Fatalf("it does not serve: %s", p.Stderr())
		default:
		}
		if conn, _ = net.Dial("tcp", "127.0.0.1:8080"); conn != nil {
			conn.Close()
		}
	}
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	if got := p.Stdout(); got != closed {
		t.Errorf("stdout = %q, want %q", got, closed)
	}
}

// TestPortTaken wants a taken port to end the program in order.
func TestPortTaken(t *testing.T) {
	if ln, err := net.Listen("tcp", ":8080"); err == nil {
		defer ln.Close() // else somebody else has it
	}
	p := process.Start(t)
	p.WantExit(1)
	if got := p.Stderr(); !strings.Contains(got, "listen tcp :8080: bind: address already in use") {
		t.Errorf("stderr = %q, want it to say why", got)
	}
	if got := p.Stdout(); got != closed {
		t.Errorf("stdout = %q, want %q", got, closed)
	}
}
