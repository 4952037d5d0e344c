package quit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// The schedule is pure, so all its histories can be tried on the real code. A
// world is one history of it, with a plain model of the expected state. It has
// one event with several closers, or two events, the inner one being a closer
// of the outer one. TestExplore finds every state that a sequence of operations
// can lead to, up to the bounds below, and checks the invariants in each.
// States that have the same future are visited once.
//
// These tests are in package quit, unlike most others, since the schedule has
// no exported name.

var exploreClosers = flag.Int("explore", 0,
	"closers in the worlds of TestExplore beyond those that there are by default")

// place is the state of a closer in the model.
type place byte

const (
	nowhere   place = iota // not registered yet
	waits_                 // on a stack
	runs                   // its step runs
	returned               // its step is over
	abandoned              // its step was abandoned, and it has not returned
	ghost                  // its step was abandoned, and it has returned since
	removed                // unregistered
	late                   // registered after the end
)

// item is a closer, the delay or the drain, with its state in the model.
type item struct {
	e     *entry
	step  *step
	phase Phase
	own   bool // the delay or the drain
	at    place
	owed  bool  // its stacks are being taken
	inner *side // the event that the closer is, or nil
}

// side is one of the schedules of a world.
type side struct {
	s          *schedule
	items      []*item // in the order of registration, the delay and the drain last
	concurrent bool

	opened    bool
	phase     Phase // of the model
	looks     int   // calls to next that are due
	endings   int   // how often next has reported the end
	concluded bool
	failures  int // that must be in the result
	owed      int // items whose stacks are being taken
	nameless  int // abandoned items whose stacks nobody takes yet
	err       error
}

type world struct {
	sides   []*side // the outer event, and the inner one if there is one
	now     int     // index into instants
	limited time.Time
	problem string
}

// start is the beginning of all worlds. A shutdown has 10 s, of which 1 s is
// the reserve.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// instants are the times of a world: one at the start, one in the reserve, and
// one after the deadline.
var instants = []time.Duration{0, 9500 * time.Millisecond, 20 * time.Second}

func (w *world) time() time.Time { return start.Add(instants[w.now]) }

// newWorld returns a world with the given number of closers. Every second one
// is called after the drain. If nested is set, there is also an inner event
// with one closer.
func newWorld(closers int, nested, concurrent bool) *world {
	w := new(world)
	add := func(side int, phase Phase, own bool) *item {
		sd := w.sides[side]
		it := &item{
			phase: phase,
			own:   own,
			e:     &entry{q: nobody, site: 1, closer: closer{nop, kindFunc}},
		}
		it.e.afterDrain = phase == PhaseAfterDrain
		it.e.name = names_[side*10+len(sd.items)]
		if own {
			it.e.site = 0
		}
		sd.items = append(sd.items, it)
		return it
	}
	w.sides = []*side{{s: new(schedule), concurrent: concurrent}}
	for i := range closers {
		phase := PhaseClosers
		if i%2 == 1 {
			phase = PhaseAfterDrain
		}
		add(0, phase, false)
	}
	if nested {
		w.sides = append(w.sides, &side{s: new(schedule), concurrent: concurrent})
		add(0, PhaseClosers, false).inner = w.sides[1]
		add(1, PhaseClosers, false)
		add(1, PhaseDrain, true)
	}
	add(0, PhaseDelay, true)
	add(0, PhaseDrain, true)
	return w
}

var (
	nobody = new(QuitEvent)
	nop    = func() {}
	names_ = strings.Split("a b c d e f g h i j A B C D E F G H I J", " ")
)

// operation is a change that is possible in some state.
type operation struct {
	what what
	side int // 0: the outer one
	item int
}

type what byte

const (
	register what = iota
	unregister
	returns
	fails // a Goexit is also a failure of the step
	faults
	abandons
	returnsLate
	failsLate
	names
	looks
	concludes
	failsItself
	shutsDown
	shutsDownLater // by a call with another deadline
	timePasses
)

var whats = []string{
	"register", "unregister", "return", "fail", "fault", "abandon", "return late", "fail late",
	"name", "look", "conclude", "Fail", "shut down", "shut down with another deadline",
	"time passes",
}

func (o operation) String() string { return fmt.Sprintf("%s %d/%d", whats[o.what], o.side, o.item) }

