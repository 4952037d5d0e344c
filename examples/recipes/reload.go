//go:build unix

package recipes

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/gracefulgo/graceful/quit"
)

// Reload calls load now, and again for each SIGHUP until the fire. Call it
// early: until then, SIGHUP ends the program. [quit.QuitEvent.WaitSignal]
// handles the other signals; do not list SIGHUP there.
//
// load replaces the configuration as a whole, as an [atomic.Pointer] does. If
// it fails, the old configuration stays. Only the error of the first load is
// returned.
//
// The rule: one goroutine loads, so two loads never overlap. The channel holds
// one signal: a SIGHUP that arrives during a load leads to one more. The
// channel is never stopped: after [signal.Stop], a SIGHUP in the last second
// would kill the process during its shutdown. Under nohup SIGHUP stays ignored;
// signal.Notify alone would undo that.
//
// The fire cancels a reload, and the shutdown waits for it. A reload that hangs
// is named "reload" when the drain is given up.
//
// [atomic.Pointer]: https://pkg.go.dev/sync/atomic#Pointer
func Reload(q *quit.QuitEvent, load func(ctx context.Context) error) error {
	hangups := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(hangups, syscall.SIGHUP) // before the first load, so none is lost
	}
	// After a fire the program still starts, and then ends.
	if err := load(q.WorkContext()); err != nil {
		return err
	}
	q.Go(func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hangups:
				if err := load(ctx); err != nil && ctx.Err() == nil {
					slog.Error("reload: the old configuration stays", "err", err)
				}
			}
		}
	}, quit.Name("reload"))
	return nil
}
