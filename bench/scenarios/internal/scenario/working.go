//go:build unix

package scenario

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

var working = []*Scenario{
	{
		Name: "work-ctx", Title: "a context for work in flight",
		Promise: "The signal does not cancel it: a job of 500 ms is finished. It is cancelled " +
			"before the process ends: a job that waits for that notices it.",
		Needs: func(ops *Ops) string {
			if ops.Work == nil {
				return "no such context"
			}
			return ""
		},
		Build: func(a *App) {
			a.Workers = []*Worker{
				worker("job", func(ctx ctx) error {
					<-ctx.Done()
					select {
					case <-a.Ops.Work().Done():
						return fmt.Errorf("cut off")
					case <-time.After(500 * time.Millisecond):
						Say("finished")
						return ctx.Err()
					}
				}),
				worker("endless", func(ctx ctx) error {
					<-ctx.Done()
					<-a.Ops.Work().Done()
					Say("told")
					return ctx.Err()
				}),
			}
		},
		Judge: func(r *Result) Cell {
			return lost(r.missing("finished", "") + r.missing("told", ""))
		},
	},
	{
		Name: "go", Title: "200 goroutines that start jobs at the moment of the signal",
		Promise: "Lost: jobs that were accepted and not finished when main returns.",
		Needs: func(ops *Ops) string {
			if ops.Go == nil {
				return "starts none while it runs"
			}
			return ""
		},
		Build: func(a *App) {
			var n atomic.Int64
			a.Workers = []*Worker{worker("w", untilTold)}
			a.started = func() {
				for range 200 {
					go func() {
						for !a.Ops.Stopping() {
							id := n.Add(1)
							if !a.Ops.Go(fmt.Sprint("job ", id), func(ctx) error {
								time.Sleep(20 * time.Millisecond)
								Say("out %d", id)
								return nil
							}) {
								return
							}
							Say("in %d", id)
							time.Sleep(time.Duration(5+rand.IntN(20)) * time.Millisecond)
						}
					}()
				}
			}
		},
		Drive: func(p *Proc) {
			p.Ready()
			time.Sleep(200 * time.Millisecond)
			term(p)
		},
		Judge: func(r *Result) Cell {
			in := r.all("in ")
			out := make(map[string]bool)
			for _, id := range r.all("out ") {
				out[id] = true
			}
			n := 0
			for _, id := range in {
				if !out[id] {
					n++
				}
			}
			return lost(n, fmt.Sprint("of ", len(in)))
		},
	},
	{
		Less: true,
		Name: "leak", Title: "five runs in one process: goroutines that are left",
		Promise: "There are no more after the fifth SIGTERM than after the first. Lost: " +
			"goroutines beyond that. The figure is the number of goroutines that are " +
			"left for good, without those of os/signal and the runtime.",
		Rounds: 5,
		Build: func(a *App) {
			a.Parts = letters(3)
			a.Workers = []*Worker{worker("v", untilTold), worker("w", untilTold)}
			quickServer(a)
			a.started = func() { Say("round %d", a.round) }
		},
		After: func(a *App) {
			n, stacks := goroutines()
			end := time.Now().Add(500 * time.Millisecond)
			for n > 0 && time.Now().Before(end) {
				time.Sleep(10 * time.Millisecond)
				n, stacks = goroutines()
			}
			Say("left %d", n)
			if a.round == 4 {
				print(stacks)
			}
		},
		Drive: func(p *Proc) {
			for i := range 5 {
				if _, ok := p.Await(fmt.Sprint("round ", i)); !ok {
					return
				}
				time.Sleep(settle)
				term(p)
			}
		},
		Judge: func(r *Result) Cell {
			left := r.all("left ")
			if len(left) < 5 {
				return lostBecause(fmt.Sprintf("%d of 5 runs", len(left)))
			}
			var first, last int
			fmt.Sscan(left[0], &first)
			fmt.Sscan(left[4], &last)
			return lost(max(0, last-first), left[4]+" left")
		},
	},
}
