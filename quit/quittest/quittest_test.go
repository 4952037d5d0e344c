package quittest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quittest"
)

// recorder is a testing.TB that notes what New has to say, and whose cleanups
// are called by hand.
type recorder struct {
	testing.TB
	cleanups []func()
	failures []string
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, a ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, a...))
}
func (r *recorder) Fatal(a ...any) { r.failures = append(r.failures, fmt.Sprint(a...)) }

// end is the end of the test.
func (r *recorder) end() string {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return strings.Join(r.failures, "\n")
}

func TestNew(t *testing.T) {
	old := quit.GetQuitEvent()
	closed := false
	t.Run("test", func(t *testing.T) {
		q := quittest.New(t)
		if q == old || quit.GetQuitEvent() != q {
			t.Error("New() is not a fresh event that is GetQuitEvent()")
		}
		q.RegisterStopFunc(func() { closed = true })
	})
	if !closed {
		t.Error("the event was not shut down at the end of the test")
	}
	if quit.GetQuitEvent() != old {
		t.Error("the old event is not back after the test")
	}
}

func TestNewFails(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	for _, test := range []struct {
		name string
		use  func(q *quit.QuitEvent)
		want string // in the failure; "": there is none
		took time.Duration
	}{
		{"nothing wrong", func(q *quit.QuitEvent) { q.RegisterStopFunc(func() {}) }, "", 0},
		{"error", func(q *quit.QuitEvent) {
			q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error { return errors.New("failed") }), quit.Name("database"))
		}, "database (quittest/quittest_test.go:", 0},
		{"goroutine left", func(q *quit.QuitEvent) { q.AddGoroutine() }, "1 goroutine left", 4050 * time.Millisecond},
		{"counted after the end", func(q *quit.QuitEvent) { q.GracefulStop(); q.AddGoroutine() }, "1 goroutine counted", 0},
		{"own Timeout", func(q *quit.QuitEvent) { q.Timeout = 10 * time.Second; q.AddGoroutine() }, "1 goroutine left", 8100 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{TB: t}
				test.use(quittest.New(r))
				start := time.Now()
				got := r.end()
				if test.want == "" && got != "" || !strings.Contains(got, test.want) {
					t.Errorf("the test failed with %q, want %q in it", got, test.want)
				}
				if got != "" && !strings.Contains(got, "quit: stopped after") {
					t.Errorf("the failure does not have the report: %q", got)
				}
				if took := time.Since(start); took != test.took {
					t.Errorf("the end of the test took %v, want %v", took, test.took)
				}
			})
		})
	}
}

func TestNewInParallelTest(t *testing.T) {
	old := quit.GetQuitEvent()
	var r *recorder
	t.Run("parallel", func(t *testing.T) {
		t.Parallel()
		r = &recorder{TB: t}
		quittest.New(fatalStops{r})
	})
	t.Cleanup(func() {
		if got := strings.Join(r.failures, "\n"); !strings.Contains(got, "use quit.NewQuitEvent") {
			t.Errorf("a parallel test is told %q, want it to be told of NewQuitEvent", got)
		}
		if quit.GetQuitEvent() != old {
			t.Error("New changed the process's event in a parallel test")
		}
	})
}

// fatalStops has Fatal end the goroutine, as it does in a test.
type fatalStops struct{ *recorder }

func (f fatalStops) Fatal(a ...any) {
	f.recorder.Fatal(a...)
	f.TB.SkipNow()
}
