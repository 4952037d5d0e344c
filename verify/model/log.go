package model

import "fmt"

// This file models the goroutine that hands over log records: it exists only
// while there are any, goes on after a handler that calls Goexit, and reports
// records that did not fit. The end of the shutdown waits for it.

// Bounds of the log's model.
const (
	mostRecords = 3 // of all producers
	mostHanders = 3
	room        = 2 // of the waiting records
)

// LogConfig is the set of records and the behaviour of the handler.
type LogConfig struct {
	Producers [2]int // records of each producer
	Goexits   int    // how often the handler may call Goexit
	Blocks    bool   // the handler may block for ever
	Mutant    LogMutant
}

// LogMutant is a mistake in the log.
type LogMutant int

// The mistakes.
const (
	NoLogMutant     LogMutant = iota
	LookThenStart             // it is checked before mu is locked whether a goroutine hands over
	EmptyThenEnd              // the goroutine finds nothing and ends in two critical sections
	GoexitEnds                // nobody goes on after Goexit
	LostForgotten             // records that did not fit are not reported
	LostToldAgain             // their number is not reset
	IdleNotTold               // the end of the goroutine does not close empty
	IdleAlwaysWaits           // idle makes the channel even if nothing is handed over
	LogMutants
)

type logPC int8

const (
	logFree    logPC = iota
	logLooks         // of LookThenStart only
	logLocks         // log.go: switch n := len(l.waiting); {
	logTakes         // log.go: r, ok := l.take()
	logHandles       // log.go: r.handle(q)
	logEnds          // of EmptyThenEnd only
	logBlocked       // in a handler, for ever
)

type producer struct {
	pc   logPC
	left int8
	idle bool // as seen by LookThenStart
}

type hander struct {
	pc     logPC
	record int8 // in hand; 0: the one about lost records
	lost   int8 // the number that it reports
}

type logState struct {
	made    int8 // records so far; they are numbered in this order
	waiting [room]int8
	n       int8 // of waiting
	lost    int8
	handing bool
	empty   int8 // 0: nil; 1: made; 2: closed

	handled   [mostRecords + 1]bool
	dropped   [mostRecords + 1]bool
	toldLost  int8
	lastTaken int8
	goexits   int8
	producers [2]producer
	handers   [mostHanders]hander
	ender     int8 // of the shutdown: 0 may ask idle; 1 waits; 2 has ended
}

func (s *logState) start() error {
	for i := range s.handers {
		if s.handers[i].pc == logFree {
			s.handers[i] = hander{pc: logTakes}
			return nil
		}
	}
	return fmt.Errorf("more goroutines hand over than there can be")
}

// Log returns the model of the log's goroutine.
func Log(c LogConfig) Model[logState] {
	m := Model[logState]{}
	for i, n := range c.Producers {
		m.Init.producers[i].left = int8(n)
	}
	m.Steps = c.steps
	m.Check = func(s logState) error {
		handing := 0
		for _, h := range s.handers {
			if h.pc != logFree {
				handing++
			}
		}
		if handing > 1 {
			return fmt.Errorf("%d goroutines hand over at once", handing)
		}
		return nil
	}
	m.Final = c.final
	return m
}

