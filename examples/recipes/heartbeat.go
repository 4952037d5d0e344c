package recipes

import (
	"context"
	"log/slog"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// Heartbeat calls beat again and again as long as counted goroutines of q work.
// Use it to extend a lease, or the visibility timeout of a message. Set every
// to a third of the lease's time, so that a beat may fail now and then.
//
// The rule: the beats are goroutines of an event of their own, which is
// registered AfterDrain. So they end only after the drain. Goroutines of q
// itself end at the fire, and the lease would run out while work is being
// finished. Register the closer that gives up the lease before Heartbeat,
// AfterDrain too: then it is called after the last beat has ended.
//
// Work that outlasts the drain gets no more beats, so its lease runs out. The
// context of a beat that hangs is cancelled when the next beat is due.
func Heartbeat(q *quit.QuitEvent, every time.Duration, beat func(ctx context.Context) error) {
	beats := quit.NewQuitEvent()
	beats.Logger = q.Logger
	q.RegisterQuitCloser(beats, quit.AfterDrain(), quit.Name("heartbeats"))
	beats.Go(func(ctx context.Context) error {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done(): // no counted goroutine works any longer
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
