//go:build unix

package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/gracefulgo/graceful/examples/recipes"
	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

var tool = process.NewProgram("tool", func(args []string) {
	q := quit.GetQuitEvent()
	if args[0] == "hangs" {
		q.Logger = slog.Default() // for AwaitFired
	}
	os.Exit(recipes.RunTool(q, func(ctx context.Context) error {
		if q.HasFired() {
			process.Say("fired before the work has ended")
		}
		switch args[0] {
		case "fails":
			return errors.New("no such file")
		case "fails with Canceled":
			return context.Canceled // of a context of its own
		case "panics":
			panic("out of range")
		case "waits":
			process.Say("started")
			<-ctx.Done()
			return fmt.Errorf("2 of 5 files: %w", ctx.Err())
		case "hangs":
			process.Say("started")
			select {}
		}
		return nil
	}))
})

func TestTool(t *testing.T) {
	for _, test := range []struct {
		work   string
		signal syscall.Signal
		status int
		stderr string
	}{
		{work: "succeeds", status: 0},
		{work: "fails", status: 1, stderr: "no such file"},
		{work: "fails with Canceled", status: 1, stderr: "goroutine work: context canceled"},
		{work: "panics", status: 1, stderr: "panic: out of range"},
		{work: "waits", signal: syscall.SIGINT, status: 130, stderr: "2 of 5 files"},
		{work: "waits", signal: syscall.SIGTERM, status: 143, stderr: "2 of 5 files"},
	} {
		t.Run(test.work, func(t *testing.T) {
			t.Parallel()
			p := tool.Start(t, test.work)
			if test.signal != 0 {
				p.Expect("started")
				p.Signal(test.signal)
			}
			p.WantExit(test.status)
			if got := p.Stderr(); !strings.Contains(got, test.stderr) ||
				(got == "") != (test.stderr == "") {
				t.Errorf("stderr = %q, want in it: %q", got, test.stderr)
			}
		})
	}
}

// TestToolHangs ends a tool whose work ignores the first Ctrl-C.
func TestToolHangs(t *testing.T) {
	t.Parallel()
	p := tool.Start(t, "hangs")
	p.Expect("started")
	p.Signal(os.Interrupt)
	p.AwaitFired()
	p.InterruptAgain()
	p.WantExit(130)
	if want := "1 goroutine of work"; !strings.Contains(p.Stderr(), want) {
		t.Errorf("stderr = %q, want in it: %s", p.Stderr(), want)
	}
}

// TestDeferredFire shows that a deferred Fire loses the cause of any failure,
// and the failure itself if it is context.Canceled.
func TestDeferredFire(t *testing.T) {
	for _, failure := range []error{context.Canceled, errors.New("no such file")} {
		q := newEvent()
		var seen error // by a closer that uses it to decide whether to keep the output
		q.RegisterStopFunc(func() { seen = q.Cause() })
		q.Go(func(context.Context) error {
			defer q.Fire()
			return failure
		})
		<-q.Done()
		err := q.Shutdown(context.Background())
		if lost := err == nil; lost != (failure == context.Canceled) {
			t.Errorf("work fails with %v: Shutdown() = %v", failure, err)
		}
		if seen != context.Canceled {
			t.Errorf("work fails with %v: cause = %v, want %v", failure, seen, context.Canceled)
		}
	}
}
