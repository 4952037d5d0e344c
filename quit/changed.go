package quit

import (
	"slices"
	"sync/atomic"
	"unsafe"
)

// watch has a channel that the first change of any of several events closes.
type watch struct {
	changed chan struct{}
	version uint64      // of those events, when the watch was made
	told    atomic.Bool // set by the call that closes changed; guards nothing else
}

func (w *watch) tell() {
	if w.told.CompareAndSwap(false, true) {
		close(w.changed)
	}
}

// Changed returns a channel that is closed once a new report would differ from
// this one. Registrations, the fire, failures, the start and end of a step,
// even in a nested event, and the end of the shutdown are changes. The number
// of goroutines is not. Several changes may be reported as one. To watch an
// event, take a new report after each change and call its Changed. Watching
// costs nothing while nobody watches. The channel of the zero Report, or of a
// report whose event is gone, is never closed.
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

// mix mixes the version of an event into that of the events before it in a
// report. The result differs once any of the events has changed, or once an
// event has come or gone.
func (q *QuitEvent) mix(before, version uint64) uint64 {
	const prime = 1099511628211 // FNV-1a, by words
	h := (before ^ uint64(uintptr(unsafe.Pointer(q)))) * prime
	return (h ^ version) * prime
}

// watch arranges that w is told of the next change of q or of its nested
// events. It returns the version of all of them.
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

// watch arranges that w is told of the next change. It returns the number of
// changes so far, and the nested events in the order of a report.
func (s *schedule) watch(w *watch) (version uint64, children []*QuitEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Watches that another event has told would pile up here.
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

// latestWatch returns the latest watch of the event and its nested events, or
// nil. Until it has been told, all watchers share it.
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
