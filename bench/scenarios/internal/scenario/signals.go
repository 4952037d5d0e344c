//go:build unix

package scenario

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

var signals = []*Scenario{
	{
		Name: "int-doubled", Title: "one Ctrl-C that arrives twice, 50 ms apart",
		Promise: "A terminal and a parent both deliver it. The process is not ended by force. " +
			"The closer that needs 700 ms returns.",
		Build: needs700ms,
		Crash: true,
		Drive: func(p *Proc) { p.twice(os.Interrupt, 50*time.Millisecond) },
		Judge: judge700ms,
	},
	{
		Less: true,
		Name: "int-again", Title: "a second Ctrl-C after 700 ms, while a closer hangs",
		Promise: "The process ends within a second of it, and the status is not 0. The " +
			"timeout is 10 s. (By hand, the stop func of signal.NotifyContext is " +
			"deferred, as in its example. If it were called at the first signal instead, " +
			"this promise would be kept, and those of int-doubled and term-5 would be " +
			"broken.)",
		Build: func(a *App) {
			a.Timeout = 10 * time.Second
			a.Parts = []*Part{mailer()}
		},
		Crash: true,
		Timed: true,
		Drive: func(p *Proc) { p.twice(os.Interrupt, 700*time.Millisecond) },
		Judge: func(r *Result) Cell {
			took := r.Took - r.Marks["again"].Sub(r.Told)
			switch {
			case took < 0:
				return lostBecause("ended before it")
			case took > time.Second:
				return lostBecause(figure(took) + " after it")
			case r.Status == 0:
				return lostBecause(r.status())
			}
			return kept(figure(took) + " after it")
		},
	},
	{
		Name: "int-again-named", Title: "… and the output names the closer that hangs",
		Promise: "The name of the part, or a stack with the func that hangs, is in the output.",
		Build: func(a *App) {
			a.Timeout = 10 * time.Second
			a.Parts = []*Part{mailer()}
		},
		Crash:    true,
		Patience: 2 * time.Second,
		Drive:    func(p *Proc) { p.twice(os.Interrupt, 700*time.Millisecond) },
		Judge:    judgeNamed,
	},
	{
		Name: "term-5", Title: "SIGTERM five times, 100 ms apart",
		Promise: "Supervisors repeat it. It changes nothing. The closer that needs 700 ms returns.",
		Build:   needs700ms,
		Crash:   true,
		Drive: func(p *Proc) {
			p.Ready()
			for range 5 {
				p.Signal(syscall.SIGTERM)
				time.Sleep(100 * time.Millisecond)
			}
		},
		Judge: judge700ms,
	},
	{
		Name: "start", Title: "SIGTERM during the start",
		Promise: "It comes while the second of three parts is being opened, which takes 500 " +
			"ms. The open parts are closed.",
		Build: func(a *App) {
			a.Parts = letters(3)
			open := a.Parts[1].Open
			a.Parts[1].Open = func() error {
				Say("opening b")
				time.Sleep(500 * time.Millisecond)
				return open()
			}
		},
		Crash: true,
		Drive: func(p *Proc) {
			if _, ok := p.Await("opening b"); ok {
				time.Sleep(settle)
			}
			term(p)
		},
		Judge: func(r *Result) Cell { return judgeOpened(r) },
	},
	{
		Name: "last-lines", Title: "SIGTERM again in the last lines of main",
		Promise: "The package has ended its shutdown, and main does 500 ms of work. It " +
			"reaches its end, with status 0.",
		Build: func(a *App) { a.Parts = letters(1) },
		After: func(a *App) {
			Say("last lines")
			time.Sleep(500 * time.Millisecond)
		},
		Crash: true,
		Drive: func(p *Proc) {
			p.Ready()
			term(p)
			if _, ok := p.Await("last lines"); ok {
				p.result.Kept = true
				time.Sleep(50 * time.Millisecond)
				term(p)
			}
		},
		Judge: func(r *Result) Cell {
			if !r.Kept {
				return Cell{Verdict: NA, Note: "main does not go on"}
			}
			if crash, is := r.crashed(); is {
				return crash
			}
			if r.Status != 0 {
				return lostBecause(r.status())
			}
			return kept()
		},
	},
	{
		Name: "which", Title: "SIGINT, and an exit status of 130",
		Promise: "A command tells the shell which signal ended it. So the package tells main.",
		Needs: func(ops *Ops) string {
			if ops.Got == nil {
				return "does not tell"
			}
			return ""
		},
		Build: func(a *App) { a.Parts = letters(1) },
		After: func(a *App) {
			if sig, is := a.Ops.Got().(syscall.Signal); is {
				os.Exit(128 + int(sig))
			}
		},
		Drive: func(p *Proc) { p.Ready(); p.Signal(os.Interrupt) },
		Judge: func(r *Result) Cell {
			if r.Status != 130 {
				return lostBecause(r.status())
			}
			return kept(r.status())
		},
	},
	{
		Name: "nohup", Title: "SIGHUP under nohup",
		Promise: "SIGHUP is one of the signals that stop the program. Started by nohup, it " +
			"goes on.",
		Build: func(a *App) {
			a.Parts = letters(1)
			a.Signals = append(a.Signals, syscall.SIGHUP)
		},
		Crash:   true,
		Command: ignoring("HUP"),
		Drive:   func(p *Proc) { p.survives(syscall.SIGHUP) },
		Judge:   judgeSurvived,
	},
	{
		Name: "background", Title: "SIGINT in the background of a shell",
		Promise: "A shell starts background jobs with SIGINT ignored, so that Ctrl-C at " +
			"another program does not reach them. The program goes on.",
		Build:   func(a *App) { a.Parts = letters(1) },
		Crash:   true,
		Command: ignoring("INT"),
		Drive:   func(p *Proc) { p.survives(os.Interrupt) },
		Judge:   judgeSurvived,
	},
	{
		Name: "quit", Title: "SIGQUIT while a closer hangs",
		Promise: "The stacks go to stderr, with the func that hangs.",
		Build:   func(a *App) { a.Parts = []*Part{part("a", stuck)} },
		Crash:   true,
		Drive: func(p *Proc) {
			p.Ready()
			term(p)
			p.Await("close ")
			time.Sleep(settle) // it hangs by then
			p.Signal(syscall.SIGQUIT)
		},
		Patience: time.Second,
		Judge: func(r *Result) Cell {
			if !r.says("scenario.stuck(") {
				return lost(1)
			}
			return kept()
		},
	},
	{
		Name: "again", Title: "stopped and run again twice, and then one Ctrl-C",
		Promise: "This is a program that reloads. The one Ctrl-C is the first signal of the " +
			"third run. Its closer, which needs 700 ms, returns.",
		Rounds: 3,
		Build: func(a *App) {
			needs700ms(a)
			if a.round < 2 {
				a.started = func() { a.Ops.Stop() }
			} else {
				a.started = func() { Say("third run") }
			}
		},
		Needs: needsStop,
		Crash: true,
		Drive: func(p *Proc) {
			p.Await("third run")
			time.Sleep(settle)
			p.Signal(os.Interrupt)
		},
		Judge: func(r *Result) Cell {
			if crash, is := r.crashed(); is {
				return crash
			}
			if n := 6 - len(r.all("closed ")); n > 0 {
				return lost(n, r.status())
			}
			return kept()
		},
	},
}

