package model

import (
	"fmt"
	"slices"
)

// This file models the hand-over of a shutdown. A closer returns, calls Goexit,
// or hangs and is abandoned by its timer. The goroutine that ends the step asks
// for the next one. The last one to ask ends the shutdown, once all stacks and
// records are there. An operation of the schedule under its mutex is one step
// here: another exploration covers it, on the code itself.

// Bounds of the hand-over's model.
const (
	mostClosers = 3
	mostLoops   = 8
)

// HandoverConfig is the set of closers.
type HandoverConfig struct {
	Closers    int
	Concurrent bool // all at once
	Mutant     HandoverMutant
}

// HandoverMutant is a mistake in the hand-over.
type HandoverMutant int

// The mistakes.
const (
	NoHandoverMutant  HandoverMutant = iota
	AbandonDoesNotAsk                // the timer that abandons a step does not ask for the next one
	GoexitDoesNotAsk                 // a closer that calls Goexit does not ask for it
	AskBeforeFinish                  // a step that returns asks first, and then ends
	BothEnd                          // an abandoned step ends once more when it returns
	EndToldToAll                     // each that asks after the last step ends the shutdown
	RunningUnnoticed                 // a step begins while another runs
	RecordAfterEnding                // the record of an end is made after ending was released
	EndingNotAwaited                 // the end does not take ending
	StacksNotAwaited                 // the end does not wait for the stacks
	HandoverMutants
)

type loopPC int8

const (
	loopFree loopPC = iota

	loopAsks     // shutdown.go: s, more, ended := q.sched.next(time.Now(), q.Concurrent)
	loopCalls    // step.go: err := c.shutdown(ctx)
	loopReturned // step.go: q.records.ending.RLock()
	loopFinishes // step.go: first, name = s.q.sched.finish(s, now, err, abandoned)
	loopLogs     // step.go: s.q.logEnd(s, now, err, abandoned, first)
	loopReleases // step.go: defer s.q.records.ending.RUnlock()
	timerWaits   // step.go: timeUp := s.hasLast() && !now.Before(s.last.Add(s.overtime))
	timerRLock   // step.go: q.records.ending.RLock()
	timerEnds    // step.go: first, name = s.q.sched.finish(s, now, err, abandoned)
	timerLogs    // step.go: s.q.logEnd(s, now, err, abandoned, first)
	timerUnlock  // step.go: defer s.q.records.ending.RUnlock()
	timerAsks    // step.go: go s.q.loop() // ends when no step may begin
	timerNames   // step.go: nameAll(name)
	endStacks    // shutdown.go: await(e.sched.unnamed())
	endLocks     // shutdown.go: q.records.ending.Lock() // until the records of all steps are there
	endTells     // shutdown.go: q.sched.conclude(now, failures, result(failures, wait))
	loopHangs    // in a closer, for ever
)

// loop is a goroutine: one that calls closers, or a closer's timer.
type loop struct {
	pc     loopPC
	closer int8
	goexit bool // of the closer that it has called
	first  bool // it has ended the step
}

type handoverState struct {
	waiting [mostClosers]bool // on the stack; the highest number is next
	begun   [mostClosers]bool
	over    [mostClosers]bool
	logged  [mostClosers]bool // the record of its end is there
	running int8
	owed    int8
	shared  int8 // the number of goroutines that hold ending
	last    bool // the schedule has told one to end the shutdown
	ended   bool
	loops   [mostLoops]loop // sorted: their identity does not matter
}

func (s *handoverState) start(l loop) {
	for i := range s.loops {
		if s.loops[i].pc == loopFree {
			s.loops[i] = l
			return
		}
	}
	panic("mostLoops is too small")
}

// Handover returns the model of the hand-over.
func Handover(c HandoverConfig) Model[handoverState] {
	m := Model[handoverState]{}
	for i := range c.Closers {
		m.Init.waiting[i] = true
	}
	m.Init.loops[0].pc = loopAsks
	m.Steps = c.steps
	m.Check = func(s handoverState) error {
		runs := 0
		for i := range c.Closers {
			if s.begun[i] && !s.over[i] {
				runs++
			}
		}
		switch {
		case runs > 1 && !c.Concurrent:
			return fmt.Errorf("%d steps run at once", runs)
		case int(s.running) != runs:
			return fmt.Errorf("running is %d, and %d steps run", s.running, runs)
		}
		return nil
	}
	m.Final = func(s handoverState) error {
		if !s.ended {
			return fmt.Errorf("the shutdown never ends")
		}
		for i := range c.Closers {
			if !s.begun[i] || !s.logged[i] {
				return fmt.Errorf("closer %d was never called, or its end never told", i)
			}
		}
		return nil
	}
	return m
}

