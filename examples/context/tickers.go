package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// tick prints a line on each tick until it is told to stop.
func tick(ctx context.Context, name string, every time.Duration) error {
	defer fmt.Println(name + ": stop")
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			fmt.Println(name + ": tick")
		}
	}
}

// startService starts a part of the program that looks after itself: the event that it
// returns has a context, a counter and closers that are nobody else's. It knows nothing
// of the program. Its Shutdown waits for its goroutines, but no longer than timeout, or
// than the program gives it where that is less.
func startService(timeout time.Duration, n int, every time.Duration, stuck, fail bool) *quit.QuitEvent {
	svc := &quit.QuitEvent{Timeout: timeout}
	for i := range n {
		svc.Go(func(ctx context.Context) error { return tick(ctx, fmt.Sprint("service ticker ", i+1), every) })
	}
	if stuck {
		svc.Go(func(context.Context) error { select {} }, quit.Name("stuck"))
	}
	if fail {
		svc.Go(func(context.Context) error { return errors.New("out of ticks") }, quit.Name("failing"))
	}
	return svc
}
