package model

import "fmt"

// This file models the striped counter of quit/counter.go, with its admission
// check (TryAddGoroutine), the fire, the drain that gives up, and
// WaitGoroutines.

// Bounds of the counter's model.
const (
	mostWorkers = 4
	mostWaiters = 3
	stripes     = 2
)

// CounterConfig is the set of threads.
type CounterConfig struct {
	Adders int  // AddGoroutine, then DoneGoroutine
	Tries  int  // TryAddGoroutine, then DoneGoroutine if it reported true
	Extra  int  // DoneGoroutine without an Add
	Waits  int  // WaitGoroutines, at any time
	Drain  bool // the wait that begins after the fire
	GiveUp bool // the time of the drain may run out
	Mutant CounterMutant
}

// CounterMutant is a mistake in the counter.
type CounterMutant int

// The mistakes, each named after its effect.
const (
	NoCounterMutant    CounterMutant = iota
	LoadThenMark                     // a stripe is read and marked in two operations
	CloseWithoutMutex                // the stripes are carried over without mu
	MarkUnnoticed                    // an add to a closed stripe does not go to central
	WaitDoesNotLook                  // the wait does not look again when zero is closed
	ZeroKept                         // zero is not nil again after it was closed
	ZeroNotClosed                    // an add that reaches zero closes nothing
	SumWithoutClosing                // the wait adds up the stripes, and leaves them open
	OpenedAfterClose                 // stripes are made even after they were closed
	TryLooksOnceBefore               // TryAddGoroutine has no second look
	TryLooksOnceAfter                // the refusal of TryAddGoroutine does not take back its add
	CounterMutants
)

// counterPC is the position of a thread. The comments name the line of the code
// that the step from there stands for.
type counterPC int8

const (
	atStart counterPC = iota

	atLoad    // counter.go: if s := c.stripes.Load(); s == nil || pick(*s).Add(n) < closedBelow {
	atPick    // counter.go: if s := c.stripes.Load(); s == nil || pick(*s).Add(n) < closedBelow {
	atLock    // counter.go: func (c *counter) addCentral(n int64) {
	atOpen    // counter.go: if !c.closed && c.stripes.Load() == nil {
	atCentral // counter.go: c.central += n
	atSecond  // goroutine.go: q.count.add(1)
	atRunning // counted, and has not begun its Done
	atEnd     //
	atClose   // counter.go: func (c *counter) closeStripes() (int64, <-chan struct{}) {
	atSwap    // counter.go: c.central += (*s)[i].n.Swap(closedMark)
	atMark    // of LoadThenMark only
	atRead    // counter.go: c.closed = true
	atSelect  // counter.go: case <-zero: // look again: another may have been counted since
	atGivenUp // counter.go: return c.count()
)

// worker is a counted goroutine.
type worker struct {
	pc   counterPC
	n    int8 // of the add under way: 1 or -1
	then counterPC
}

// waiter is the drain, or a WaitGoroutines.
type waiter struct {
	pc   counterPC
	i    int8 // the next stripe
	seen int8 // by LoadThenMark
	zero int8 // the channel on which it waits
	left int8 // its result
}

type counterState struct {
	open    bool // stripes != nil
	marked  [stripes]bool
	stripe  [stripes]int8
	mu      int8 // 0: free; otherwise 1 + the number of the thread that holds it
	closed  bool
	central int8
	zero    int8   // 0: nil; otherwise the number of the channel
	made    int8   // channels so far
	zeroed  uint16 // those of them that are closed

	fired   bool
	timeUp  bool
	drained bool // the drain has ended with a count of zero
	workers [mostWorkers]worker
	waiters [mostWaiters]waiter // the last one is the drain
}

// Counter returns the model of the counter.
func Counter(c CounterConfig) Model[counterState] {
	n := c.Adders + c.Tries + c.Extra
	m := Model[counterState]{}
	for i := range m.Init.workers {
		m.Init.workers[i].pc = atEnd
	}
	for i := range n {
		m.Init.workers[i].pc = atStart
	}
	for i := range m.Init.waiters {
		m.Init.waiters[i].pc = atEnd
	}
	for i := range c.Waits {
		m.Init.waiters[i].pc = atStart
	}
	if c.Drain {
		m.Init.waiters[mostWaiters-1].pc = atStart
	}
	m.Steps = func(s counterState) []Step[counterState] { return c.steps(s) }
	m.Check = func(s counterState) error { return c.check(s) }
	m.Final = func(s counterState) error { return c.final(s) }
	return m
}

