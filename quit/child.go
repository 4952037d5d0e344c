package quit

import (
	"maps"
	"slices"
	"sync"
)

// parents has the entries with which an event is registered with other events.
// Through them a failure goes up: an event that fires by itself with a failure
// fires its parents with the same cause. The failure itself stays with the
// event. The result of a parent has it once: under the event's step, or alone
// if that step has no result of the event.
type parents struct {
	mu      sync.Mutex // guards the fields below; a leaf
	entries map[*entry]parent
	failure error      // the cause, if the event has fired with a failure
	from    *QuitEvent // the nested event that the failure came up from; nil: it is the event's own
}

// parent is an event with which another one, the child, is registered. It has a
// copy of the entry's ignore, since the entry is cleared when it is taken out.
type parent struct {
	q, child *QuitEvent
	ignore   *ignore // the failures of the child that q ignores
}

// add adds up, whose entry is e. If the child has already fired with a failure,
// add returns that.
func (p *parents) add(e *entry, up parent) (failure error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil {
		p.entries = make(map[*entry]parent)
	}
	p.entries[e] = up
	return p.failure
}

func (p *parents) remove(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.entries, e)
}

// failed records that the event fires with a failure, and returns its parents.
// The failure came up from a nested event unless from is nil. A parent that is
// added later learns of the failure from add.
func (p *parents) failed(cause error, from *QuitEvent) []parent {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure, p.from = cause, from
	return slices.Collect(maps.Values(p.entries))
}

// cameUp returns the nested event from which a failure came up and fired this
// event, and that failure. Otherwise the event that it returns is nil.
func (p *parents) cameUp() (from *QuitEvent, failure error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from, p.failure
}

// only returns the only parent of the event, and the name under which the event
// is registered there. The name is "" if there is no parent, or more than one.
func (p *parents) only() (title string, parent *QuitEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.entries) != 1 {
		return "", nil
	}
	for e := range p.entries {
		title, parent = e.name, e.q
	}
	if title == "" {
		title = typeName(parent)
	}
	return title, parent
}

// fireAll fires q with a failure as the cause, then its parents, their parents
// and so on. It reports whether it fired q.
func (q *QuitEvent) fireAll(cause error) (fired bool) {
	todo, fired := q.fireFrom(nil, cause)
	fireUp(todo, cause)
	return fired
}

// fireFrom fires q with a failure that came up from a nested event, unless from
// is nil. It returns the parents to fire next, and reports whether it fired q.
// The failure is noted before the fire is seen. A shutdown that follows from
// the fire may end at once.
func (q *QuitEvent) fireFrom(from *QuitEvent, cause error) (todo []parent, fired bool) {
	fired = q.fireAfter(cause, func() { todo = q.parents.failed(cause, from) })
	return todo, fired
}

// fireUp fires the given parents, their parents and so on. The way up ends at
// an event that has already fired, so a ring of events does not make it
// endless. A parent that ignores some errors is fired by a new goroutine, which
// calls user code to find out whether the cause counts.
func fireUp(todo []parent, cause error) {
	for len(todo) > 0 {
		up := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if up.ignore != nil {
			go up.fireUnlessIgnored(cause) // ends when the funcs of ignore return
			continue
		}
		more, _ := up.q.fireFrom(up.child, cause)
		todo = append(todo, more...)
	}
}

// fireUnlessIgnored is fireUp for a parent that may ignore the cause.
func (up parent) fireUnlessIgnored(cause error) {
	counts := true // even if a func calls Goexit
	defer func() {
		if counts {
			todo, _ := up.q.fireFrom(up.child, cause)
			fireUp(todo, cause)
		}
	}()
	counts = up.ignore.counts(cause) != nil
}
