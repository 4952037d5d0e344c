package quit_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// quietEvent returns a new event that logs nowhere.
func quietEvent() *quit.QuitEvent {
	return &quit.QuitEvent{Logger: slog.New(slog.DiscardHandler)}
}

// yield is called by loops that never block, since wasm has no preemption.
func yield() {
	if runtime.GOARCH == "wasm" {
		runtime.Gosched()
	}
}

// loggedEvent returns a new event, and a func that returns its log so far, of
// all levels.
func loggedEvent() (q *quit.QuitEvent, logged func() string) {
	var mu sync.Mutex
	var b bytes.Buffer
	h := slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return b.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelDebug})
	return &quit.QuitEvent{Logger: slog.New(h)}, func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// journal is a list of things that happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func (j *journal) want(t *testing.T, want ...string) {
	t.Helper()
	if got := j.all(); !slices.Equal(got, want) {
		t.Errorf("what happened = %q, want %q", got, want)
	}
}

// closerFunc is an io.Closer.
type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// bothWays is both a QuitCloser and an io.Closer.
type bothWays struct {
	shutdown func(ctx context.Context) error
	close    func() error
}

func (b *bothWays) Shutdown(ctx context.Context) error { return b.shutdown(ctx) }
func (b *bothWays) Close() error                       { return b.close() }

func TestGlobalEvent(t *testing.T) {
	old := quit.GetQuitEvent()
	defer quit.SetQuitEvent(old)
	if old == nil || quit.GetQuitEvent() != old {
		t.Fatal("GetQuitEvent() is nil, or not always the same")
	}
	q := quit.NewQuitEvent()
	quit.SetQuitEvent(q)
	if quit.GetQuitEvent() != q {
		t.Error("GetQuitEvent() is not what SetQuitEvent was given")
	}
	defer func() {
		if v := recover(); v == nil {
			t.Error("SetQuitEvent(nil) did not panic")
		}
		if quit.GetQuitEvent() != q {
			t.Error("SetQuitEvent(nil) changed the event")
		}
	}()
	quit.SetQuitEvent(nil)
}

func TestWorkContext(t *testing.T) {
	t.Run("drained", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			ctx := q.WorkContext()
			var atClose, atDrained error
			q.RegisterStopFunc(func() { atClose = ctx.Err() })
			q.RegisterStopFunc(func() { atDrained = ctx.Err() }, quit.AfterDrain())
			q.AddGoroutine()
			go func() {
				defer q.DoneGoroutine()
				<-q.Done()
				time.Sleep(10 * time.Second) // work in flight
				if ctx.Err() != nil {
					t.Errorf("WorkContext().Err() = %v in the drain, want nil", ctx.Err())
				}
			}()
			if err := q.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if atClose != nil || atDrained != nil {
				t.Errorf("WorkContext().Err() = %v, %v in the closers, want nil",
					atClose, atDrained)
			}
			if ctx.Err() != context.Canceled ||
				!errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				t.Errorf("after the end: Err() = %v, cause %v", ctx.Err(), context.Cause(ctx))
			}
		})
	})
	t.Run("given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			q.Timeout = 10 * time.Second
			start := time.Now()
			var cancelled, dbClosed time.Duration
			q.RegisterStopFunc(func() { dbClosed = time.Since(start) }, quit.AfterDrain())
			q.AddGoroutine()
			go func() {
				defer q.DoneGoroutine()
				<-q.WorkContext().Done()
				cancelled = time.Since(start)
				time.Sleep(100 * time.Millisecond) // it rolls back before the database is closed
			}()
			err := q.Shutdown(t.Context())
			if !errors.Is(err, context.DeadlineExceeded) ||
				!strings.Contains(err.Error(), "quit: drain: 1 goroutine left after 7.2s") {
				t.Errorf("Shutdown() = %v", err)
			}
			if cancelled != 7200*time.Millisecond {
				t.Errorf("WorkContext was cancelled after %v, want 7.2s", cancelled)
			}
			if dbClosed != 7300*time.Millisecond {
				t.Errorf("the AfterDrain closer was called after %v, "+
					"want 7.3s: once the goroutine had ended", dbClosed)
			}
		})
	})
	t.Run("never ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			q.Timeout = 10 * time.Second
			for range 3 {
				q.AddGoroutine()
			}
			start := time.Now()
			err := q.Shutdown(t.Context())
			if !errors.Is(err, context.DeadlineExceeded) ||
				!strings.Contains(err.Error(), "3 goroutines left") {
				t.Errorf("Shutdown() = %v", err)
			}
			if took := time.Since(start); took > 9*time.Second {
				t.Errorf("the drain took %v, want at most 9/10 of 10s", took)
			}
		})
	})
}
