//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
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
		q := quit.GetQuitEvent()
		q.NotifySignal()
		fmt.Fprintln(os.Stderr, ready)
		// One more worker, which says on stdout what comes on stdin, and what is closed last before the drain.
		q.Go(func(ctx context.Context) error {
			<-ctx.Done()
			_, err := io.Copy(os.Stdout, os.Stdin)
			return err
		})
		q.RegisterStopFunc(func() { fmt.Fprintln(os.Stderr, draining) })
		main()
	})
}

const (
	ready     = "takes signals"
	draining  = "only the drain is next"
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

// TestStop stops the program, and wants all workers to end before the database is closed.
func TestStop(t *testing.T) {
	for range 10 {
		takePort(t).Close()
		cmd := process.Command(t)
		work, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		p := process.StartCommand(t, cmd)
		p.AwaitStderr(ready)
		awaitServing(p)
		p.Process.Signal(syscall.SIGTERM) // unless it has ended
		p.AwaitStderr(draining)
		p.AwaitStdout("worker ended\n")
		io.WriteString(work, "so did another\n")
		work.Close()
		<-p.Exited()
		if strings.Contains(p.Stderr(), portTaken) {
			continue // somebody else was faster
		}
		p.WantExit(0)
		if got, want := p.Stdout(), "worker ended\nso did another\ndatabase closed\n"; got != want {
			t.Errorf("stdout = %q, want %q", got, want)
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
