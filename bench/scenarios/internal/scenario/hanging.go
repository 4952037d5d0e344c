//go:build unix

package scenario

import (
	"fmt"
	"syscall"
	"time"
)

var hanging = []*Scenario{
	{
		Crash: true,
		Less:  true,
		Name:  "hang", Title: "the only closer hangs: the end within the timeout",
		Promise: "The process ends within its timeout of 3 s (and a second). The figure is " +
			"the time.",
		Build: func(a *App) { a.Parts = []*Part{part("stuck", stuck)} },
		Timed: true,
		Judge: judgeTime,
	},
	{
		Crash: true,
		Name:  "hang-status", Title: "… and the exit status says so",
		Promise: "The process ends by itself, and its status is not 0.",
		Build:   func(a *App) { a.Parts = []*Part{part("stuck", stuck)} },
		Judge: func(r *Result) Cell {
			if r.Status == 0 {
				return lostBecause(r.status())
			}
			return kept(r.status())
		},
	},
	{
		Crash: true,
		Name:  "hang-named", Title: "… and the output names it",
		Promise: "The name of the part, or a stack with the func that hangs, is in the output.",
		Build:   func(a *App) { a.Parts = []*Part{mailer()} },
		Judge:   judgeNamed,
	},
	{
		Crash: true,
		Name:  "hang-middle", Title: "the third of five closers hangs: the other four",
		Promise: "They are called, with a context that has not expired. The figure is the " +
			"least remaining time of one of them.",
		Build: func(a *App) {
			a.Parts = letters(5)
			a.Parts[2] = part("c", stuck)
		},
		Timed: true,
		Drive: hardTerm,
		Judge: func(r *Result) Cell { return judgeOthers(r, without(letterNames(5), "c")...) },
	},
	{
		Crash: true,
		Name:  "hang-two", Title: "two of six closers hang: the other four",
		Promise: "As above.",
		Build: func(a *App) {
			a.Parts = letters(6)
			a.Parts[2], a.Parts[4] = part("c", stuck), part("e", stuck)
		},
		Timed: true,
		Drive: hardTerm,
		Judge: func(r *Result) Cell { return judgeOthers(r, "a", "b", "d", "f") },
	},
	{
		Crash: true,
		Less:  true,
		Name:  "hang-1000", Title: "1,000 closers hang",
		Promise: "Each is called once, and the process ends within its timeout. Lost: those " +
			"that are not called.",
		Build: func(a *App) {
			for i := range 1000 {
				a.Parts = append(a.Parts, part(fmt.Sprint(i), stuck))
			}
		},
		Timed: true,
		Drive: hardTerm,
		Judge: func(r *Result) Cell {
			calls, _, dead := r.called()
			if n := 1000 - len(calls) + dead; n > 0 {
				return lost(n)
			}
			return judgeTime(r)
		},
	},
	{
		Crash: true,
		Less:  true,
		Name:  "late", Title: "a closer ignores its context and returns late",
		Promise: "It needs 5 s of a timeout of 3 s. The process ends in time, and the other " +
			"two are called with time left.",
		Build: func(a *App) {
			a.Parts = []*Part{part("a", ok), part("late", after(5*time.Second)), part("c", ok)}
		},
		Timed: true,
		Judge: func(r *Result) Cell {
			if cell := judgeOthers(r, "a", "c"); cell.Verdict != Kept {
				return cell
			}
			return judgeTime(r)
		},
	},
	{
		Crash: true,
		Less:  true,
		Name:  "hang-worker", Title: "a worker never ends",
		Promise: "The process ends in time, and the part that the workers use is closed.",
		Build:   stuckWorker,
		Timed:   true,
		Drive:   hardTerm,
		Judge: func(r *Result) Cell {
			if cell := judgeOthers(r, "db"); cell.Verdict != Kept {
				return cell
			}
			return judgeTime(r)
		},
	},
	{
		Crash: true,
		Name:  "hang-worker-named", Title: "… and the output names it",
		Promise: "The name of the worker, or a stack with the func that hangs, is in the output.",
		Build:   stuckWorker,
		Judge:   judgeNamed,
	},
	{
		Name: "cont", Title: "SIGSTOP in the middle of the shutdown, SIGCONT 4 s later",
		Promise: "The timeout of 3 s is over then. Each part is called nonetheless, with a " +
			"context that has not expired.",
		Build: func(a *App) {
			for i := range 6 {
				a.Parts = append(a.Parts, part(fmt.Sprint("p", i), after(100*time.Millisecond)))
			}
		},
		Timed: true,
		Drive: func(p *Proc) {
			p.Ready()
			p.Signal(syscall.SIGTERM)
			p.Await("closed ")
			p.cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(4 * time.Second)
			p.cmd.Process.Signal(syscall.SIGCONT)
		},
		Judge: func(r *Result) Cell { return judgeOthers(r, "p0", "p1", "p2", "p3", "p4", "p5") },
	},
}

func stuckWorker(a *App) {
	a.Parts = []*Part{shared(part("db", ok))}
	a.Workers = []*Worker{worker("the-worker", stuck)}
}

// hardTerm sends SIGTERM, and waits for the time to be over: a peer that hangs
// has had its chance to call the others.
func hardTerm(p *Proc) { p.Ready(); term(p) }

func term(p *Proc) { p.Signal(syscall.SIGTERM) }

// judgeTime checks the time to the end alone.
func judgeTime(r *Result) Cell {
	if !r.inTime() {
		return lostBecause(figure(r.Took))
	}
	return kept(figure(r.Took))
}

// judgeOthers checks whether the parts are called with time left.
func judgeOthers(r *Result, names ...string) Cell {
	calls := make(map[string]bool)
	least := time.Duration(-1)
	for _, rest := range r.all("close ") {
		var name, left string
		fmt.Sscan(rest, &name, &left)
		if left == "over" {
			continue
		}
		calls[name] = true
		var ms int
		if _, err := fmt.Sscan(left, &ms); err == nil {
			d := time.Duration(ms) * time.Millisecond
			if contains(names, name) && (least < 0 || d < least) {
				least = d
			}
		}
	}
	bad := 0
	for _, name := range names {
		if !calls[name] {
			bad++
		}
	}
	if bad > 0 {
		return lost(bad)
	}
	if least >= 0 {
		return kept(figure(least) + " left")
	}
	return kept()
}

func contains(names []string, name string) bool { return len(without(names, name)) < len(names) }

func judgeNamed(r *Result) Cell {
	for _, name := range []string{
		"the-mailer", "theMailer", "the-worker", "theWorker", "scenario.stuck(",
	} {
		if r.says(name) {
			return kept()
		}
	}
	return lost(1)
}
