package quit_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// unusedCases are the uses of an event before its WaitSignal.
var unusedCases = []struct {
	name  string
	use   func(q *quit.QuitEvent)
	cause error // nil: a signal
	want  int   // warnings
}{
	{name: "nothing", use: func(*quit.QuitEvent) {}, want: 1},
	{name: "hook", use: func(q *quit.QuitEvent) { _ = q.GracefulStop }, want: 1},
	{name: "done", use: func(q *quit.QuitEvent) { _, _ = q.Done(), q.Context() }, want: 1},
	{name: "nil closer", use: func(q *quit.QuitEvent) { q.RegisterStopFunc(nil) }, want: 1},
	{name: "failure", use: func(*quit.QuitEvent) {}, cause: errors.New("port taken"), want: 0},
	{name: "fire", use: func(*quit.QuitEvent) {}, cause: context.Canceled, want: 0},
	{
		name: "early",
		use:  func(q *quit.QuitEvent) { q.Fail(&quit.SignalError{Signal: os.Interrupt}) },
		want: 0,
	},
	{name: "closer", use: func(q *quit.QuitEvent) { q.RegisterStopFunc(func() {}) }, want: 0},
	{
		name: "after drain",
		use:  func(q *quit.QuitEvent) { q.RegisterStopFunc(func() {}, quit.AfterDrain()) },
		want: 0,
	},
	{
		name: "unregistered",
		use:  func(q *quit.QuitEvent) { q.RegisterStopFunc(func() {})() },
		want: 0,
	},
	{name: "child", use: func(q *quit.QuitEvent) { q.RegisterQuitCloser(quietEvent()) }, want: 0},
	{
		name: "counted",
		use:  func(q *quit.QuitEvent) { q.AddGoroutine(); q.DoneGoroutine() },
		want: 0,
	},
	{name: "counted after a wait", use: func(q *quit.QuitEvent) {
		q.WaitGoroutines()
		q.AddGoroutine()
		q.DoneGoroutine()
	}, want: 0},
	{
		name: "go",
		use:  func(q *quit.QuitEvent) { q.Go(func(context.Context) error { return nil }) },
		want: 0,
	},
}

// TestNothingToStop checks that WaitSignal warns once if a signal comes and
// nothing was closed or awaited, and never otherwise.
func TestNothingToStop(t *testing.T) {
	for _, test := range unusedCases {
		t.Run(test.name, func(t *testing.T) {
			var out lockedBuffer
			q := &quit.QuitEvent{Logger: slog.New(slog.NewTextHandler(&out, nil))}
			test.use(q)
			cause := test.cause
			if cause == nil {
				cause = &quit.SignalError{Signal: os.Interrupt}
			}
			defer quit.OnWait(func(waiting *quit.QuitEvent) {
				if waiting == q {
					q.Fail(cause)
				}
			})()
			var others sync.WaitGroup
			for range 3 {
				others.Go(func() { q.WaitSignal() })
			}
			for range 2 { // the second one returns at once
				q.WaitSignal()
			}
			others.Wait()
			const warning = `level=WARN msg="quit: nothing was closed or awaited" site=`
			for _, text := range []string{warning, warning + "quit/unused_test.go:"} {
				if got := strings.Count(out.String(), text); got != test.want {
					t.Errorf("%d of %s, want %d:\n%s", got, text, test.want, out.String())
				}
			}
		})
	}
}

// TestNothingToStopWithoutWaitSignal checks that only WaitSignal warns. A
// program that calls Shutdown itself may do so for other reasons.
func TestNothingToStopWithoutWaitSignal(t *testing.T) {
	var out lockedBuffer
	q := &quit.QuitEvent{Logger: slog.New(slog.NewTextHandler(&out, nil))}
	q.Fail(&quit.SignalError{Signal: os.Interrupt})
	if err := q.Shutdown(t.Context()); err != nil || strings.Contains(out.String(), "WARN") {
		t.Errorf("Shutdown() = %v, want nil and no warning:\n%s", err, out.String())
	}
}

// lockedBuffer may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex // guards the field below
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// unwrapper is an error whose Unwrap calls f from the second call on.
type unwrapper struct {
	calls *int
	f     func()
}

func (unwrapper) Error() string { return "lost" }
func (e unwrapper) Unwrap() error {
	if *e.calls++; *e.calls > 1 {
		e.f()
	}
	return nil
}

// TestCauseThatBlocks uses a cause with an Unwrap method that blocks or calls
// Goexit. WaitSignal returns nonetheless.
func TestCauseThatBlocks(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	for name, f := range map[string]func(){
		"blocks": func() { <-block },
		"exits":  runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			q := quietEvent()
			q.Timeout = time.Second
			q.RegisterStopFunc(func() {})
			cause := unwrapper{new(int), f}
			defer quit.OnWait(func(waiting *quit.QuitEvent) {
				if waiting == q {
					q.Fail(cause)
				}
			})()
			done := make(chan struct{})
			go func() { defer close(done); q.WaitSignal() }()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Fatal("WaitSignal hangs")
			}
			if err := q.Shutdown(context.Background()); err == nil {
				t.Errorf("Shutdown() = %v, want the cause", err)
			}
		})
	}
}
