//go:build unix

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

// plan is the plan of one run. The runner and its program both derive it from
// the seed, so the seed suffices to repeat a run.
type plan struct {
	timeout    time.Duration
	delay      time.Duration
	concurrent bool
	stderr     string // "kept", "closed" or "full"
	logger     string // "text", "blocks" or "panics"
	closers    []*part
	workers    int
	fails      bool // one worker fails instead of waiting for a signal
	signals    []signalAt
}

// part is a closer, or an event with closers.
type part struct {
	id         int
	afterDrain bool
	act        string        // its action when it is called
	takes      time.Duration // before the action
	registers  *part         // registers one more while it is called, or nil
	inner      []*part       // of an event; nil: it is a closer
	late       bool          // registered by a goroutine after the fire
}

type signalAt struct {
	after time.Duration // since the last one, or since the program takes signals
	sig   os.Signal
}

var signals = map[string][]syscall.Signal{
	"term": {syscall.SIGTERM},
	"int":  {syscall.SIGINT},
	"both": {syscall.SIGTERM, syscall.SIGINT},
	"repeated": {syscall.SIGTERM, syscall.SIGTERM, syscall.SIGTERM, syscall.SIGTERM,
		syscall.SIGTERM},
	"stopped": {syscall.SIGTERM, syscall.SIGSTOP, syscall.SIGCONT},
	"frozen":  {syscall.SIGSTOP, syscall.SIGTERM, syscall.SIGCONT},
	"forced":  {syscall.SIGINT, syscall.SIGINT},
}

// newPlan returns the plan of a seed.
func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, seed))
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	ms := func(most int) time.Duration {
		return time.Duration(r.IntN(most*1000)) * time.Microsecond
	}
	p := &plan{
		timeout:    time.Second + ms(1000),
		concurrent: r.IntN(5) == 0,
		stderr:     one("kept", "kept", "kept", "closed", "full"),
		logger:     one("text", "text", "text", "blocks", "panics"),
		workers:    1 + r.IntN(4),
		fails:      r.IntN(8) == 0,
	}
	if r.IntN(4) == 0 {
		p.delay = ms(200)
	}
	// Half of the runs are calm: nothing hangs, and so nothing may be lost.
	acts := []string{"ok", "ok", "ok", "fails", "panics", "exits"}
	if r.IntN(2) == 0 {
		acts = append(acts, "hangs", "late")
	}
	ids := 0
	var newPart func(depth int) *part
	newPart = func(depth int) *part {
		ids++
		c := &part{id: ids, afterDrain: r.IntN(3) == 0, act: one(acts...), takes: ms(5)}
		switch {
		case depth < 2 && r.IntN(6) == 0:
			for range 1 + r.IntN(3) {
				c.inner = append(c.inner, newPart(depth+1))
			}
		case depth < 3 && r.IntN(6) == 0:
			c.registers = newPart(3)
			c.registers.afterDrain = c.afterDrain
		case depth == 0 && r.IntN(10) == 0:
			c.late = true
		}
		return c
	}
	for range r.IntN(8) {
		p.closers = append(p.closers, newPart(0))
	}
	kind := one("term", "int", "both", "repeated", "stopped", "frozen", "forced")
	for i, sig := range signals[kind] {
		after := ms(60)
		switch {
		case i > 0 && kind == "forced":
			after = 600 * time.Millisecond // later than a double Ctrl-C
		case sig == syscall.SIGCONT:
			after = ms(int(2 * p.timeout / time.Millisecond))
		case i > 0:
			after = ms(400)
		}
		p.signals = append(p.signals, signalAt{after, sig})
	}
	return p
}

// all returns all parts, including those within others.
func (p *plan) all() (parts []*part) {
	var add func([]*part)
	add = func(list []*part) {
		for _, c := range list {
			parts = append(parts, c)
			add(c.inner)
			if c.registers != nil {
				add([]*part{c.registers})
			}
		}
	}
	add(p.closers)
	return parts
}

// calm reports whether the whole shutdown has the time that it needs.
func (p *plan) calm() bool {
	for _, c := range p.all() {
		if c.inner == nil && (c.act == "hangs" || c.act == "late") {
			return false
		}
	}
	for _, s := range p.signals {
		if s.sig == syscall.SIGSTOP {
			return false
		}
	}
	return true
}

// failure reports whether the shutdown returns an error.
func (p *plan) failure() bool {
	if p.fails {
		return true
	}
	for _, c := range p.all() {
		if c.inner == nil && c.act != "ok" && c.act != "late" {
			return true
		}
	}
	return false
}

// print writes a line for each closer, those of an event below it.
func (p *plan) print(w io.Writer) {
	var list func(parts []*part, indent string)
	list = func(parts []*part, indent string) {
		for _, c := range parts {
			fmt.Fprintf(w, "%scloser %d: %s after %v, after drain %v, late %v, an event %v\n",
				indent, c.id, c.act, c.takes, c.afterDrain, c.late, c.inner != nil)
			list(c.inner, indent+"\t")
			if c.registers != nil {
				list([]*part{c.registers}, indent+"\tregisters ")
			}
		}
	}
	list(p.closers, "")
}
