//go:build unix

package recipes_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
	"github.com/gracefulgo/graceful/quit"
)

// child is a shell script that runs as the child of an event. A line "ready" on
// its file descriptor 3 says that it has begun.
type child struct {
	*testing.T
	q    *quit.QuitEvent
	pipe *bufio.Reader // at its end when the child and all processes it has started have ended
}

func startChild(t *testing.T, script string, set func(*exec.Cmd), opts ...quit.Option) *child {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { r.Close() })
	cmd := exec.Command("sh", "-c", script)
	cmd.ExtraFiles = []*os.File{w}
	if set != nil {
		set(cmd)
	}
	c := &child{t, newEvent(), bufio.NewReader(r)}
	must(t, recipes.StartChild(c.q, cmd, opts...))
	w.Close()
	t.Cleanup(func() { c.q.Shutdown(context.Background()) })
	if line, err := c.pipe.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the script said %q, %v, want it to be ready", line, err)
	}
	return c
}

// wantAllEnded checks that the child and all processes it has started have
// ended.
func (c *child) wantAllEnded() {
	c.Helper()
	ended := make(chan string)
	go func() {
		rest, _ := io.ReadAll(c.pipe)
		ended <- string(rest)
	}()
	select {
	case rest := <-ended:
		if rest != "" {
			c.Errorf("the script said %q", rest)
		}
	case <-time.After(3 * time.Minute):
		c.Error("something of the child runs on")
	}
}