// operations returns the operations that are possible now. progress reports
// whether some goroutine of the package has something to do.
func (w *world) operations(ops []operation) (all []operation, progress bool) {
	for side, sd := range w.sides {
		add := func(what what, item int) { ops = append(ops, operation{what, side, item}) }
		for i, it := range sd.items {
			switch it.at {
			case nowhere:
				if !it.own && (i == 0 || sd.items[i-1].at != nowhere) {
					add(register, i)
				}
			case waits_:
				if !it.own {
					add(unregister, i)
				}
			case runs:
				if it.inner == nil || it.inner.concluded {
					add(returns, i)
					progress = true
				}
				if it.inner == nil {
					add(fails, i)
					add(faults, i)
				}
				if !it.own {
					add(abandons, i)
				}
				if i == 0 && !it.own {
					add(unregister, i)
				}
			case abandoned:
				// For the others it would be the same.
				if i == 0 || it.inner != nil && it.inner.concluded {
					add(returnsLate, i)
					add(failsLate, i)
				}
			}
			if it.owed {
				add(names, i)
			}
		}
		if sd.looks > 0 {
			add(looks, 0)
			progress = true
		}
		if sd.endings > 0 && !sd.concluded {
			add(concludes, 0)
			progress = true
		}
		add(failsItself, 0)
		add(shutsDown, 0)
		if side == 0 && !sd.opened {
			add(shutsDownLater, 0)
		}
	}
	if w.now+1 < len(instants) {
		ops = append(ops, operation{what: timePasses})
	}
	return ops, progress
}

func (w *world) do(o operation) {
	sd := w.sides[o.side]
	it := sd.items[o.item]
	switch o.what {
	case register:
		w.register(sd, it)
	case unregister:
		w.unregister(sd, it)
	case returns:
		w.finish(sd, it, false, it.inner != nil && it.inner.failures > 0)
	case fails:
		w.finish(sd, it, false, true)
	case faults:
		w.fault(sd, it)
	case abandons:
		w.finish(sd, it, true, true)
	case returnsLate:
		w.returnLate(sd, it, false)
	case failsLate:
		w.returnLate(sd, it, true)
	case names:
		w.name(sd, it)
	case looks:
		w.look(sd)
	case concludes:
		w.conclude(sd)
	case failsItself:
		w.fail(sd)
	case shutsDown:
		w.open(sd, start.Add(10*time.Second))
	case shutsDownLater:
		w.limitOnly(start.Add(10 * time.Second))
	case timePasses:
		w.now++
	}
}

func (w *world) wrong(format string, args ...any) {
	if w.problem == "" {
		w.problem = fmt.Sprintf(format, args...)
	}
}

func (w *world) register(sd *side, it *item) {
	isLate, look := sd.s.add(it.e, sd.concurrent)
	if isLate != (sd.endings > 0) {
		w.wrong("add: late = %v, want %v", isLate, sd.endings > 0)
	}
	if it.at = waits_; isLate {
		it.at = late
	}
	if look && !sd.opened {
		w.wrong("add: look = true, and no shutdown has started")
	}
	if look {
		sd.looks++
	}
}

func (w *world) unregister(sd *side, it *item) {
	want := it.at == waits_
	if got := sd.s.remove(it.e); got != want {
		w.wrong("remove = %v, want %v", got, want)
	}
	if want {
		it.at = removed
	}
}

// open is a call to Shutdown. Only the first one sets the deadline.
func (w *world) open(sd *side, deadline time.Time) {
	first := !sd.opened
	sd.s.limit(context.Background(), nil, w.time(), deadline)
	own := make(map[Phase]*entry)
	for _, it := range sd.items {
		if it.own {
			own[it.phase] = it.e
			if first {
				it.at = waits_
			}
		}
	}
	if got := sd.s.open(w.time(), own); got != first {
		w.wrong("open = %v, want %v", got, first)
	}
	if first {
		sd.opened, sd.phase = true, PhaseDelay
		sd.looks++
	}
	if sd == w.sides[0] {
		if w.limited.IsZero() {
			w.limited = deadline
		}
		if !sd.s.deadline.Equal(w.limited) {
			w.wrong("the deadline is %v, want that of the first caller", sd.s.deadline)
		}
	}
}

// limitOnly is a call to Shutdown that has reached the fire. Another call is
// woken by the fire and opens the shutdown.
func (w *world) limitOnly(deadline time.Time) {
	sd := w.sides[0]
	sd.s.limit(context.Background(), nil, w.time(), deadline)
	w.limited = deadline
	w.open(sd, start.Add(time.Minute))
}

