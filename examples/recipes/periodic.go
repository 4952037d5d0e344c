package recipes

import (
	"context"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// Every calls run each time d has passed, until the fire. It never calls run
// twice at once. An error of run ends the program: to go on, log the error and
// return nil.
//
// The rule: check HasFired again before each run. After a long run both the
// tick and the fire may have come, and then select picks either. A run that has
// begun gets WorkContext, so it is finished. Its context is cancelled when the
// time of the drain is over; a run that ignores that is named.
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