// TestChildStops uses children that end when they are told to, each in its own
// way. None of them is a failure.
func TestChildStops(t *testing.T) {
	for name, script := range map[string]string{
		"by the signal":      `echo ready >&3; exec sleep 1000`,
		"its child":          `sleep 1000 & echo ready >&3; wait`,
		"in order":           `trap "exit 0" TERM; sleep 1000 & echo ready >&3; wait`,
		"when its child has": `trap "exit 0" TERM; sh -c "echo ready >&3; exec sleep 1000"; exit 5`,
		"with status 143":    `trap "exit 143" TERM; sleep 1000 & echo ready >&3; wait`,
		"its child lives on": `(trap "" TERM; echo ready >&3; exec sleep 1000) & wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startChild(t, script, nil)
			if err := c.q.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			c.wantAllEnded()
		})
	}
}

// TestChildFailsToStop uses a child whose cleanup fails, which is a failure.
func TestChildFailsToStop(t *testing.T) {
	t.Parallel()
	c := startChild(t, `trap "exit 3" TERM; sleep 1000 & echo ready >&3; wait`, nil)
	err := c.q.Shutdown(context.Background())
	if err == nil || !strings.Contains(err.Error(), "sh: exit status 3") {
		t.Errorf("Shutdown() = %v, want exit status 3 in it", err)
	}
	c.wantAllEnded()
}

// TestChildTimeUp uses a child that ignores SIGTERM, as does its own child.
func TestChildTimeUp(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			// Its share, which is 19 s by default.
			opts := []quit.Option{quit.Timeout(2 * time.Second)}
			if ignore {
				opts = append(opts, quit.Ignore(context.DeadlineExceeded))
			}
			const script = `trap "" TERM; sleep 1000 & echo ready >&3; wait; sleep 1000`
			c := startChild(t, script, nil, opts...)
			err := c.q.Shutdown(context.Background())
			switch {
			case ignore && err != nil:
				t.Errorf("Shutdown() = %v, want nil", err)
			case !ignore && !errors.Is(err, context.DeadlineExceeded):
				t.Errorf("Shutdown() = %v, want %v", err, context.DeadlineExceeded)
			case !ignore && strings.Contains(err.Error(), "signal: killed"):
				t.Errorf("Shutdown() = %v, want no failure of the child too", err)
			}
			c.wantAllEnded()
		})
	}
}

// TestChildEnds uses children that end by themselves.
func TestChildEnds(t *testing.T) {
	for _, test := range []struct{ script, failure string }{
		{`echo ready >&3; kill -TERM $$`, "sh: signal: terminated"},
		{`echo ready >&3; kill -KILL $$`, "sh: signal: killed"},
		{`echo ready >&3; exit 143`, "sh: exit status 143"},
		{`sleep 1000 & echo ready >&3; exit 1`, "sh: exit status 1"},
	} {
		t.Run(test.failure, func(t *testing.T) {
			t.Parallel()
			c := startChild(t, test.script, nil)
			<-c.q.Done()
			if err := c.q.Cause(); err.Error() != test.failure {
				t.Errorf("Cause() = %v, want %s", err, test.failure)
			}
			err := c.q.Shutdown(context.Background())
			if err == nil || !strings.Contains(err.Error(), test.failure) {
				t.Errorf("Shutdown() = %v, want in it: %s", err, test.failure)
			}
			c.wantAllEnded()
		})
	}

	t.Run("status 0", func(t *testing.T) {
		c := startChild(t, `sleep 1000 & echo ready >&3; exit 0`, nil)
		c.q.WaitGoroutines()
		if n := len(c.q.Report().Steps); c.q.HasFired() || n != 1 { // the drain
			t.Errorf("fired: %v, %d steps planned, want false, 1", c.q.HasFired(), n)
		}
		c.wantAllEnded()
	})
}

// TestChildOutput uses a child whose output the program reads. It leaves
// another process behind that holds the pipe. The shutdown does not wait for
// that process.
func TestChildOutput(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	const script = `trap "echo bye; exit 0" TERM
		(trap "" TERM; echo ready >&3; exec sleep 1000) & wait`
	c := startChild(t, script, func(cmd *exec.Cmd) { cmd.Stdout = &out })
	err := c.q.Shutdown(context.Background())
	if !errors.Is(err, exec.ErrWaitDelay) || out.String() != "bye\n" {
		t.Errorf("Shutdown() = %v, output %q; want %v, and the output",
			err, out.String(), exec.ErrWaitDelay)
	}
	c.wantAllEnded()
}

func TestChildNotStarted(t *testing.T) {
	q := newEvent()
	if err := recipes.StartChild(
		q, exec.Command("/does/not/exist")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("StartChild of a missing program = %v, want %v", err, os.ErrNotExist)
	}
	if r := q.Report(); r.Goroutines != 0 || len(r.Steps) != 1 {
		t.Errorf("%d goroutines and %d steps left, want 0 and 1", r.Goroutines, len(r.Steps))
	}
	q.Fire()
	cmd := exec.Command("sleep", "1000")
	if err := recipes.StartChild(q, cmd); err != nil || cmd.Process != nil {
		t.Errorf("StartChild after the fire: %v, started: %v; want nil, false",
			err, cmd.Process != nil)
	}
	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// stopsWhileStarting is a context for a command that is about to start. At that
// moment it makes the shutdown of q begin its first step.
type stopsWhileStarting struct {
	context.Context
	begin func()
}

func (c stopsWhileStarting) Done() <-chan struct{} {
	c.begin()
	return nil
}

// TestChildStartsLate begins a shutdown while the child is being started. The
// child is told to end in its turn. The drain waits for the child, so it would
// otherwise be told only when the drain is given up.
func TestChildStartsLate(t *testing.T) {
	t.Parallel()
	q := newEvent()
	result := make(chan error, 1)
	begin := sync.OnceFunc(func() {
		go func() { result <- q.Shutdown(context.Background()) }()
		for {
			if r := q.Report(); !r.Started.IsZero() && !r.Steps[0].Start.IsZero() {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	cmd := exec.CommandContext(stopsWhileStarting{context.Background(), begin}, "sleep", "1000")
	must(t, recipes.StartChild(q, cmd))
	if err := <-result; err != nil {
		t.Errorf("Shutdown() = %v, want nil", err)
	}
	if r := q.Report(); r.Steps[0].Name != "sleep" {
		t.Errorf("the first step of the stop is %q, want the child's", r.Steps[0].Name)
	}
}

// TestChildAfterDrain starts a child that work in flight uses. The child
// therefore has an event of its own.
func TestChildAfterDrain(t *testing.T) {
	t.Parallel()
	c := startChild(t, `trap "exit 0" TERM; sleep 1000 & echo ready >&3; wait`, nil)
	q := newEvent()
	q.RegisterQuitCloser(c.q, quit.AfterDrain())
	q.Go(func(ctx context.Context) error {
		<-ctx.Done()
		if c.q.HasFired() {
			t.Error("the child is told to end while work uses it")
		}
		return nil
	})
	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	c.wantAllEnded()
}

// TestCommandContext shows the effect of exec.CommandContext at the fire: it
// kills the child, which could have ended cleanly, and leaves the processes
// that the child has started.
func TestCommandContext(t *testing.T) {
	t.Parallel()
	q := newEvent()
	cmd := exec.CommandContext(q.Context(), "sh", "-c",
		`trap "exit 0" TERM; sleep 1000 >/dev/null & echo $!; wait`)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var left int
	_, err = fmt.Fscan(out, &left)
	must(t, err)
	q.Fire()
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("Wait() = %v, want signal: killed", err)
	}
	if err := syscall.Kill(left, syscall.SIGKILL); err != nil {
		t.Errorf("the child of the child has ended: %v", err)
	}
}