// next returns the item that the model would begin, and whether the phase may
// be over.
func (sd *side) next(atOnce bool) (it *item, over bool) {
	running := 0
	for _, o := range sd.items {
		if o.at == runs {
			running++
		}
	}
	if running > 0 && !atOnce {
		return nil, false
	}
	for p := PhaseDelay; p <= sd.phase; p++ {
		for i := len(sd.items) - 1; i >= 0; i-- {
			if o := sd.items[i]; o.at == waits_ && o.phase == p {
				return o, false
			}
		}
	}
	return nil, running == 0
}

func (w *world) look(sd *side) {
	sd.looks--
	st, more, ended := sd.s.next(w.time(), sd.concurrent)
	hurries := !sd.s.hurry.IsZero()
	if sd.endings > 0 {
		if st != nil || more || ended {
			w.wrong("next after the end = %v, %v, %v, want nothing", st, more, ended)
		}
		return
	}
	want, over := sd.next(sd.concurrent || hurries)
	for over && sd.phase < phaseEnded {
		sd.phase++
		want, over = sd.next(sd.concurrent || hurries)
	}
	if ended != (sd.phase == phaseEnded) {
		w.wrong("next: ended = %v, want %v", ended, sd.phase == phaseEnded)
	}
	if ended {
		sd.endings++
	}
	switch {
	case st == nil && want == nil:
	case st == nil:
		w.wrong("next begins nothing, want %s", want.e.name)
	case want == nil:
		w.wrong("next begins %s, want nothing", st.title)
	case st.title != want.e.name:
		w.wrong("next begins %s, want %s", st.title, want.e.name)
	}
	if w.problem != "" || st == nil {
		return
	}
	want.at, want.step = runs, st
	w.checkShare(sd, want, hurries)
	again, _ := sd.next(sd.concurrent || hurries)
	if more != (again != nil) {
		w.wrong("next: more = %v, want %v", more, again != nil)
	}
	if more {
		sd.looks++
	}
	if want.inner != nil && !want.inner.opened {
		w.open(want.inner, st.deadline)
	}
}

// checkShare checks the time that a step has.
func (w *world) checkShare(sd *side, it *item, hurries bool) {
	s, st, now := sd.s, it.step, w.time()
	free := s.deadline.Add(-s.reserve)
	if little := free.Sub(now) < s.reserve/2; little && !hurries {
		w.wrong("%v before the reserve, the schedule does not hurry", free.Sub(now))
	}
	share := st.deadline.Sub(now)
	if st.last.Sub(st.deadline) != share/8 {
		w.wrong("a share of %v, and the step is abandoned %v later",
			share, st.last.Sub(st.deadline))
	}
	switch {
	case !hurries && share != free.Sub(now)/5*4:
		w.wrong("a share of %v, want 4/5 of %v", share, free.Sub(now))
	case hurries && it.own && share != 0:
		w.wrong("%v for the delay or the drain in the reserve, want none", share)
	case hurries && !it.own && share < s.reserve/5*2:
		w.wrong("a share of %v, want 2/5 of the reserve of %v at least", share, s.reserve)
	case hurries && !it.own && s.phase < PhaseAfterDrain && it.step.last.After(s.hurry) &&
		!w.time().After(s.hurry.Add(-s.reserve/2)):
		w.wrong("a closer has until %v, want the end of the reserve at %v at most",
			st.last, s.hurry)
	}
}

var errTest = errors.New("test")

func (w *world) finish(sd *side, it *item, abandon, fails bool) {
	var err error
	if fails {
		err = errTest
		sd.failures++
	}
	first, name := sd.s.finish(it.step, w.time(), err, abandon)
	if !first {
		w.wrong("finish = false, want true")
	}
	it.at = returned
	if abandon {
		sd.nameless++
	}
	wantNamed := sd.nameless
	if !sd.s.hurry.IsZero() &&
		slices.ContainsFunc(sd.items, func(o *item) bool { return o.at == runs }) {
		wantNamed = 0 // the end of the last running step does it
	}
	sd.nameless -= wantNamed
	if len(name) != wantNamed {
		w.wrong("the stacks of %d steps are to be taken, want %d", len(name), wantNamed)
	}
	if abandon {
		it.at, it.owed = abandoned, true
		if sd.owed++; it != sd.items[0] { // or there would be too many states
			w.name(sd, it)
		}
	}
	sd.looks++
}

