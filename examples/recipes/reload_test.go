//go:build unix

package recipes_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// reloader says when each load begins, and ends it when it is told to: the
// first one well, the second with a failure. The third waits for the fire.
var reloader = process.NewProgram("reloader", func([]string) {
	q := quit.GetQuitEvent()
	q.NotifySignal()
	n := 0
	q.RegisterStopFunc(func() {
		process.Say("stopping")
		process.Listen()
	}, quit.AfterDrain())
	exitIf(recipes.Reload(q, func(ctx context.Context) error {
		n++
		process.Say("load %d", n)
		switch n {
		case 1:
			process.Listen()
			return nil
		case 2:
			process.Listen()
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
	p.Tell()
	// Those two are said by two goroutines.
	said := []string{p.Next(), p.Next()}
	if slices.Sort(said); !slices.Equal(said, []string{"load 2", "running"}) {
		t.Fatalf("the process said %q, want that it runs, and load 2", said)
	}
	for range 3 { // during a load: one more is enough for all
		p.Signal(syscall.SIGHUP)
	}
	p.Tell()
	p.AwaitStderr("the old configuration stays")
	p.Expect("load 3")

	// The fire ends a load. A SIGHUP during the stop does nothing: not even end
	// the process, which would be its default.
	p.Signal(syscall.SIGTERM)
	p.Expect("stopping")
	p.Signal(syscall.SIGHUP)
	p.Signal(syscall.SIGHUP)
	p.Tell()
	p.WantExit(0)
	if strings.Count(p.Stderr(), "the old configuration stays") != 1 {
		t.Errorf("stderr = %q, want one failure in it: the load that was cut off is none", p.Stderr())
	}
}

// TestReloadNohup has SIGHUP ignored from the start, and it stays so.
func TestReloadNohup(t *testing.T) {
	t.Parallel()
	cmd := reloader.Command(t)
	process.IgnoreHangups(t, cmd)
	p := reloader.StartCommand(t, cmd)
	p.Expect("load 1")
	p.Tell()
	p.Expect("running")
	p.Signal(syscall.SIGHUP)
	p.Signal(syscall.SIGTERM)
	p.Expect("stopping") // and no load
	p.Tell()
	p.WantExit(0)
}

var hangingReloader = process.NewProgram("hanging reloader", func([]string) {
	q := quit.GetQuitEvent()
	q.NotifySignal()
	q.Timeout = time.Second // enough, for all of it is to be wasted
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

// TestReloadHangs has a load that ignores its context.
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

// TestReloadFirst has the first load fail: the program does not start.
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