func (c HandoverConfig) steps(s handoverState) (next []Step[handoverState]) {
	for i, l := range s.loops {
		if l.pc == loopFree || l.pc == loopHangs {
			continue
		}
		if i > 0 && s.loops[i-1] == l {
			continue // the same
		}
		n := l.closer
		move := func(what string, change func(s *handoverState, l *loop) error) {
			to := s
			err := change(&to, &to.loops[i])
			slices.SortFunc(to.loops[:], func(a, b loop) int { return a.order() - b.order() })
			name := fmt.Sprintf("goroutine %d, closer %d: %s", i, n, what)
			next = append(next, Step[handoverState]{name, to, err})
		}
		pc := func(what string, pc loopPC) {
			move(what, func(_ *handoverState, l *loop) error { l.pc = pc; return nil })
		}
		switch l.pc {
		case loopAsks:
			move("asks for the next step", c.ask)
		case loopCalls:
			pc("returns", loopReturned)
			move("calls Goexit", func(_ *handoverState, l *loop) error {
				l.pc, l.goexit = loopReturned, true
				return nil
			})
			pc("hangs", loopHangs)
		case loopReturned:
			if c.Mutant == AskBeforeFinish {
				move("asks for the next step", func(s *handoverState, l *loop) error {
					var other loop
					err := c.ask(s, &other)
					if other.pc != loopFree {
						s.start(other)
					}
					l.pc, s.shared = loopFinishes, s.shared+1
					return err
				})
				continue
			}
			move("shares ending", func(s *handoverState, l *loop) error {
				l.pc = loopFinishes
				s.shared++
				return nil
			})
		case loopFinishes:
			move("finishes the step", func(s *handoverState, l *loop) error {
				l.first = !s.over[n] || c.Mutant == BothEnd
				if l.first {
					s.over[n] = true
					s.running--
				}
				l.pc = loopLogs
				if c.Mutant == RecordAfterEnding {
					l.pc = loopReleases
				}
				return nil
			})
		case loopLogs, timerLogs:
			move("logs the end", func(s *handoverState, l *loop) error {
				after := map[loopPC]loopPC{loopLogs: loopReleases, timerLogs: timerUnlock}[l.pc]
				if c.Mutant == RecordAfterEnding {
					after = map[loopPC]loopPC{loopLogs: loopAsks, timerLogs: timerAsks}[l.pc]
				}
				s.logged[n] = s.logged[n] || l.first
				l.pc = after
				if after == loopAsks {
					c.leave(s, l)
				}
				return nil
			})
		case loopReleases:
			move("releases ending", func(s *handoverState, l *loop) error {
				s.shared--
				if c.Mutant == RecordAfterEnding {
					l.pc = loopLogs
					return nil
				}
				c.leave(s, l)
				return nil
			})
		case timerWaits:
			if s.over[n] {
				pc("is stopped", loopFree)
				// Or it has begun by then.
			}
			pc("time is over", timerRLock)
		case timerRLock:
			move("shares ending", func(s *handoverState, l *loop) error {
				l.pc = timerEnds
				s.shared++
				return nil
			})
		case timerEnds:
			move("abandons the step", func(s *handoverState, l *loop) error {
				if s.over[n] {
					s.shared--
					*l = loop{}
					return nil
				}
				s.over[n], l.first = true, true
				s.running--
				s.owed++
				l.pc = timerLogs
				if c.Mutant == RecordAfterEnding {
					l.pc = timerUnlock
				}
				return nil
			})
		case timerUnlock:
			move("releases ending", func(s *handoverState, l *loop) error {
				s.shared--
				l.pc = timerAsks
				if c.Mutant == RecordAfterEnding {
					l.pc = timerLogs
				}
				return nil
			})
		case timerAsks:
			move("starts a goroutine that asks", func(s *handoverState, l *loop) error {
				l.pc = timerNames
				if c.Mutant != AbandonDoesNotAsk {
					s.start(loop{pc: loopAsks})
				}
				return nil
			})
		case timerNames:
			move("tells the stacks", func(s *handoverState, l *loop) error {
				s.owed--
				*l = loop{}
				if s.ended {
					return fmt.Errorf(
						"the shutdown has ended before the stacks of closer %d are there", n)
				}
				return nil
			})
		case endStacks:
			if s.owed == 0 || c.Mutant == StacksNotAwaited {
				pc("all stacks are there", endLocks)
			}
		case endLocks:
			if s.shared == 0 || c.Mutant == EndingNotAwaited {
				pc("takes ending", endTells)
			}
		case endTells:
			move("ends the shutdown", func(s *handoverState, l *loop) error {
				if s.ended {
					return fmt.Errorf("the shutdown ends twice")
				}
				for i := range c.Closers {
					if !s.logged[i] {
						return fmt.Errorf(
							"the shutdown has ended before the record of closer %d is there", i)
					}
				}
				s.ended = true
				*l = loop{}
				return nil
			})
		}
	}
	return next
}

// ask is schedule.next, with the consequences of its answer.
func (c HandoverConfig) ask(s *handoverState, l *loop) error {
	*l = loop{}
	if s.last && c.Mutant != EndToldToAll {
		return nil
	}
	if s.running > 0 && !c.Concurrent && c.Mutant != RunningUnnoticed {
		return nil
	}
	for n := int8(c.Closers) - 1; n >= 0; n-- {
		if !s.waiting[n] {
			continue
		}
		if s.begun[n] {
			return fmt.Errorf("closer %d is called twice", n)
		}
		s.waiting[n], s.begun[n] = false, true
		s.running++
		*l = loop{pc: loopCalls, closer: n}
		s.start(loop{pc: timerWaits, closer: n})
		if c.Concurrent && n > 0 {
			s.start(loop{pc: loopAsks})
		}
		return nil
	}
	if s.running == 0 {
		s.last = true
		*l = loop{pc: endStacks}
	}
	return nil
}

// leave is the next action of a goroutine that has ended a step, or was too
// late to end it.
func (c HandoverConfig) leave(_ *handoverState, l *loop) {
	asks := !l.goexit || c.Mutant != GoexitDoesNotAsk // by a new goroutine, if this one exits
	*l = loop{}
	if asks && c.Mutant != AskBeforeFinish {
		l.pc = loopAsks
	}
}

func (l loop) order() int {
	n := int(l.pc)<<8 | int(l.closer)<<2
	if l.goexit {
		n |= 2
	}
	if l.first {
		n |= 1
	}
	return -n // free ones last
}
