//go:build unix

package scenario

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// names returns the names of the parts.
func names(parts []*Part) (names []string) {
	for _, p := range parts {
		names = append(names, p.Name)
	}
	return names
}

// letters returns n parts, named a, b, c…, that do nothing when they are
// closed.
func letters(n int) (parts []*Part) {
	for i := range n {
		parts = append(parts, part(string(rune('a'+i)), ok))
	}
	return parts
}

// letterNames are the names of letters(n).
func letterNames(n int) []string { return names(letters(n)) }

// without returns names without one of them.
func without(names []string, one string) (rest []string) {
	for _, n := range names {
		if n != one {
			rest = append(rest, n)
		}
	}
	return rest
}

var closing = []*Scenario{
	{
		Name: "order", Title: "eight parts, the last one opened is closed first",
		Promise: "Each part is closed before the one that was opened before it. Lost: parts " +
			"that were not closed, or were closed out of order.",
		Build: func(a *App) { a.Parts = letters(8) },
		Judge: func(r *Result) Cell {
			want := letterNames(8)
			bad, got := 0, r.all("closed ")
			for i := range want {
				if i >= len(got) || got[i] != want[len(want)-1-i] {
					bad++
				}
			}
			return lost(bad)
		},
	},
	{
		Less: true,
		Name: "nothing", Title: "nothing to do: from SIGTERM to the end",
		Promise: "The process ends within 250 ms.",
		Build:   func(a *App) {},
		Timed:   true,
		Judge: func(r *Result) Cell {
			if r.Took > 250*time.Millisecond {
				return lostBecause(figure(r.Took))
			}
			return kept(figure(r.Took))
		},
	},
	{
		Less: true,
		Name: "many", Title: "2,000 parts",
		Promise: "Each is closed once. The figure is the time to the end of the process. It " +
			"includes the record of each call.",
		Build: func(a *App) {
			a.Timeout = 20 * time.Second
			for i := range 2000 {
				a.Parts = append(a.Parts, &Part{
					Name: fmt.Sprint(i),
					Open: func() error { return nil },
					Stop: func(context.Context) error { Say("closed %d", i); return nil },
				})
			}
		},
		Judge: func(r *Result) Cell {
			closed := make(map[string]int)
			for _, name := range r.all("closed ") {
				closed[name]++
			}
			bad := 2000 - len(closed)
			for _, n := range closed {
				bad += n - 1
			}
			return lost(bad, figure(r.Took))
		},
	},
	{
		Name: "beside", Title: "four parts that need 500 ms, and do not depend on each other",
		Promise: "They may be closed at the same time, and are closed within 1.5 s. The " +
			"figure is the time from the first call to the last return.",
		Build: func(a *App) {
			for _, name := range letterNames(4) {
				p := part(name, after(500*time.Millisecond))
				p.Alone = true
				a.Parts = append(a.Parts, p)
			}
		},
		Timed: true,
		Judge: func(r *Result) Cell {
			if n := r.missing("closed ", letterNames(4)...); n > 0 {
				return lost(n)
			}
			var first, last time.Time
			for _, l := range r.Lines {
				if first.IsZero() && strings.HasPrefix(l.Text, "close ") {
					first = l.At
				}
				if strings.HasPrefix(l.Text, "closed ") {
					last = l.At
				}
			}
			took := last.Sub(first)
			if took > 1500*time.Millisecond {
				return lostBecause(figure(took))
			}
			return kept(figure(took))
		},
	},
	{
		Name: "slow", Title: "one closer needs 3.5 of 5 s",
		Promise: "It is awaited.",
		Build: func(a *App) {
			a.Timeout = 5 * time.Second
			a.Parts = []*Part{
				part("a", ok), part("slow", after(3500*time.Millisecond)), part("c", ok),
			}
		},
		Judge: func(r *Result) Cell {
			return lost(r.missing("closed ", "a", "slow", "c"), figure(r.Took))
		},
	},
	{
		More: true,
		Name: "deadline", Title: "a closer is told how much time it has",
		Promise: "Its context has a deadline, within the timeout of 3 s. The figure is the " +
			"remaining time.",
		Build: func(a *App) { a.Parts = []*Part{part("a", ok)} },
		Judge: func(r *Result) Cell {
			calls, least, dead := r.called()
			if calls["a"] == 0 || dead > 0 || least < 0 || least > r.Timeout {
				return lost(1)
			}
			return kept(figure(least))
		},
	},
	{
		Name: "resource", Title: "workers use a part until they end",
		Promise: "The part is closed after the last use. Lost: uses after it was closed.",
		Build: func(a *App) {
			var closed atomic.Bool
			a.Parts = []*Part{shared(part("db", func(context.Context) error {
				closed.Store(true)
				return nil
			}))}
			for i := range 4 {
				name := fmt.Sprint("w", i)
				a.Workers = append(a.Workers, worker(name, func(ctx context.Context) error {
					<-ctx.Done()
					for range 3 { // its work in hand
						time.Sleep(100 * time.Millisecond)
						if closed.Load() {
							Say("late use")
						} else {
							Say("used")
						}
					}
					return ctx.Err()
				}))
			}
		},
		Judge: func(r *Result) Cell {
			used := len(r.all("used"))
			if bad := 12 - used; bad > 0 {
				return lost(bad)
			}
			return lost(r.missing("closed ", "db"))
		},
	},
	{
		Name: "last", Title: "the log is flushed after everything else",
		Promise: "A part that all others use is closed when a worker, a request and another " +
			"part are done. Lost: events that are recorded after it.",
		Build: func(a *App) {
			a.Parts = []*Part{shared(part("log", ok)), part("cache", after(50*time.Millisecond))}
			a.Workers = []*Worker{worker("w", func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(300 * time.Millisecond)
				return ctx.Err()
			})}
			a.Servers = []*Server{web(handle(func(http.ResponseWriter, *http.Request) {
				time.Sleep(500 * time.Millisecond)
				Say("handled")
			}))}
		},
		Drive: func(p *Proc) {
			p.Ready()
			wait := p.ask(1, "/")
			term(p)
			wait()
		},
		Judge: func(r *Result) Cell {
			late := r.missing("closed ", "log", "cache") + r.missing("end ", "w") +
				r.missing("handled", "")
			seen := false
			for _, l := range r.Lines {
				switch l.Text {
				case "closed log":
					seen = true
				case "main":
				default:
					if seen {
						late++
					}
				}
			}
			return lost(late)
		},
	},
}
