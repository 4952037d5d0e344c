package quit

import "sync/atomic"

// watch is a channel that the first change of any of several events closes.
type watch struct {
	changed chan struct{}
	told    atomic.Bool // by the one that closes changed; nothing else follows from it
}

func (w *watch) tell() {
	if w.told.CompareAndSwap(false, true) {
		close(w.changed)
	}
}

// Changed returns a channel that is closed once a report taken anew would tell
// more than this one: at a registration, the fire, the begin and the end of a
// step, even in an event within the event, a failure, and the end of the shutdown,
// but not when goroutines are counted. Several changes may be one. Call it again
// on the next report. It costs the event nothing while nobody watches. The channel
// of the zero Report, and of a report whose event is gone, is never closed.
func (r Report) Changed() <-chan struct{} {
	w := &watch{changed: make(chan struct{})}
	if q := r.event.Value(); q != nil && q.watch(w, make(map[*QuitEvent]bool)) != r.version {
		w.tell()
	}
	return w.changed
}

// watch has w told of the next change of q and of the events in it, and returns
// the number of changes so far.
func (q *QuitEvent) watch(w *watch, seen map[*QuitEvent]bool) (version uint64) {
	seen[q] = true
	version, children := q.sched.watch(w)
	for _, child := range children {
		if !seen[child] {
			version += child.watch(w, seen)
		}
	}
	return version
}

// watch has w told of the next change, and returns the number of changes so far
// and the events that have steps, in the order of a report.
func (s *schedule) watch(w *watch) (version uint64, children []*QuitEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Those that another event has told would pile up here.
	kept := s.watchers[:0]
	for _, o := range s.watchers {
		if !o.told.Load() {
			kept = append(kept, o)
		}
	}
	s.watchers = append(kept, w)
	for _, st := range s.steps {
		if st.child != nil {
			children = append(children, st.child)
		}
	}
	for p := PhaseDelay; p < phaseEnded; p++ {
		for e := s.waiting[p].last; e != nil; e = e.prev {
			if child := e.closer.child(); child != nil {
				children = append(children, child)
			}
		}
	}
	return s.version, children
}
