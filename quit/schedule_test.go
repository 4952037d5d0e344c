package quit

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestScheduleTells checks that watchers are told of each change of the state,
// and of nothing else. It is in package quit, since other packages cannot look
// between the end of a step and the start of the next one.
func TestScheduleTells(t *testing.T) {
	var (
		q       = NewQuitEvent()
		s       = &q.sched
		now     = time.Now()
		entries [4]*entry
		begun   *step
	)
	for i := range entries {
		entries[i] = &entry{q: q, closer: closer{func() {}, kindFunc}, site: 1}
	}
	next := func() { begun, _, _ = s.next(now, false) }
	open := func(want bool) {
		if first := s.open(now, nil); first != want {
			t.Errorf("open = %v, want %v", first, want)
		}
	}
	end := func() {
		begun.watch = time.NewTimer(time.Hour)
		s.finish(begun, now, nil, false)
	}
	for _, test := range []struct {
		name  string
		call  func()
		tells bool
	}{
		{"add", func() { s.add(entries[0], false) }, true},
		{"another add", func() { s.add(entries[1], false) }, true},
		{"a third add", func() { s.add(entries[2], false) }, true},
		{"remove", func() { s.remove(entries[2]) }, true},
		{"remove again", func() { s.remove(entries[2]) }, false},
		{"next before the start", next, false},
		{"a failure", func() { s.fail(errors.New("failure")) }, true},
		{"the fire", s.fired, true},
		{"limit", func() { s.limit(context.Background(), nil, now, time.Time{}) }, false},
		{"open", func() { open(true) }, true},
		{"open again", func() { open(false) }, false},
		{"the begin of a step", next, true},
		{"next while it runs", func() { s.next(now, false) }, false},
		{"a fault of it", func() { s.fault(begun, errors.New("fault"), "") }, true},
		{"the end of it", end, true},
		{"an end that comes too late", func() {
			if first, _ := s.finish(begun, now, errors.New("overdue"), true); first {
				t.Error("a step that has returned is abandoned")
			}
		}, false},
		{"the begin of the next one", next, true},
		{"the end of the next one", end, true},
		{"its stacks", func() { s.owe(); s.named(begun, "stacks") }, true},
		{"the last next", func() {
			if _, more, ended := s.next(now, false); more || !ended {
				t.Errorf("the last next: another step %v, ended %v", more, ended)
			}
		}, false},
		{"the result", func() { s.conclude(now, nil, nil) }, true},
		{"a failure after the end", func() { s.fail(errors.New("late")) }, false},
		{"a fault after the end", func() {
			s.fault(begun, errors.New("late"), "late stacks")
		}, false},
		{"add after the end", func() { s.add(entries[3], false) }, false},
	} {
		w := &watch{changed: make(chan struct{})}
		before, _ := s.watch(w)
		test.call()
		told := false
		select {
		case <-w.changed:
			told = true
		default:
		}
		s.mu.Lock()
		changed := s.version != before
		s.mu.Unlock()
		if told != test.tells || changed != test.tells {
			t.Errorf("%s: told %v, another version %v, want %v",
				test.name, told, changed, test.tells)
		}
	}
	if begun.err != nil || begun.stacks != "stacks" {
		t.Errorf("the last step has failed with %v and stacks %q after the end",
			begun.err, begun.stacks)
	}
}

// TestScheduleReserve checks when the reserve begins, and when it then ends.
func TestScheduleReserve(t *testing.T) {
	const sec, ms = time.Second, time.Millisecond
	start := time.Now()
	for _, test := range []struct {
		limit, now time.Duration // 0: no limit
		want       time.Duration // the end of the reserve; 0: it has not begun
	}{
		{limit: 0, now: time.Hour, want: 0},
		{limit: 20 * sec, now: 18500 * ms, want: 0}, // half the reserve is left before it
		{limit: 20 * sec, now: 18500*ms + 1, want: 20 * sec},
		{limit: 100 * sec, now: 98010 * ms, want: 0}, // a hundredth of 99 s is left before it
		{limit: 100 * sec, now: 98010*ms + 1, want: 100 * sec},
		{limit: 20 * sec, now: 19 * sec, want: 20 * sec},
		// The process stood still.
		{limit: 20 * sec, now: 19500 * ms, want: 20500 * ms},
		{limit: 20 * sec, now: 30 * sec, want: 31 * sec},
	} {
		var s schedule
		s.limit(context.Background(), nil, start, after(start, test.limit))
		for range 2 { // the second look, a while later, changes nothing
			s.lookAtTime(start.Add(test.now))
			if want := after(start, test.want); !s.hurry.Equal(want) {
				t.Errorf("%+v: the reserve ends %v after the start", test, s.hurry.Sub(start))
			}
			if test.want != 0 {
				test.now += sec
			}
		}
	}
}

