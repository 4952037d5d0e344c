//go:build unix

// Package scenario describes how programs are stopped, in terms that belong to
// no library, and measures the outcome.
//
// A scenario has two sides. The child is a program that a peer's adapter builds
// on its library from an [App]: parts to be closed, workers, servers. The
// parent starts it as a process, sends signals and requests, and judges the
// journal, the exit status and the output into a [Cell].
package scenario

import (
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Scenario is one way in which a program is stopped, with an expectation.
type Scenario struct {
	Name    string
	Title   string // the row's in the table
	Promise string // the expectation; the cell of a peer that meets it is "kept"

	// Build describes the application. It is called in the child, once for each
	// round.
	Build func(a *App)

	// Rounds is how often the child builds and runs the application; 0 is 1.
	Rounds int

	// Needs returns why an adapter with these Ops cannot play; a nil Needs
	// means that all can.
	Needs func(ops *Ops) (missing string)

	// After is called in the child when the application has returned, in each
	// round.
	After func(a *App)

	// Command changes how the process is started; it may be nil.
	Command func(p *Proc, cmd *exec.Cmd)

	// Drive sends the process its signals and requests; nil sends SIGTERM once
	// it runs. The rest of its output and its end are awaited afterwards.
	Drive func(p *Proc)

	// Judge judges the result. Processes that hung or crashed do not get here,
	// unless Crash is set.
	Judge func(r *Result) Cell

	// Crash: Judge judges an end by a panic or a signal, too.
	Crash bool

	// Times is the number of processes that make the cell; 0 is 1. Their losses
	// add up.
	Times int

	// Timed: the figure depends on the time, so a cell that is not kept is
	// measured once more.
	Timed bool

	// Less, More: less of the figure is better, or more.
	Less, More bool

	// Patience is how long after Drive the process may run until it counts as
	// hung; 0 is four seconds more than the application's timeout.
	Patience time.Duration
}

// Theme is the scenarios of one table.
type Theme struct {
	Title     string
	Scenarios []*Scenario
}

// Themes returns all scenarios, in the order of the tables.
func Themes() []Theme {
	return []Theme{
		{"Closing", closing},
		{"Closers that hang or are late", hanging},
		{"Failures", failing},
		{"Signals", signals},
		{"Output", output},
		{"HTTP", serving},
		{"Workers", working},
		{"Calls from inside", calling},
	}
}

// Find returns the scenario with that name, or nil.
func Find(name string) *Scenario {
	for _, t := range Themes() {
		for _, s := range t.Scenarios {
			if s.Name == name {
				return s
			}
		}
	}
	return nil
}

// Verdict is the fate of a promise.
type Verdict string

const (
	Kept    Verdict = "kept"
	Lost    Verdict = "lost"
	Hung    Verdict = "hung"
	Crashed Verdict = "crashed"
	NA      Verdict = "n/a"
)

// Cell is the outcome of one scenario for one peer.
type Cell struct {
	Verdict Verdict
	N       int    // the number of losses; 0 if they are not countable
	Note    string // a figure, or the reason
}

func (c Cell) String() string {
	s := string(c.Verdict)
	if c.N > 0 {
		s += fmt.Sprint(" ", c.N)
	}
	if c.Note != "" {
		s += ", " + c.Note
	}
	return s
}

// kept returns a cell with those notes that are not empty.
func kept(notes ...string) Cell { return Cell{Verdict: Kept, Note: note(notes)} }

// lost returns kept if n is 0.
func lost(n int, notes ...string) Cell {
	if n == 0 {
		return kept(notes...)
	}
	return Cell{Lost, n, note(notes)}
}

// lostBecause returns a loss without a number.
func lostBecause(why ...string) Cell { return Cell{Lost, 0, note(why)} }

func note(notes []string) string {
	var some []string
	for _, n := range notes {
		if n != "" {
			some = append(some, n)
		}
	}
	return strings.Join(some, ", ")
}

// figure formats a measured time.
func figure(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
