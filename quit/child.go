package quit

import (
	"maps"
	"slices"
	"sync"
)

// parents are the entries with which an event is registered with other events.
// A failure goes up by them: an event that fires by itself with a failure fires
// its parents with the same cause. The failure itself stays with the event, and
// is in the result of a parent once, under the event's step.
type parents struct {
	mu      sync.Mutex // guards the fields below; a leaf
	entries map[*entry]parent
	failure error // the cause, if the event has fired with a failure
	up      bool  // the failure is that of an event in this one
}

// parent is an event with which another one is registered, and what of the
// failures of that one it ignores: an entry forgets it when it is taken out.
type parent struct {
	q      *QuitEvent
	ignore *ignore
}

// add adds e, and returns the failure with which the event has fired before, if
// it has.
func (p *parents) add(e *entry) (failure error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil {
		p.entries = make(map[*entry]parent)
	}
	p.entries[e] = parent{e.q, e.ignore}
	return p.failure
}

func (p *parents) remove(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.entries, e)
}

// failed notes that the event has fired with a failure, its own or one that has
// come up, and returns its parents. One that is added later learns of it in
// add.
func (p *parents) failed(cause error, up bool) []parent {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure, p.up = cause, up
	return slices.Collect(maps.Values(p.entries))
}

// cameUp returns the failure with which the event has fired, if it is that of
// an event in it.
func (p *parents) cameUp() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.up {
		return nil
	}
	return p.failure
}

// only returns the event's name with its only parent, and that parent; "" if it
// has none or several.
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

// fireAll fires q with a failure as the cause, and then its parents, theirs and
// so on. It reports whether it fired q.
func (q *QuitEvent) fireAll(cause error) (fired bool) {
	if !q.fire(cause) {
		return false
	}
	fireUp(q.parents.failed(cause, false), cause)
	return true
}

// fireUp fires these events, and those above them. One that has fired before,
// and so a ring of events, ends the way up. One that ignores some errors is for
// a goroutine of its own, since to ask it is to call user code.
func fireUp(todo []parent, cause error) {
	for len(todo) > 0 {
		up := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if up.ignore != nil {
			go up.fireUnlessIgnored(cause) // ends when the funcs of ignore return
		} else if up.q.fire(cause) {
			todo = append(todo, up.q.parents.failed(cause, true)...)
		}
	}
}

// fireUnlessIgnored is fireUp for one that may ignore the cause.
func (up parent) fireUnlessIgnored(cause error) {
	counts := true // even if a func calls Goexit
	defer func() {
		if counts && up.q.fire(cause) {
			fireUp(up.q.parents.failed(cause, true), cause)
		}
	}()
	counts = up.ignore.counts(cause) != nil
}
