package recipes_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/quit"
)

// newEvent returns an event that does not log.
func newEvent() *quit.QuitEvent {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)
	return q
}

// wantNamed checks that the drain of q is given up, and that the error names
// these goroutines.
func wantNamed(t *testing.T, q *quit.QuitEvent, goroutines string) {
	t.Helper()
	if err := q.Shutdown(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown() = %v, want %v", err, context.DeadlineExceeded)
	}
	if report := q.Report().String(); !strings.Contains(report, goroutines) {
		t.Errorf("the report does not have %q:\n%s", goroutines, report)
	}
}
