package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// level is a part of the program with an event of its own: its context, its
// counter and its closers are nobody else's. It can be stopped alone.
type level struct {
	name         string
	event        quit.QuitEvent // Timeout is for a stop alone
	below        []*level
	tickers      int
	every        time.Duration
	stuck, fails bool
	after        time.Duration // it fails
}

// register starts the level and registers its event with that of the level
// above. So that one stops it when its turn comes, the last registered first,
// and waits for it. If the level fails, so does that one.
func (l *level) register(above *quit.QuitEvent) {
	above.RegisterQuitCloser(&l.event, quit.Name(l.name))
	for _, b := range l.below {
		b.register(&l.event)
	}
	l.start()
}

// run starts the level and returns when it has ended, with its error. It knows
// nothing of the level above but a context, as the parts of many programs do.
// As soon as that is cancelled, the level stops; those beside it do at the same
// time. The level above calls run in Go, and so waits for it, and fails if it
// fails.
func (l *level) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { l.event.Fire() })()
	for _, b := range l.below {
		l.event.Go(b.run, quit.Name(b.name))
	}
	l.start()
	<-l.event.Done() // it is stopped by ctx, or alone, or has failed
	// Not with ctx, which may be done: the stop has the time of the event.
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

// stop stops the level and those below it, and nothing above or beside.
func (l *level) stop() {
	if err := l.event.Shutdown(context.Background()); err != nil {
		// It stays in the event: the program's own stop returns it too.
		fmt.Printf("%s has not stopped: %v\n", l.name, err)
		return
	}
	fmt.Printf("%s has stopped\n", l.name)
}

// startTickers starts goroutines of q, which end when it fires, and are
// awaited.
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
