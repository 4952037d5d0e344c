package recipes

import (
	"context"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// Every calls run each time that d has passed, never twice at once, until the
// fire. An error of run ends the program: log what should not, and return nil.
//
// The rule: look at HasFired once more before a run. After a long run both the
// tick and the fire may be there, and then select picks either. The run that
// has begun gets WorkContext, so it is finished. It is cancelled when the time
// of the drain is over; a run that goes on is named.
func Every(q *quit.QuitEvent, d time.Duration,
	run func(ctx context.Context) error, opts ...quit.Option) {
	q.Go(func(ctx context.Context) error {
		ticker := time.NewTicker(d)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				if q.HasFired() {
					return nil
				}
				if err := run(q.WorkContext()); err != nil {
					return err
				}
			}
		}
	}, opts...)
}