func (w *world) returnLate(sd *side, it *item, fails bool) {
	var err error
	if fails {
		if err = errTest; sd.endings == 0 {
			sd.failures++
		}
	}
	if first, name := sd.s.finish(it.step, w.time(), err, false); first || name != nil {
		w.wrong("finish of an abandoned step = %v, %v, want false", first, name)
	}
	if first, name := sd.s.finish(it.step, w.time(), errTest, true); first || name != nil {
		w.wrong("an abandoned step was abandoned again: %v, %v", first, name)
	}
	it.at = ghost
	sd.looks++ // its goroutine asks for the next step, as every goroutine does
}

func (w *world) fault(sd *side, it *item) {
	sd.s.fault(it.step, errTest, "")
	sd.failures++
}

func (w *world) fail(sd *side) {
	counts := sd.s.fail(errTest)
	if counts != (sd.endings == 0) {
		w.wrong("fail = %v, want %v", counts, sd.endings == 0)
	}
	if counts {
		sd.failures++
	}
}

func (w *world) name(sd *side, it *item) {
	sd.s.named(it.step, "stacks")
	it.owed = false
	sd.owed--
}

func (w *world) conclude(sd *side) {
	sd.err = join(sd.s.outcome()...)
	sd.s.conclude(w.time(), sd.s.outcome(), sd.err)
	sd.concluded = true
}

// check checks the invariants that hold in every state.
func (w *world) check(progress bool) {
	for _, sd := range w.sides {
		s, running, called := sd.s, 0, 0
		var ready *item // it may begin, and no call to next is due
		if sd.opened && sd.endings == 0 && sd.looks == 0 {
			ready, _ = sd.next(sd.concurrent || !s.hurry.IsZero())
		}
		for _, it := range sd.items {
			if (it.e.in != nil) != (it.at == waits_) {
				w.wrong("%s is on a stack: %v, want %v", it.e.name, it.e.in != nil, it.at == waits_)
			}
			switch it.at {
			case runs:
				running++
				called++
			case returned, abandoned, ghost:
				called++
			case waits_:
				if sd.endings > 0 {
					w.wrong("the shutdown has ended, and %s waits", it.e.name)
				}
			}
		}
		switch {
		case s.running != running:
			w.wrong("running = %d, want %d", s.running, running)
		case running > 1 && !sd.concurrent && s.hurry.IsZero():
			w.wrong("%d steps run at once", running)
		case len(s.steps) != called:
			w.wrong("%d steps have begun, want %d: each closer once at most", len(s.steps), called)
		case len(s.failures) != sd.failures:
			w.wrong("%d failures, want %d", len(s.failures), sd.failures)
		case sd.opened && sd.endings == 0 && sd.looks == 0 && running == 0:
			w.wrong("stuck: nothing runs, and nobody looks for more")
		case ready != nil:
			w.wrong("%s may begin, and nobody looks", ready.e.name)
		case sd.endings > 1:
			w.wrong("the shutdown has ended %d times", sd.endings)
		case sd.endings > 0 && sd.nameless > 0:
			w.wrong("the shutdown has ended, and nobody takes the stacks of %d steps",
				sd.nameless)
		case sd.endings > 0 && running > 0:
			w.wrong("the shutdown has ended, and %d steps run", running)
		case s.owed != sd.owed || (s.unnamed() != nil) != (sd.owed > 0):
			w.wrong("owed = %d, want %d", s.owed, sd.owed)
		case sd.concluded && (s.err != sd.err || s.phase != phaseEnded):
			w.wrong("the result is %v, want the %v it was", s.err, sd.err)
		}
	}
	if w.sides[0].opened && !w.sides[0].concluded && !progress {
		w.wrong("the shutdown never ends: nobody has anything to do")
	}
}

// key returns the part of the state that can matter later. A closer that has
// returned, was unregistered or came too late is over in any case.
func (w *world) key() string {
	b := make([]byte, 0, 48)
	flag := func(on bool) {
		if on {
			b = append(b, '+')
		} else {
			b = append(b, '-')
		}
	}
	b = append(b, byte(w.now), byte(w.limited.Sub(start)/time.Second))
	for _, sd := range w.sides {
		b = append(b, byte(sd.s.phase), byte(min(sd.looks, 2)), byte(sd.nameless),
			byte(sd.s.hurry.Sub(sd.s.began)/time.Second))
		flag(sd.endings > 0)
		flag(sd.concluded)
		flag(sd.s.hurry.IsZero())
		for i, it := range sd.items {
			at := it.at
			if at == ghost || at == removed || at == late ||
				at == abandoned && i > 0 && it.inner == nil {
				at = returned
			}
			b = append(b, byte(at))
			flag(it.owed)
		}
	}
	return string(b)
}