func (c *CounterConfig) steps(s counterState) (next []Step[counterState]) {
	step := func(name string, to counterState, err error) {
		next = append(next, Step[counterState]{name, to, err})
	}
	if c.Drain && !s.fired {
		to := s
		to.fired = true
		step("fire", to, nil)
	}
	if c.GiveUp && s.fired && !s.timeUp {
		to := s
		to.timeUp = true
		step("the drain's time is over", to, nil)
	}
	for i := range s.workers {
		c.worker(s, i, step)
	}
	for i := range s.waiters {
		c.waiter(s, i, step)
	}
	return next
}

func (c *CounterConfig) isTry(i int) bool { return i >= c.Adders && i < c.Adders+c.Tries }
func (c *CounterConfig) isExtra(i int) bool {
	return i >= c.Adders+c.Tries && i < c.Adders+c.Tries+c.Extra
}

func (c *CounterConfig) worker(s counterState, i int, step func(string, counterState, error)) {
	w := s.workers[i]
	name := func(what string) string { return fmt.Sprintf("worker %d: %s", i, what) }
	move := func(what string, change func(s *counterState, w *worker)) {
		to := s
		change(&to, &to.workers[i])
		step(name(what), to, nil)
	}
	begin := func(w *worker, n int8, then counterPC) { w.pc, w.n, w.then = atLoad, n, then }
	switch w.pc {
	case atStart:
		switch {
		case c.isExtra(i):
			move("calls Done once too often", func(_ *counterState, w *worker) {
				begin(w, -1, atEnd)
			})
		case !c.isTry(i):
			move("calls Add", func(_ *counterState, w *worker) { begin(w, 1, atRunning) })
		case s.fired && c.Mutant != TryLooksOnceAfter:
			move("is refused at once", func(_ *counterState, w *worker) { w.pc = atEnd })
		default:
			move("may be let in", func(_ *counterState, w *worker) { begin(w, 1, atSecond) })
		}
	case atSecond:
		switch {
		case c.Mutant == TryLooksOnceBefore || !s.fired:
			move("is let in", func(_ *counterState, w *worker) { w.pc = atRunning })
		case c.Mutant == TryLooksOnceAfter:
			move("is refused, and stays counted", func(_ *counterState, w *worker) { w.pc = atEnd })
		default:
			move("is refused", func(_ *counterState, w *worker) { begin(w, -1, atEnd) })
		}
	case atRunning:
		move("calls Done", func(_ *counterState, w *worker) { begin(w, -1, atEnd) })
	case atLoad:
		move("loads stripes", func(s *counterState, w *worker) {
			w.pc = atLock
			if s.open {
				w.pc = atPick
			}
		})
	case atPick:
		for j := range stripes {
			move(fmt.Sprintf("adds %d to stripe %d", w.n, j), func(s *counterState, w *worker) {
				if s.marked[j] {
					w.pc = atLock // nobody reads a stray add
					if c.Mutant == MarkUnnoticed {
						w.pc = w.then
					}
					return
				}
				s.stripe[j] += w.n
				w.pc = w.then
			})
		}
	case atLock:
		if s.mu == 0 {
			move("locks mu", func(s *counterState, w *worker) { s.mu, w.pc = int8(i)+1, atOpen })
		}
	case atOpen:
		move("makes the stripes, if need be", func(s *counterState, w *worker) {
			if !s.open && (!s.closed || c.Mutant == OpenedAfterClose) {
				s.open = true
			}
			w.pc = atCentral
		})
	case atCentral:
		move(fmt.Sprintf("adds %d to central, unlocks mu", w.n), func(s *counterState, w *worker) {
			s.central += w.n
			wakes := s.central <= 0 && c.Mutant != ZeroNotClosed
			if wakes && s.zero != 0 {
				s.zeroed |= 1 << s.zero
				if c.Mutant != ZeroKept {
					s.zero = 0
				}
			}
			s.mu, w.pc = 0, w.then
		})
	}
}