// TestScheduleLastMoments checks the times that are left when the shutdown
// ends, for the log and for the call whose context limits it.
func TestScheduleLastMoments(t *testing.T) {
	const sec, ms = time.Second, time.Millisecond
	start := time.Now()
	base := context.Background()
	for _, test := range []struct {
		limit, hurry, now time.Duration // 0: none
		until, grace      time.Duration // 0: no limit
	}{
		{limit: 0, now: sec, until: 0, grace: 0},
		{limit: 20 * sec, now: sec, until: 20*sec - 50*ms, grace: sec},
		// At least the time that is kept back is left for the log.
		{limit: 20 * sec, now: 20*sec - 60*ms, until: 20*sec - 10*ms, grace: sec},
		{limit: 20 * sec, now: 30 * sec, until: 30*sec + 50*ms, grace: sec},
		// The process stood still.
		{limit: 20 * sec, hurry: 31 * sec, now: 30 * sec, until: 31*sec - 50*ms, grace: sec},
		{limit: 50 * ms, now: ms, until: 50*ms - 250*time.Microsecond, grace: 10 * ms},
	} {
		var s schedule
		at := func(d time.Duration) time.Time { return start.Add(d) }
		s.limit(base, nil, start, after(start, test.limit))
		if test.hurry != 0 {
			s.hurry = at(test.hurry)
		}
		if got, want := s.until(at(test.now)), after(start, test.until); !got.Equal(want) {
			t.Errorf("%+v: until = %v after the start, want %v", test, got.Sub(start), test.until)
		}
		if got := s.grace(base); got != test.grace {
			t.Errorf("%+v: grace = %v", test, got)
		}
		if got := s.grace(context.WithoutCancel(base)); got != 0 {
			t.Errorf("%+v: grace of another call = %v, want 0", test, got)
		}
	}
}

// TestScheduleOvertime checks the time that a step gets after its own time.
func TestScheduleOvertime(t *testing.T) {
	const sec, ms = time.Second, time.Millisecond
	start := time.Now()
	for _, test := range []struct {
		limit, hurry, now time.Duration // 0: none
		phase             Phase
		afterDrain        bool // an AfterDrain closer waits
		want              time.Duration
	}{
		{limit: 20 * sec, now: 10 * sec, phase: PhaseClosers, want: sec},
		// The reserve is kept, and a tenth of it more.
		{limit: 20 * sec, now: 18200 * ms, phase: PhaseClosers, want: 700 * ms},
		{limit: 20 * sec, now: 18200 * ms, phase: PhaseClosers, afterDrain: true, want: 700 * ms},
		// The reserve begins now. AfterDrain closers have about half of it.
		{limit: 20 * sec, now: 18700 * ms, phase: PhaseClosers, want: sec},
		{limit: 20 * sec, now: 30 * sec, phase: PhaseClosers, want: 900 * ms},
		{limit: 20 * sec, now: 30 * sec, phase: PhaseClosers, afterDrain: true, want: 450 * ms},
		{limit: 20 * sec, now: 30 * sec, phase: PhaseAfterDrain, afterDrain: true, want: 900 * ms},
		// The reserve has begun.
		{limit: 20 * sec, hurry: 20 * sec, now: 19300 * ms, phase: PhaseClosers, want: 600 * ms},
		{limit: 20 * sec, hurry: 20 * sec, now: 19950 * ms, phase: PhaseClosers, want: 0},
		// The process stood still in it.
		{limit: 20 * sec, hurry: 20 * sec, now: 21 * sec, phase: PhaseClosers, want: 900 * ms},
		{limit: 0, now: 30 * sec, phase: PhaseClosers, want: sec},
		{limit: 20 * sec, now: 30 * sec, phase: phaseEnded, want: sec},
	} {
		s := schedule{phase: test.phase}
		at := func(d time.Duration) time.Time { return start.Add(d) }
		s.limit(context.Background(), nil, start, after(start, test.limit))
		if test.hurry != 0 {
			s.hurry = at(test.hurry)
		}
		if test.afterDrain {
			s.waiting[PhaseAfterDrain].push(&entry{})
		}
		if got := s.overtime(at(test.now)); got != test.want {
			t.Errorf("%+v: overtime = %v", test, got)
		}
	}
}
