//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// outcome is the record of one run.
type outcome struct {
	journal  []string
	status   string        // "exit status 1", as in package exec
	took     time.Duration // from the last signal to the end
	accepted []string      // jobs that were answered with 202
	broken   []string      // requests on an established connection without an answer
	stderr   bytes.Buffer  // if it is kept
}

// check returns all deviations of o from the plan p.
func check(p *plan, o *outcome) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Sprintf(format, args...))
	}
	calls := map[int]int{}
	var order []int // of the calls
	done := map[string]int{}
	registered := map[string]bool{} // by a closer while it is called
	ended, report := -1, ""
	for i, line := range o.journal {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "call":
			n, alive, _ := strings.Cut(rest, " ")
			id, _ := strconv.Atoi(n)
			if calls[id]++; calls[id] > 1 {
				fault("closer %d was called twice", id)
			}
			if alive != "alive" && !p.frozen() { // otherwise its time may be over before it looks
				fault("closer %d was called with a context that is done", id)
			}
			order = append(order, id)
			if ended >= 0 {
				fault("closer %d was called after the end", id)
			}
		case "registered":
			registered[rest] = true
		case "done":
			if done[rest]++; done[rest] > 1 {
				fault("job %s was done twice", rest)
			}
			if ended >= 0 && p.calm() {
				fault("job %s was done after the end", rest)
			}
		case "report":
			report = rest
		case "end":
			ended = i
		}
	}

	switch o.status {
	// A second Ctrl-C: nothing is promised, except that nothing is done twice.
	case "exit status 130":
		if !p.mayBeForced() {
			fault("the process ended with %s, and there was no second Ctrl-C", o.status)
		}
		return faults
	case "exit status 0", "exit status 1":
	default:
		fault("the process ended with %s\n%s", o.status, o.stderr.String())
		return faults
	}
	if ended < 0 {
		fault("the process ended before WaitSignal returned")
		return faults
	}

	later := map[*part]bool{} // registered by closers
	for _, c := range p.all() {
		if c.registers != nil {
			later[c.registers] = true
		}
	}
	for _, c := range p.all() {
		// A closer that is abandoned may not have come to register another one.
		if later[c] && !registered[strconv.Itoa(c.id)] {
			continue
		}
		if c.inner == nil && calls[c.id] == 0 && !c.late {
			fault("closer %d was never called", c.id)
		}
	}
	if failed := o.status == "exit status 1"; failed != p.failure() && p.calm() && !p.anyLate() {
		fault("the process ended with %s, and failure is %v", o.status, p.failure())
	}
	if p.calm() {
		for _, job := range o.accepted {
			if done[job] == 0 {
				fault("job %s was accepted and is lost", job)
			}
		}
		for _, request := range o.broken {
			fault("a connection broke: %s", request)
		}
		if !p.concurrent && !p.anyLate() {
			if want := p.order(); !slices.Equal(order, want) {
				fault("the closers were called in the order %v, want %v", order, want)
			}
		}
	}
	faults = append(faults, checkReport(p, report)...)
	// took includes the time that the process stood still. The seconds are for
	// a busy machine.
	if most := p.timeout + p.delay + p.stood() + 10*time.Second; o.took > most {
		fault("the end took %v, want at most %v", o.took, most)
	}
	return faults
}

// checkReport checks that every closer has had its minimum time.
func checkReport(p *plan, text string) (faults []string) {
	type step struct {
		Phase           string
		Name            string
		Start, Deadline time.Time
		Steps           []step
	}
	var report struct {
		Started, Deadline time.Time
		Steps             []step
	}
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		return []string{fmt.Sprintf("the report is not to be read: %v", err)}
	}
	reserve := min(max(report.Deadline.Sub(report.Started)/10, time.Millisecond), time.Second)
	for _, s := range report.Steps {
		if s.Phase == "delay" || s.Phase == "drain" || s.Name == "queue" {
			continue
		}
		// Started is a little later than the moment from which the time counts.
		if share := s.Deadline.Sub(s.Start); share < reserve*2/5-time.Millisecond {
			faults = append(faults,
				fmt.Sprintf("closer %s had %v, want at least 2/5 of %v", s.Name, share, reserve))
		}
	}
	if len(report.Steps) < len(p.closers)-p.lateOnes() {
		faults = append(faults, fmt.Sprintf("the report has %d steps", len(report.Steps)))
	}
	return faults
}

// order returns the order in which the closers are called if nothing hangs.
func (p *plan) order() (ids []int) {
	var shutdown func(parts []*part)
	shutdown = func(parts []*part) {
		for _, after := range []bool{false, true} {
			for i := len(parts) - 1; i >= 0; i-- {
				c := parts[i]
				if c.afterDrain != after {
					continue
				}
				if c.inner != nil {
					shutdown(c.inner)
					continue
				}
				for ; c != nil; c = c.registers {
					ids = append(ids, c.id)
				}
			}
		}
	}
	shutdown(p.closers)
	return ids
}

func (p *plan) lateOnes() (n int) {
	for _, c := range p.all() {
		if c.late {
			n++
		}
	}
	return n
}

func (p *plan) anyLate() bool { return p.lateOnes() > 0 }

// mayBeForced reports whether there may have been a second Ctrl-C.
func (p *plan) mayBeForced() bool {
	ints := 0
	for i, s := range p.signals {
		if s.sig == syscall.SIGINT && (i > 0 || p.fails) {
			ints++
		}
	}
	return ints > 0
}

// frozen reports whether the process stands still at some time.
func (p *plan) frozen() bool { return p.stood() > 0 }

func (p *plan) stood() (d time.Duration) {
	for i, s := range p.signals {
		if s.sig == syscall.SIGCONT {
			d += s.after
			if i > 1 && p.signals[i-2].sig == syscall.SIGSTOP {
				d += p.signals[i-1].after
			}
		}
	}
	return d
}
