package recipes

import (
	"context"
	"log/slog"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// Heartbeat calls beat again and again for as long as counted goroutines of q
// work: to extend a lease, or the visibility timeout of a message. Take a third
// of the lease's time for every, so that a beat may fail now and then.
//
// The rule: the beats are goroutines of an event of their own, which is
// registered AfterDrain. They hear of the end only when the drain is over.
// Goroutines of q itself hear of it at the fire, and the lease would run out
// under work that is being finished. What gives up the lease is registered
// before, AfterDrain too: then it is called after the last beat has ended.
//
// Work that outlasts the time of the drain has no more beats, so the lease runs
// out under it. A beat that hangs is cut off by its context when the next one
// is due.
func Heartbeat(q *quit.QuitEvent, every time.Duration, beat func(ctx context.Context) error) {
	beats := quit.NewQuitEvent()
	beats.Logger = q.Logger
	q.RegisterQuitCloser(beats, quit.AfterDrain(), quit.Name("heartbeats"))
	beats.Go(func(ctx context.Context) error {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done(): // nobody works any longer
				return nil
			case <-ticker.C:
				ctx, cancel := context.WithTimeout(beats.WorkContext(), every)
				if err := beat(ctx); err != nil {
					slog.Warn("heartbeat", "err", err) // the next one may succeed
				}
				cancel()
			}
		}
	}, quit.Name("heartbeat"))
}