// visible counts the changeable facts about a side in a report.
func (sd *side) visible() (v [8]int) {
	s := sd.s
	v[0], v[1] = len(s.steps), len(s.failures)
	for _, st := range s.steps {
		if !st.end.IsZero() {
			v[2]++
		}
		if st.stacks != "" {
			v[3]++
		}
	}
	for _, it := range sd.items {
		if it.e.in != nil {
			v[4]++
		}
	}
	if !s.started.IsZero() {
		v[5]++
	}
	if !s.ended.IsZero() {
		v[6]++
	}
	return v
}

func TestExplore(t *testing.T) {
	percent := debug.SetGCPercent(800) // most memory is garbage at once
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	for _, concurrent := range []bool{false, true} {
		for _, nested := range []bool{false, true} {
			t.Run(fmt.Sprintf("Nested=%v,Concurrent=%v", nested, concurrent), func(t *testing.T) {
				t.Parallel()
				if nested && UnderRace && *exploreClosers == 0 {
					t.Skip("it takes ten times as long with the race detector, " +
						"and is no test of races")
				}
				closers := 4
				if nested {
					closers = 0
				}
				explore(t, closers+*exploreClosers, nested, concurrent)
			})
		}
	}
}

// explore visits the states in the order of the length of their histories, so
// the first wrong history is one of the shortest. Each state is rebuilt by
// replaying its history on new schedules.
func explore(t *testing.T, closers int, nested, concurrent bool) {
	type node struct {
		before int32 // index of the state that it was reached from
		op     operation
	}
	nodes := []node{{before: -1}}
	seen := map[string]bool{newWorld(closers, nested, concurrent).key(): true}
	tried, ends := 0, 0
	var history, ops []operation
	for i := 0; i < len(nodes); i++ {
		history = history[:0]
		for j := int32(i); nodes[j].before >= 0; j = nodes[j].before {
			history = append(history, nodes[j].op)
		}
		slices.Reverse(history)
		replay := func() *world {
			w := newWorld(closers, nested, concurrent)
			for _, op := range history {
				w.do(op)
			}
			return w
		}
		ops, _ = replay().operations(ops[:0])
		for _, op := range ops {
			w := replay()
			var before [2][8]int
			var versions [2]uint64
			for k, sd := range w.sides {
				before[k], versions[k] = sd.visible(), sd.s.version
			}
			w.do(op)
			tried++
			for k, sd := range w.sides {
				if sd.visible() != before[k] && sd.s.version == versions[k] {
					w.wrong("a report would tell more, and those who watch are not told")
				}
			}
			_, progress := w.operations(nil)
			w.check(progress)
			if w.problem != "" {
				t.Fatalf("%s\nafter %v, %v", w.problem, history, op)
			}
			if key := w.key(); !seen[key] {
				seen[key] = true
				nodes = append(nodes, node{int32(i), op})
				if w.sides[0].concluded {
					ends++
				}
			}
		}
	}
	if ends == 0 {
		t.Error("no shutdown has ended")
	}
	t.Logf("%d closers: %d states, in %d of them the shutdown has ended; %d operations tried",
		closers, len(nodes), ends, tried)
}

// TestRelimit replaces a mistaken deadline. A call may replace only its own
// deadline, and only before the steps have their shares.
func TestRelimit(t *testing.T) {
	mine, others := context.WithoutCancel(t.Context()), context.Background()
	for _, test := range []struct {
		name    string
		base    context.Context
		started bool
		want    time.Duration
	}{
		{name: "mine", base: mine, want: 20 * time.Second},
		{name: "another caller's", base: others, want: 10 * time.Second},
		{name: "started", base: mine, started: true, want: 10 * time.Second},
	} {
		s := new(schedule)
		s.limit(mine, nil, start, start.Add(10*time.Second))
		if test.started {
			s.open(start, nil)
		}
		s.relimit(test.base, start, start.Add(20*time.Second))
		if got := s.deadline.Sub(start); got != test.want {
			t.Errorf("%s: the shutdown has %v, want %v", test.name, got, test.want)
		}
	}
}
