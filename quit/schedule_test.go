package quit

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestScheduleTells has each change of the state told to those who watch, and
// what is no change not. It is in package quit since there is no moment between
// the end of a step and the begin of the next at which others could look.
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
		{"open", func() { s.open(now, nil) }, true},
		{"open again", func() { s.open(now, nil) }, false},
		{"the begin of a step", next, true},
		{"next while it runs", func() { s.next(now, false) }, false},
		{"a fault of it", func() { s.fault(begun, errors.New("fault"), "") }, true},
		{"the end of it", end, true},
		{"the begin of the next one", next, true},
		{"the end of the next one", end, true},
		{"its stacks", func() { s.owe(); s.named(begun, "stacks") }, true},
		{"the last next", func() {
			if _, _, ended := s.next(now, false); !ended {
				t.Error("the shutdown does not end")
			}
		}, false},
		{"the result", func() { s.conclude(now, nil, nil) }, true},
		{"a failure after the end", func() { s.fail(errors.New("late")) }, false},
		{"a fault after the end", func() { s.fault(begun, errors.New("late"), "late stacks") }, false},
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
			t.Errorf("%s: told %v, another version %v, want %v", test.name, told, changed, test.tells)
		}
	}
	if begun.err != nil || begun.stacks != "stacks" {
		t.Errorf("the last step has failed with %v and stacks %q after the end", begun.err, begun.stacks)
	}
}