func (c *CounterConfig) waiter(s counterState, i int, step func(string, counterState, error)) {
	w := s.waiters[i]
	isDrain := i == mostWaiters-1 && c.Drain
	who := fmt.Sprintf("waiter %d: ", i)
	if isDrain {
		who = "drain: "
	}
	id := int8(mostWorkers+i) + 1
	move := func(what string, change func(s *counterState, w *waiter)) {
		to := s
		change(&to, &to.waiters[i])
		step(who+what, to, nil)
	}
	// The return of the wait, to which the properties refer.
	returns := func(to counterState, what string, left int8) {
		w := &to.waiters[i]
		w.pc, w.left = atEnd, left
		var err error
		if left <= 0 {
			for j, worker := range to.workers {
				if worker.pc == atRunning && c.Extra == 0 { // otherwise it is misuse
					err = fmt.Errorf("the wait has ended while worker %d runs", j)
				}
			}
			to.drained = to.drained || isDrain
		}
		step(who+what, to, err)
	}
	switch w.pc {
	case atStart:
		if s.fired || !isDrain {
			move("begins", func(_ *counterState, w *waiter) { w.pc = atClose })
		}
	case atClose:
		free := c.Mutant == CloseWithoutMutex
		if s.mu == 0 || free {
			move("locks mu", func(s *counterState, w *waiter) {
				if !free {
					s.mu = id
				}
				w.pc, w.i = atRead, 0
				if s.open && !s.closed {
					w.pc = atSwap
				}
			})
		}
	case atSwap:
		switch c.Mutant {
		case LoadThenMark:
			move(fmt.Sprintf("loads stripe %d", w.i), func(s *counterState, w *waiter) {
				w.seen, w.pc = s.stripe[w.i], atMark
			})
			return
		case SumWithoutClosing:
			move(fmt.Sprintf("loads stripe %d", w.i), func(s *counterState, w *waiter) {
				if w.i == 0 {
					w.seen = 0
				}
				w.seen += s.stripe[w.i]
				if w.i++; int(w.i) == stripes {
					w.pc = atRead
				}
			})
			return
		}
		move(fmt.Sprintf("swaps the mark into stripe %d", w.i), func(s *counterState, w *waiter) {
			if !s.marked[w.i] {
				s.central += s.stripe[w.i]
			}
			s.stripe[w.i], s.marked[w.i] = 0, true
			if w.i++; int(w.i) == stripes {
				w.pc = atRead
			}
		})
	case atMark:
		move(fmt.Sprintf("marks stripe %d", w.i), func(s *counterState, w *waiter) {
			s.central += w.seen
			s.stripe[w.i], s.marked[w.i], w.seen = 0, true, 0
			w.pc = atSwap
			if w.i++; int(w.i) == stripes {
				w.pc = atRead
			}
		})
	case atRead:
		to := s
		t := &to.waiters[i]
		left := to.central
		if c.Mutant == SumWithoutClosing {
			left += t.seen
		} else {
			to.closed = true
		}
		t.seen, t.i = 0, 0
		if c.Mutant != CloseWithoutMutex {
			to.mu = 0
		}
		if left <= 0 {
			returns(to, fmt.Sprintf("unlocks mu, returns %d", left), left)
			return
		}
		if to.zero == 0 {
			to.made++
			to.zero = to.made
		}
		t.zero, t.pc = to.zero, atSelect
		step(who+fmt.Sprintf("unlocks mu, with %d left", left), to, nil)
	case atSelect:
		if s.zeroed&(1<<w.zero) != 0 {
			if c.Mutant == WaitDoesNotLook {
				returns(s, "zero is closed, returns 0", 0)
			} else {
				move("zero is closed", func(_ *counterState, w *waiter) {
					w.zero, w.pc = 0, atClose
				})
			}
		}
		if isDrain && s.timeUp {
			move("gives up", func(_ *counterState, w *waiter) { w.zero, w.pc = 0, atGivenUp })
		}
	case atGivenUp:
		if s.mu == 0 {
			to := s
			left := s.central
			var running int8
			for _, worker := range s.workers {
				if worker.pc == atRunning {
					running++
				}
			}
			to.waiters[i].pc, to.waiters[i].left = atEnd, left
			var err error
			if left < running && c.Extra == 0 { // otherwise it is misuse
				err = fmt.Errorf("%d were told to be left, and %d ran", left, running)
			}
			step(who+fmt.Sprintf("returns %d", left), to, err)
		}
	}
}

// check checks the invariant that the comment of counter states for central,
// and the promise of TryAddGoroutine.
func (c *CounterConfig) check(s counterState) error {
	var running, under, extra int8
	for i, w := range s.workers {
		switch {
		case w.pc == atRunning:
			running++
			if s.drained && c.isTry(i) {
				return fmt.Errorf("worker %d was let in, and runs after the drain", i)
			}
		case w.pc != atStart && w.pc != atEnd:
			under++
		}
		if c.isExtra(i) && w.pc != atStart {
			extra++
		}
	}
	if s.mu != 0 || !s.closed {
		return nil
	}
	if s.central < running-extra {
		return fmt.Errorf("central is %d, and %d run", s.central, running)
	}
	if under == 0 && s.central != running-extra {
		return fmt.Errorf("central is %d, want exactly %d", s.central, running-extra)
	}
	return nil
}

// final checks that all threads have ended, and that the count is exact.
func (c *CounterConfig) final(s counterState) error {
	for i, w := range s.waiters {
		if w.pc != atEnd {
			return fmt.Errorf("waiter %d never ends", i)
		}
	}
	for i, w := range s.workers {
		if w.pc != atEnd {
			return fmt.Errorf("worker %d never ends", i)
		}
	}
	total := s.central
	for _, n := range s.stripe {
		total += n
	}
	if want := -int8(c.Extra); total != want {
		return fmt.Errorf("the count is %d at the end, want %d", total, want)
	}
	return nil
}
