package recipes

import (
	"context"
	"fmt"

	"github.com/gracefulgo/graceful/quit"
)

// ReleaseLease gives up the lease of a leader at the end, unless a goroutine
// may still act as the leader. Call it before [Heartbeat], which then ends
// first.
//
// The rule: AfterDrain closers are called even if the drain was given up while
// a goroutine still runs. If the lease were released then, two processes would
// act as the leader. So ask the counter: every goroutine that acts as the
// leader is counted. If one is left, the lease runs out by itself. The process
// must have ended by then. So the lease must last longer than the rest of the
// shutdown after the drain, which is a tenth of [quit.QuitEvent.Timeout] and
// the reserve.
//
// The counter is that of q. Give the leader an event of its own, registered
// with that of the program, so that other goroutines do not hold the lease.
func ReleaseLease(q *quit.QuitEvent, release func(ctx context.Context) error) {
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		if n := q.Report().Goroutines; n > 0 {
			return fmt.Errorf("not released: goroutines that may act as the leader: %d", n)
		}
		return release(ctx)
	}), quit.AfterDrain(), quit.Name("lease"))
}
