package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// level is a part of the program with an event of its own, and so with its own
// context, counter and closers. It can be stopped alone.
type level struct {
	name         string
	event        quit.QuitEvent // its Timeout applies if it is stopped alone
	below        []*level
	tickers      int
	every        time.Duration
	stuck, fails bool
	after        time.Duration // the level fails after that time
}

// register starts the level and registers its event with the event above. The
// event above stops the level when its turn comes, last registered first, and
// waits for it. If the level fails, so does the event above.
func (l *level) register(above *quit.QuitEvent) {
	above.RegisterQuitCloser(&l.event, quit.Name(l.name))
	for _, b := range l.below {
		b.register(&l.event)
	}
	l.start()
}

// run starts the level and returns its error when it has ended. Like the parts
// of many programs, it knows only a context of the level above. All levels with
// that context stop at the same time, once it is cancelled. The level above
// passes run to Go, so it waits for the level, and fails if the level fails.
func (l *level) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { l.event.Fire() })()
	for _, b := range l.below {
		l.event.Go(b.run, quit.Name(b.name))
	}
	l.start()
	<-l.event.Done() // stopped by ctx or alone, or failed
	// Not with ctx, which may be done: the shutdown uses the event's own
	// Timeout.
	return l.event.Shutdown(context.Background())
}

func (l *level) start() {
	startTickers(&l.event, l.name, l.tickers, l.every)
	if l.stuck {
		l.event.Go(func(context.Context) error { select {} }, quit.Name("stuck"))
	}
	if l.fails {
		l.event.Go(func(ctx context.Context) error {
			select {
			case <-time.After(l.after):
				return errors.New("out of ticks")
			case <-ctx.Done():
				return nil
			}
		}, quit.Name("failing"))
	}
}

// stop stops the level and those below it, and nothing above or beside it.
func (l *level) stop() {
	if err := l.event.Shutdown(context.Background()); err != nil {
		// The error stays in the event: the shutdown of the program returns it
		// too.
		fmt.Printf("%s has not stopped: %v\n", l.name, err)
		return
	}
	fmt.Printf("%s has stopped\n", l.name)
}

// startTickers starts goroutines of q. They end when q fires, and q waits for
// them.
func startTickers(q *quit.QuitEvent, name string, n int, every time.Duration) {
	for i := range n {
		q.Go(func(ctx context.Context) error {
			tick(ctx, fmt.Sprintf("%s, ticker %d", name, i+1), every)
			return nil
		})
	}
}

// tick prints a line on each tick until ctx is done.
func tick(ctx context.Context, name string, every time.Duration) {
	defer fmt.Println(name + ": stop")
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			fmt.Println(name + ": tick")
		}
	}
}
