// Command context shows how the shutdown of a program reaches each of its
// levels, and how one level can end without the others:
//
//	program
//	├── mail               an event, registered with the one above
//	│   ├── mail/inbox
//	│   └── mail/outbox
//	└── search             a function that only gets a context
//	    ├── search/index
//	    └── search/crawler
//
// Each level has tickers. Stopping a level stops the levels below it, and
// nothing above or beside it. The level waits for its tickers, but not for
// ever. A failure goes up: it ends the program.
//
//	go run ./examples/context                     # press Ctrl-C: all stop
//	go run ./examples/context -stop=mail          # mail, after 3 s
//	go run ./examples/context -stop=search/index  # that part alone
//	go run ./examples/context -stop=mail -stuck=mail/inbox  # given up at 8 s
//	go run ./examples/context -fail=search/index  # all, with status 1
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	n := flag.Int("n", 1, "`number` of tickers of a level")
	every := flag.Duration("tick", time.Second, "time between two ticks")
	stop := flag.String("stop", "", "stop the `level` alone, after the time of -after")
	stuck := flag.String("stuck", "", "give the `level` a goroutine that does not end")
	fail := flag.String("fail", "", "have the `level` fail after the time of -after")
	after := flag.Duration("after", 3*time.Second, "time until -stop or -fail")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	parseFlags("context")
	if *every <= 0 || q.Timeout <= 0 {
		exit(2, fmt.Errorf("-tick=%v -timeout=%v: want some time", *every, q.Timeout))
	}

	levels := newLevels(q.Timeout)
	for flagName, name := range map[string]string{"stop": *stop, "stuck": *stuck, "fail": *fail} {
		if levels[name] == nil && name != "" {
			exit(2, fmt.Errorf("-%s: there is no level %q", flagName, name))
		}
	}
	for _, l := range levels {
		l.tickers, l.every = *n, *every
		l.stuck, l.fails, l.after = l.name == *stuck, l.name == *fail, *after
	}

	// Called first, so that a signal during startup stops everything too.
	q.NotifySignal()

	startTickers(q, "program", *n, *every)

	// A level is below another one by a registered event, or by a context
	// alone.
	levels["mail"].register(q)
	q.Go(levels["search"].run, quit.Name("search"))

	if *stop != "" {
		q.Go(func(ctx context.Context) error {
			select {
			case <-time.After(*after):
				levels[*stop].stop()
			case <-ctx.Done():
			}
			return nil
		}, quit.Name("stop"))
	}

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
	fmt.Println("all have stopped")
}

// newLevels returns the levels below the program by name. A level has half of
// the time of the one above it. So it reports the goroutines that block it
// before the level above gives up on it.
func newLevels(timeout time.Duration) map[string]*level {
	levels := make(map[string]*level)
	add := func(name string, timeout time.Duration, below ...*level) *level {
		l := &level{name: name, below: below}
		l.event.Timeout = timeout
		l.event.Logger = slog.With("level", name)
		levels[name] = l
		return l
	}
	for _, parts := range [][3]string{
		{"mail", "mail/inbox", "mail/outbox"},
		{"search", "search/index", "search/crawler"},
	} {
		add(parts[0], timeout/2, add(parts[1], timeout/4), add(parts[2], timeout/4))
	}
	return levels
}
