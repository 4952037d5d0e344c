//go:build unix

package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
)

// fragile is an error type whose methods panic with a nil receiver, like those
// of many packages.
type fragile struct{ why string }

func (f *fragile) Error() string { return f.why }

var failing = []*Scenario{
	{
		Name: "panic", Title: "the third of five closers panics",
		Promise: "The other four are closed, and the status is not 0.",
		Build:   third(panics),
		Crash:   true,
		Judge:   judgeFailure("a", "b", "d", "e"),
	},
	{
		Name: "panic-told", Title: "… and the output has the panic",
		Promise: "The value of the panic is in the output.",
		Build:   third(panics),
		Crash:   true,
		Judge:   judgeSays(panicked),
	},
	{
		Name: "goexit", Title: "the third of five closers calls runtime.Goexit",
		Promise: "The other four are closed, and the status is not 0.",
		Build:   third(func(context.Context) error { runtime.Goexit(); return nil }),
		Crash:   true,
		Judge:   judgeFailure("a", "b", "d", "e"),
	},
	{
		Name: "error", Title: "the third of five closers fails: the status",
		Promise: "The others are closed, and the status is not 0.",
		Build:   third(fails("the disk is full")),
		Judge:   judgeFailure("a", "b", "d", "e"),
	},
	{
		Name: "errors", Title: "three closers fail: the errors",
		Promise: "Each error is in the output. Lost: errors that are not.",
		Build: func(a *App) {
			for i, p := range letters(5) {
				if i%2 == 0 {
					p = part(p.Name, fails(fmt.Sprint("failure-", i)))
				}
				a.Parts = append(a.Parts, p)
			}
		},
		Judge: judgeSays("failure-0", "failure-2", "failure-4"),
	},
	{
		Name: "nil-error", Title: "a closer returns a typed nil, whose Error panics",
		Promise: "The process does not crash. The others are closed, and the status is not 0.",
		Build:   third(func(context.Context) error { return (*fragile)(nil) }),
		Judge:   judgeFailure("a", "b", "d", "e"),
	},
	{
		Name: "wrapped", Title: "a worker's error wraps context.Canceled",
		Promise: "The error says that an order was lost. It is in the output, and the status " +
			"is not 0. (If the program itself looks at the errors of workers, it leaves " +
			"out those that are context.Canceled for errors.Is, as most programs do.)",
		Build: func(a *App) {
			a.Workers = []*Worker{worker("w", func(ctx context.Context) error {
				<-ctx.Done()
				return fmt.Errorf("order 7 is lost: %w", ctx.Err())
			})}
		},
		Judge: func(r *Result) Cell {
			if !r.says("order 7 is lost") || r.Status == 0 {
				return lostBecause(r.status())
			}
			return kept()
		},
	},
	{
		Name: "clean", Title: "workers return ctx.Err() after SIGTERM",
		Promise: "That is no failure: the status is 0.",
		Build: func(a *App) {
			a.Parts = letters(2)
			a.Workers = []*Worker{worker("v", untilTold), worker("w", untilTold)}
		},
		Judge: func(r *Result) Cell {
			if r.Status != 0 {
				return lostBecause(r.status())
			}
			return lost(r.missing("end ", "v", "w") + r.missing("closed ", "a", "b"))
		},
	},
	{
		Name: "port", Title: "a server's port is taken",
		Promise: "The process ends by itself, with the error and a status that is not 0, and " +
			"the open parts are closed.",
		Build: func(a *App) {
			ln, err := net.Listen("tcp", "127.0.0.1:0") // never closed, never served
			if err != nil {
				a.NA(err.Error())
			}
			a.Parts = letters(3)
			s := web(nil)
			s.Addr = ln.Addr().String()
			a.Servers = []*Server{s}
		},
		Drive: func(p *Proc) {}, // it ends by itself
		Judge: func(r *Result) Cell {
			if !r.says("address already in use") {
				return lostBecause("no word of it")
			}
			return judgeFailure(r.all("opened ")...)(r)
		},
	},
	{
		Name: "open", Title: "the third of four parts cannot be opened",
		Promise: "The process ends by itself, with the error and a status that is not 0, and " +
			"the first two are closed.",
		Build: func(a *App) {
			a.Parts = letters(4)
			a.Parts[2].Open = func() error { return errors.New("no such database") }
		},
		Drive: func(p *Proc) {},
		Judge: func(r *Result) Cell {
			if !r.says("no such database") {
				return lostBecause("no word of it")
			}
			return judgeFailure(r.all("opened ")...)(r)
		},
	},
	{
		Name: "worker-fails", Title: "a worker fails",
		Promise: "The process ends by itself, with the error and a status that is not 0, and " +
			"all parts are closed.",
		Build: func(a *App) {
			a.Parts = letters(3)
			a.Workers = []*Worker{worker("v", untilTold), worker("w", func(context.Context) error {
				time.Sleep(200 * time.Millisecond)
				return errors.New("the queue is gone")
			})}
		},
		Drive: func(p *Proc) {},
		Judge: func(r *Result) Cell {
			if !r.says("the queue is gone") {
				return lostBecause("no word of it")
			}
			return judgeFailure(r.all("opened ")...)(r)
		},
	},
	{
		Name: "worker-panics", Title: "a worker panics",
		Promise: "The panic is in the output, all parts are closed, and the status is not 0.",
		Build: func(a *App) {
			a.Parts = letters(3)
			a.Workers = []*Worker{worker("v", untilTold), worker("w", func(context.Context) error {
				time.Sleep(200 * time.Millisecond)
				panic(panicked)
			})}
		},
		Crash: true,
		Drive: func(p *Proc) {},
		Judge: func(r *Result) Cell {
			if !r.says(panicked) {
				return lostBecause("no word of it")
			}
			return judgeFailure(r.all("opened ")...)(r)
		},
	},
	{
		Name: "group", Title: "a worker of a nested group fails",
		Promise: "The process ends by itself, with the error and a status that is not 0. The " +
			"parts of the group and the others are closed.",
		Build: func(a *App) {
			a.Parts = letters(2)
			a.Group = &Group{
				Name:  "inner",
				Parts: []*Part{part("inner-a", ok), part("inner-b", ok)},
				Workers: []*Worker{worker("inner-w", func(context.Context) error {
					time.Sleep(200 * time.Millisecond)
					return errors.New("the inner queue is gone")
				})},
			}
			a.Workers = []*Worker{worker("v", untilTold)}
		},
		Drive: func(p *Proc) {},
		Judge: func(r *Result) Cell {
			if !r.says("the inner queue is gone") {
				return lostBecause("no word of it")
			}
			return judgeFailure("a", "b", "inner-a", "inner-b")(r)
		},
	},
}

// third has five parts, the third of which runs stop.
func third(stop func(context.Context) error) func(a *App) {
	return func(a *App) {
		a.Parts = letters(5)
		a.Parts[2] = part("c", stop)
	}
}

// judgeFailure checks that the parts are closed and that the status reports the
// failure.
func judgeFailure(names ...string) func(r *Result) Cell {
	return func(r *Result) Cell {
		n := r.missing("closed ", names...)
		if crash, is := r.crashed(); is && n > 0 {
			crash.N = n
			return crash
		}
		if n > 0 {
			return lost(n, r.status())
		}
		if r.Status == 0 {
			return lostBecause(r.status())
		}
		return kept(r.status())
	}
}

// judgeSays checks that the texts are in the output.
func judgeSays(texts ...string) func(r *Result) Cell {
	return func(r *Result) Cell {
		n := 0
		for _, text := range texts {
			if !r.says(text) {
				n++
			}
		}
		return lost(n)
	}
}
