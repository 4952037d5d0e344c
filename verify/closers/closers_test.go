// Package closers tests the statements of docs/closers.md about closers of
// other packages: each row of its tables is a function here, and runs.
//
// A function called close with the name of a row, such as closePgxPool, is the
// code of that row. The test with that name, such as TestPgxPool, runs it:
// "stop" is a shutdown that nothing blocks, and "hang" is one with a call that
// does not return.
package closers

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

const (
	// generous is a bound that suffices on any machine.
	generous = 2 * time.Minute
	// limit is the time of a shutdown in which something hangs. A closer that
	// is forced to stop at the end of its share has 1.4 s before it is
	// abandoned.
	limit = 15 * time.Second
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests mostly wait, so more of them run than there are cores.
	flag.Set("test.parallel", "16")
	os.Exit(m.Run())
}

// event returns an event whose shutdown has the given time.
func event(timeout time.Duration) *quit.QuitEvent {
	return &quit.QuitEvent{Timeout: timeout, Logger: slog.New(slog.DiscardHandler)}
}

// stops shuts q down, which must be no failure.
func stops(t *testing.T, q *quit.QuitEvent) {
	t.Helper()
	if err := q.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown() = %v, want nil\n%s", err, q.Report())
	}
}

// hangs shuts q down. It checks that one step was abandoned, or the drain given
// up, in a function whose name contains where.
func hangs(t *testing.T, q *quit.QuitEvent, where string) {
	t.Helper()
	err := q.Shutdown(context.Background())
	n := 0
	for _, s := range q.Report().Steps {
		if !s.Abandoned && (s.Phase != quit.PhaseDrain || s.Err == nil) {
			continue
		}
		n++
		// If all processors are busy, the shutdown may end before it has the
		// stacks. The goroutine still hangs.
		stacks := s.Stacks
		if stacks == "" {
			buf := make([]byte, 64<<20)
			stacks = string(buf[:runtime.Stack(buf, true)])
		}
		if !strings.Contains(stacks, where) {
			t.Errorf("the stacks of the abandoned step have no %s:\n%s\n%s",
				where, stacks, q.Report())
		}
	}
	if n != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown() = %v, want one abandoned step\n%s", err, q.Report())
	}
}

// fails shuts q down. It checks that the shutdown fails with want, and that
// nothing was abandoned.
func fails(t *testing.T, q *quit.QuitEvent, want error) {
	t.Helper()
	err := q.Shutdown(context.Background())
	if !errors.Is(err, want) {
		t.Errorf("Shutdown() = %v, want %v\n%s", err, want, q.Report())
	}
	for _, s := range q.Report().Steps {
		if s.Abandoned {
			t.Errorf("%s was abandoned\n%s", s.Name, q.Report())
		}
	}
}

// took returns the time that the only closer of q took.
func took(q *quit.QuitEvent) time.Duration {
	for _, s := range q.Report().Steps {
		if s.Phase == quit.PhaseClosers || s.Phase == quit.PhaseAfterDrain {
			return s.End.Sub(s.Start)
		}
	}
	return -1
}

// receive returns the next value of ch, and ends the test if there is none.
func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(generous):
		t.Fatalf("no %s", what)
		panic("not reached")
	}
}

// late shuts q down, which must fail for want of time.
func late(t *testing.T, q *quit.QuitEvent) {
	t.Helper()
	if err := q.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown() = %v, want %v\n%s", err, context.DeadlineExceeded, q.Report())
	}
}

// must ends the test if err is not nil.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
