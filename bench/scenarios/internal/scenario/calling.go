//go:build unix

package scenario

import (
	"context"
	"sync"
	"time"
)

type ctx = context.Context

var calling = []*Scenario{
	{
		Name: "add", Title: "a closer registers another part",
		Promise: "The other part is closed too.",
		Needs:   needsAdd,
		Build: func(a *App) {
			a.Parts = []*Part{part("a", ok), part("b", func(ctx) error {
				a.Ops.Add(part("late", ok))
				return nil
			})}
		},
		Judge: func(r *Result) Cell { return lost(r.missing("closed ", "a", "b", "late")) },
	},
	{
		Name: "remove", Title: "a part is closed early, and taken out",
		Promise: "The shutdown does not close it again.",
		Needs:   needsAdd,
		Build: func(a *App) {
			a.Parts = letters(2)
			a.started = func() {
				remove := a.Ops.Add(part("early", ok))
				if remove == nil {
					a.NA("no way to take one out")
				}
				remove()
				Say("removed")
			}
		},
		Drive: func(p *Proc) {
			p.Ready()
			p.Await("removed")
			term(p)
		},
		Judge: func(r *Result) Cell {
			return lost(r.missing("closed ", "a", "b") + len(r.all("closed early")))
		},
	},
	{
		Name: "stop-twice", Title: "the shutdown is asked for twice at once",
		Promise: "Each part is closed once. Lost: superfluous and missing calls.",
		Needs:   needsStop,
		Build: func(a *App) {
			wait := after(50 * time.Millisecond)
			a.Parts = []*Part{part("a", wait), part("b", wait)}
			a.started = func() {
				time.Sleep(settle)
				var both sync.WaitGroup
				both.Go(a.Ops.Stop)
				both.Go(a.Ops.Stop)
				both.Wait()
			}
		},
		Drive: func(p *Proc) {},
		Judge: func(r *Result) Cell {
			calls, _, _ := r.called()
			bad := 0
			for _, name := range letterNames(2) {
				bad += max(calls[name]-1, 1-calls[name])
			}
			return lost(bad)
		},
	},
	{
		Less: true,
		Name: "stop-inside", Title: "a closer asks for the shutdown",
		Promise: "There is no deadlock. All three parts are closed, and the process ends " +
			"within a second.",
		Needs: needsStop,
		Build: func(a *App) {
			a.Parts = []*Part{
				part("a", ok),
				part("b", func(ctx) error { a.Ops.Stop(); return nil }),
				part("c", ok),
			}
		},
		Timed: true,
		Judge: func(r *Result) Cell {
			calls, _, _ := r.called()
			if n := 3 - len(calls); n > 0 {
				return lost(n)
			}
			if n := calls["a"] + calls["b"] + calls["c"] - 3; n > 0 {
				return lost(n, "calls too many")
			}
			if r.Took > time.Second {
				return lostBecause(figure(r.Took))
			}
			return kept(figure(r.Took))
		},
	},
}

func needsAdd(ops *Ops) string {
	if ops.Add == nil {
		return "no registry to add to"
	}
	return ""
}

func needsStop(ops *Ops) string {
	if ops.Stop == nil {
		return "no call for it"
	}
	return ""
}
