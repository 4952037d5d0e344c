package recipes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/gracefulgo/graceful/quit"
)

// RunTool runs the work of a command-line tool, and returns the exit status: 0
// if the work has succeeded, 130 after Ctrl-C, 143 after SIGTERM, and otherwise
// 1. The signal cancels the work's context.
//
//	func main() { os.Exit(recipes.RunTool(quit.GetQuitEvent(), work)) }
//
// The rule: fire after success, and only then. An error that is returned fires
// by itself, and is the cause. A deferred Fire would come first. Then the cause
// would be a plain fire, even for closers that use it to decide whether to keep
// the output. And an error that is [context.Canceled], for example from a
// context of the work's own, would be taken for the answer to the fire and
// lost.
//
// The signal decides the status, and not the error: most errors of interrupted
// work wrap the error of its context. They are printed all the same. Work that
// succeeds in spite of a signal also gets the status of the signal.
//
// If the work ignores its context, the drain is given up at the end of its
// time, which is an error. A second Ctrl-C ends the tool at once, and prints
// the stack of the work on stderr.
func RunTool(q *quit.QuitEvent, work func(ctx context.Context) error) (status int) {
	if q.Logger == nil {
		q.Logger = slog.New(slog.DiscardHandler) // failures are printed at the end
	}
	q.NotifySignal() // before the work begins: until then, a signal ends the process halfway
	q.Go(func(ctx context.Context) error {
		if err := work(ctx); err != nil {
			return err // it fires, with err as the cause
		}
		q.Fire() // done: there is nothing to wait for
		return nil
	}, quit.Name("work"))

	err := q.WaitSignal()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	var sig *quit.SignalError
	switch {
	case errors.As(q.Cause(), &sig):
		return sig.ExitCode()
	case err != nil:
		return 1
	}
	return 0
}
