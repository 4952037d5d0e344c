//go:build unix

package scenario

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"syscall"
	"time"
)

var output = []*Scenario{
	{
		Name: "stdout-broken", Title: "stdout is a broken pipe, and closers print",
		Promise: "This is program | tee, if Ctrl-C ends tee first. All three parts are closed.",
		Build:   printing(func(name string) { fmt.Println("closing", name) }),
		Crash:   true,
		Command: brokenPipe(func(cmd *exec.Cmd, w *os.File) { cmd.Stdout = w }),
		Drive:   breakAndTerm,
		Judge:   judgeOpened,
	},
	{
		Name: "stderr-broken", Title: "stderr is a broken pipe, and closers log",
		Promise: "All three parts are closed.",
		Build:   printing(func(name string) { log.Println("closing", name) }),
		Crash:   true,
		Command: brokenPipe(func(cmd *exec.Cmd, w *os.File) { cmd.Stderr = w }),
		Drive:   breakAndTerm,
		Judge:   judgeOpened,
	},
	{
		Less:  true,
		Name:  "stderr-full",
		Title: "stderr is a pipe that nobody reads, and it is full from the signal on",
		Promise: "All three parts are called, and the process ends within its timeout of 3 s. " +
			"(A package that logs nothing has nothing to wait for.)",
		Build:   func(a *App) { a.Parts = letters(3) },
		Timed:   true,
		Command: fullPipe,
		Drive:   breakAndTerm,
		Judge: func(r *Result) Cell {
			if n := r.missing("closed ", "a", "b", "c"); n > 0 {
				return lost(n)
			}
			return judgeTime(r)
		},
	},
}

// printing has three parts that write when they are closed.
func printing(write func(name string)) func(a *App) {
	return func(a *App) {
		for _, p := range letters(3) {
			a.Parts = append(a.Parts, part(p.Name, func(context.Context) error {
				write(p.Name)
				return nil
			}))
		}
	}
}

// brokenPipe gives the process a pipe whose reader goes away before the signal.
func brokenPipe(use func(cmd *exec.Cmd, w *os.File)) func(p *Proc, cmd *exec.Cmd) {
	return func(p *Proc, cmd *exec.Cmd) {
		r, w, err := os.Pipe()
		if err != nil {
			return
		}
		use(cmd, w)
		p.breaks = func() { r.Close(); w.Close() }
	}
}

func breakAndTerm(p *Proc) {
	p.Ready()
	if p.breaks != nil {
		p.breaks()
	}
	p.Signal(syscall.SIGTERM)
}

// fullPipe gives the process a pipe as stderr that is read until the signal,
// and full from then on.
func fullPipe(p *Proc, cmd *exec.Cmd) {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	cmd.Stderr = w
	reading := make(chan struct{})
	go func() { // ends with the deadline
		defer close(reading)
		io.Copy(io.Discard, r)
	}()
	p.breaks = func() {
		r.SetReadDeadline(time.Now())
		<-reading
		go w.Write(make([]byte, 1<<20)) // blocks; ends with the reader
		time.Sleep(settle)              // full by then
	}
	p.cleanups = append(p.cleanups, func() { r.Close(); w.Close() })
}
