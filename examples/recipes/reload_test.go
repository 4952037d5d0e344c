//go:build unix

package recipes_test

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// reloader says when each load begins. The first load succeeds and the second
// fails. During each of them a SIGHUP arrives. The third waits for the fire.
// With an argument, no SIGHUP is expected.
var reloader = process.NewProgram("reloader", func(args []string) {
	q := quit.GetQuitEvent()
	q.NotifySignal()
	q.RegisterStopFunc(func() {
		process.Say("stopping")
		process.Listen()
	}, quit.AfterDrain())
	awaitHangup := func() {}
	if len(args) == 0 {
		arrived := make(chan os.Signal, 1)
		signal.Notify(arrived, syscall.SIGHUP)
		awaitHangup = func() {
			<-arrived
			signal.Stop(arrived) // waits until the other channel has it, too
			signal.Notify(arrived, syscall.SIGHUP)
		}
	}
	n := 0
	exitIf(recipes.Reload(q, func(ctx context.Context) error {
		n++
		process.Say("load %d", n)
		switch n {
		case 1:
			awaitHangup()
			return nil
		case 2:
			awaitHangup()
			return errors.New("bad file")
		default:
			<-ctx.Done()
			return ctx.Err()
		}
	}))
	process.Say("running")
	exitIf(q.WaitSignal())
})

func TestReload(t *testing.T) {
	t.Parallel()
	p := reloader.Start(t)
	p.Expect("load 1")
	p.Signal(syscall.SIGHUP) // during the first load
	// Two goroutines say those two.
	said := []string{p.Next(), p.Next()}
	if slices.Sort(said); !slices.Equal(said, []string{"load 2", "running"}) {
		t.Fatalf("the process said %q, want that it runs, and load 2", said)
	}
	p.Signal(syscall.SIGHUP) // during a load: one more follows
	p.AwaitStderr("the old configuration stays")
	p.Expect("load 3")

	// The fire ends a load. A SIGHUP during the shutdown does nothing: it does
	// not even kill the process, which would be the default.
	p.Signal(syscall.SIGTERM)
	p.Expect("stopping")
	p.Signal(syscall.SIGHUP)
	p.Signal(syscall.SIGHUP)
	p.Tell()
	p.WantExit(0)
	if strings.Count(p.Stderr(), "the old configuration stays") != 1 {
		t.Errorf("stderr = %q, want one failure in it: the load that was cut off is none",
			p.Stderr())
	}
}

// TestReloadNohup starts with SIGHUP ignored, and it stays ignored.
func TestReloadNohup(t *testing.T) {
	t.Parallel()
	cmd := reloader.Command(t, "no hangup")
	process.IgnoreHangups(t, cmd)
	p := reloader.StartCommand(t, cmd)
	p.Expect("load 1", "running")
	p.Signal(syscall.SIGHUP)
	p.Signal(syscall.SIGTERM)
	p.Expect("stopping") // and no load
	p.Tell()
	p.WantExit(0)
}

var hangingReloader = process.NewProgram("hanging reloader", func([]string) {
	q := quit.GetQuitEvent()
	q.NotifySignal()
	q.Timeout = time.Second // enough, and all of it passes
	first := true
	exitIf(recipes.Reload(q, func(context.Context) error {
		if first {
			first = false
			return nil
		}
		process.Say("hangs")
		select {}
	}))
	process.Say("running")
	exitIf(q.WaitSignal())
})

// TestReloadHangs uses a load that ignores its context.
func TestReloadHangs(t *testing.T) {
	t.Parallel()
	p := hangingReloader.Start(t)
	p.Expect("running")
	p.Signal(syscall.SIGHUP)
	p.Expect("hangs")
	p.Signal(syscall.SIGTERM)
	p.WantExit(1)
	if want := "1 goroutine of reload"; !strings.Contains(p.Stderr(), want) {
		t.Errorf("stderr = %q, want in it: %s", p.Stderr(), want)
	}
}

// TestReloadFired fires before the first load, which is not cut off: the
// program starts, and then ends.
func TestReloadFired(t *testing.T) {
	q := newEvent()
	q.Fire()
	if err := recipes.Reload(q, func(ctx context.Context) error { return ctx.Err() }); err != nil {
		t.Errorf("Reload() = %v, want nil", err)
	}
	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestReloadFirst makes the first load fail: the program does not start.
func TestReloadFirst(t *testing.T) {
	q := newEvent()
	failure := errors.New("bad file")
	err := recipes.Reload(q, func(context.Context) error { return failure })
	if err != failure || q.Report().Goroutines != 0 {
		t.Errorf("Reload() = %v, %d goroutines; want %v, none", err, q.Report().Goroutines, failure)
	}
	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}
