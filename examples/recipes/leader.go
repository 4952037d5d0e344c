package recipes

import (
	"context"
	"fmt"

	"github.com/gracefulgo/graceful/quit"
)

// ReleaseLease gives up the lease of a leader at the end, unless somebody may
// still act as the leader. Call it before [Heartbeat], which then ends first.
//
// The rule: AfterDrain closers are called even if the drain was given up, while
// a goroutine runs on that nobody can stop. If the lease is released then, two
// act as the leader. So ask the counter: whoever acts as the leader is counted,
// and if one is left, the lease runs out by itself. Its time must be longer
// than what the stop has left after the drain, so that the process has ended by
// then; that is a tenth of [quit.QuitEvent.Timeout] and the reserve.
//
// The counter is that of q. So that others do not hold the lease, give the
// leader an event of its own, which is registered with that of the program.
func ReleaseLease(q *quit.QuitEvent, release func(ctx context.Context) error) {
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		if n := q.Report().Goroutines; n > 0 {
			return fmt.Errorf("not released: goroutines that may act as the leader: %d", n)
		}
		return release(ctx)
	}), quit.AfterDrain(), quit.Name("lease"))
}
