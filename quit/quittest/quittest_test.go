package quittest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quittest"
)

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
		want string // in the failure; "" for none
		took time.Duration
	}{
		{name: "nothing wrong", use: func(q *quit.QuitEvent) { q.RegisterStopFunc(func() {}) }},
		{
			name: "error",
			use: func(q *quit.QuitEvent) {
				fails := func(context.Context) error { return errors.New("failed") }
				q.RegisterQuitCloser(quit.ShutdownFunc(fails), quit.Name("database"))
			},
			want: "database (quittest/quittest_test.go:",
		},
		{
			name: "goroutine left",
			use:  func(q *quit.QuitEvent) { q.AddGoroutine() },
			want: "1 goroutine left",
			took: 4050 * time.Millisecond,
		},
		{
			name: "counted after the end",
			use:  func(q *quit.QuitEvent) { q.GracefulStop(); q.AddGoroutine() },
			want: "1 goroutine counted",
		},
		{
			name: "own Timeout",
			use:  func(q *quit.QuitEvent) { q.Timeout = 10 * time.Second; q.AddGoroutine() },
			want: "1 goroutine left",
			took: 8100 * time.Millisecond,
		},
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

// fatalStops is a recorder whose Fatal ends the goroutine, as in a test.
type fatalStops struct{ *recorder }

func (f fatalStops) Fatal(a ...any) {
	f.recorder.Fatal(a...)
	f.TB.SkipNow()
}