func needs700ms(a *App) {
	a.Parts = []*Part{part("first", ok), part("busy", after(700*time.Millisecond))}
}

func judge700ms(r *Result) Cell {
	n := r.missing("closed ", "first", "busy")
	if r.Signal != nil {
		return Cell{Crashed, n, "signal: " + r.Signal.String()}
	}
	if crash, is := r.crashed(); is {
		return crash
	}
	return lost(n, r.status())
}

// judgeOpened checks that every opened part is closed.
func judgeOpened(r *Result) Cell {
	n := r.missing("closed ", r.all("opened ")...)
	if crash, is := r.crashed(); is {
		crash.N = n
		return crash
	}
	return lost(n)
}

func judgeSurvived(r *Result) Cell {
	if !r.Kept {
		return lost(1)
	}
	return lost(r.missing("closed ", "a"))
}

// twice sends sig, and again after d.
func (p *Proc) twice(sig os.Signal, d time.Duration) {
	p.Ready()
	p.Signal(sig)
	time.Sleep(d)
	p.Mark("again")
	p.Signal(sig)
}

// survives sends sig, checks whether that begins a shutdown or the end, and
// then sends SIGTERM.
func (p *Proc) survives(sig os.Signal) {
	p.Ready()
	p.Signal(sig)
	time.Sleep(500 * time.Millisecond)
	_, stops := p.has("close ")
	p.result.Kept = p.Alive() && !stops
	p.Signal(syscall.SIGTERM)
}

// ignoring makes the process start with signals ignored, like a process under
// nohup and the background jobs of a shell.
func ignoring(signals string) func(p *Proc, cmd *exec.Cmd) {
	return func(p *Proc, cmd *exec.Cmd) {
		sh := `trap "" ` + signals + `; exec "$0" "$@"`
		cmd.Args = append([]string{"sh", "-c", sh}, cmd.Args...)
		cmd.Path, cmd.Err = exec.LookPath("sh") // without it, the cell says so
	}
}
