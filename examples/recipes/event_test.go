package recipes_test

import (
	"log/slog"

	"github.com/gracefulgo/graceful/quit"
)

// newEvent returns an event that does not log.
func newEvent() *quit.QuitEvent {
	q := quit.NewQuitEvent()
	q.Logger = slog.New(slog.DiscardHandler)
	return q
}
