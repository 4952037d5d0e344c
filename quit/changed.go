package quit

import (
	"slices"
	"sync/atomic"
	"unsafe"
)

// watch is a channel that the first change of any of several events closes.
type watch struct {
	changed chan struct{}
	version uint64      // of those events, when it was made
	told    atomic.Bool // by the one that closes changed; nothing else follows from it
}

func (w *watch) tell() {
	if w.told.CompareAndSwap(false, true) {
		close(w.changed)
	}
}

// Changed returns a channel that is closed once a report taken anew would tell
// more than this one: at a registration, the fire, the begin and the end of a
// step, even in an event within the event, a failure, and the end of the
// shutdown, but not when goroutines are counted. Several changes may be one.
// Call it again on the next report. It costs the event nothing while nobody
// watches. The channel of the zero Report, and of a report whose event is gone,
// is never closed.
func (r Report) Changed() <-chan struct{} {
	q := r.event.Value()
	if q == nil {
		return make(chan struct{})
	}
	w := q.sched.latestWatch()
	if w == nil || w.told.Load() {
		w = &watch{changed: make(chan struct{})}
		w.version = q.watch(w, make(map[*QuitEvent]bool))
		q.sched.setLatestWatch(w)
	}
	if w.version != r.version { // something has changed since
		changed := make(chan struct{})
		close(changed)
		return changed
	}
	return w.changed
}

// mix adds the version of an event, of which it is the next in a report, to
// that of those before it. The result is another one once any of them has
// changed, or one has come or gone.
func (q *QuitEvent) mix(before, version uint64) uint64 {
	const prime = 1099511628211 // FNV-1a, by words
	h := (before ^ uint64(uintptr(unsafe.Pointer(q)))) * prime
	return (h ^ version) * prime
}

// watch has w told of the next change of q and of the events in it, and returns
// the version of all of them.
func (q *QuitEvent) watch(w *watch, seen map[*QuitEvent]bool) (version uint64) {
	seen[q] = true
	version, children := q.sched.watch(w)
	version = q.mix(0, version)
	for _, child := range children {
		if !seen[child] {
			version = child.mix(version, child.watch(w, seen))
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
	s.watchers = slices.DeleteFunc(s.watchers, func(o *watch) bool { return o.told.Load() })
	s.watchers = append(s.watchers, w)
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

// latestWatch returns the watch of the event and of all in it, or nil. As long
// as it has not been told, it serves all who watch.
func (s *schedule) latestWatch() *watch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

func (s *schedule) setLatestWatch(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = w
}