func (c LogConfig) steps(s logState) (next []Step[logState]) {
	move := func(what string, change func(s *logState) error) {
		to := s
		err := change(&to)
		next = append(next, Step[logState]{what, to, err})
	}
	for i, p := range s.producers {
		if p.left == 0 {
			continue
		}
		name := fmt.Sprintf("producer %d: ", i)
		if c.Mutant == LookThenStart && p.pc == logFree {
			move(name+"looks whether a goroutine hands over", func(s *logState) error {
				s.producers[i].pc, s.producers[i].idle = logLooks, !s.handing
				return nil
			})
			continue
		}
		move(name+"logs a record", func(s *logState) error {
			p := &s.producers[i]
			p.pc = logFree
			p.left--
			s.made++
			if s.n == room {
				s.lost++
				s.dropped[s.made] = true
			} else {
				s.waiting[s.n] = s.made
				s.n++
			}
			idle := !s.handing
			if c.Mutant == LookThenStart {
				idle = p.idle
			}
			if idle {
				s.handing = true
				return s.start()
			}
			return nil
		})
	}
	for i, h := range s.handers {
		name := fmt.Sprintf("hander %d: ", i)
		switch h.pc {
		case logTakes:
			c.take(s, i, name, move)
		case logHandles:
			handled := func(s *logState) error {
				h := s.handers[i]
				switch {
				case h.record == 0:
					s.toldLost += h.lost
				case s.handled[h.record]:
					return fmt.Errorf("record %d is handed over twice", h.record)
				case h.record < s.lastTaken:
					return fmt.Errorf("record %d comes after record %d", h.record, s.lastTaken)
				default:
					s.handled[h.record], s.lastTaken = true, h.record
				}
				s.handers[i] = hander{pc: logTakes}
				return nil
			}
			move(name+"has the record handled", handled)
			if s.goexits < int8(c.Goexits) {
				move(name+"has the record handled, which calls Goexit", func(s *logState) error {
					err := handled(s)
					s.goexits++
					s.handers[i] = hander{}
					if c.Mutant == GoexitEnds || err != nil {
						return err
					}
					return s.start()
				})
			}
			if c.Blocks {
				move(name+"blocks", func(s *logState) error {
					s.handers[i].pc = logBlocked
					return nil
				})
			}
		case logEnds:
			move(name+"ends", func(s *logState) error { c.end(s, i); return nil })
		}
	}
	switch {
	case s.ender == 0:
		move("the shutdown asks whether records wait", func(s *logState) error {
			switch {
			case !s.handing && c.Mutant != IdleAlwaysWaits:
				s.ender = 2
			default:
				if s.empty == 0 {
					s.empty = 1
				}
				s.ender = 1
			}
			return nil
		})
	case s.ender == 1 && s.empty == 2:
		move("the shutdown goes on", func(s *logState) error { s.ender = 2; return nil })
	}
	return next
}

func (c LogConfig) take(s logState, i int, name string, move func(string, func(*logState) error)) {
	switch {
	case s.n > 0:
		move(name+"takes a record", func(s *logState) error {
			s.handers[i] = hander{pc: logHandles, record: s.waiting[0]}
			s.n--
			copy(s.waiting[:], s.waiting[1:])
			s.waiting[s.n] = 0
			return nil
		})
	case s.lost > 0 && c.Mutant != LostForgotten:
		move(name+"takes the number of those that are lost", func(s *logState) error {
			s.handers[i] = hander{pc: logHandles, lost: s.lost}
			if c.Mutant != LostToldAgain {
				s.lost = 0
			}
			return nil
		})
	case c.Mutant == EmptyThenEnd:
		move(name+"finds nothing", func(s *logState) error {
			s.handers[i].pc = logEnds
			return nil
		})
	default:
		move(name+"finds nothing, and ends", func(s *logState) error { c.end(s, i); return nil })
	}
}

func (c LogConfig) end(s *logState, i int) {
	s.handers[i] = hander{}
	s.handing = false
	if s.empty == 1 && c.Mutant != IdleNotTold {
		s.empty = 2
	}
}

func (c LogConfig) final(s logState) error {
	for _, h := range s.handers {
		if h.pc == logBlocked {
			return nil // no further step is possible
		}
	}
	if s.ender != 2 {
		return fmt.Errorf("the shutdown waits for the log for ever")
	}
	var dropped int8
	for n := int8(1); n <= s.made; n++ {
		if s.dropped[n] {
			dropped++
		} else if !s.handled[n] {
			return fmt.Errorf("record %d is never handed over", n)
		}
	}
	if dropped != s.toldLost {
		return fmt.Errorf("%d records were lost, and %d told to be", dropped, s.toldLost)
	}
	return nil
}
