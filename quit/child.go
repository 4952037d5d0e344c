package quit

import "sync"

// parents are the entries with which an event is registered with other events.
// A failure goes up by them: an event that fires by itself with a failure fires
// its parents with the same cause. The failure itself stays with the event, and
// is in the result of a parent once, under the event's step.
type parents struct {
	mu      sync.Mutex // guards the fields below; a leaf
	entries map[*entry]struct{}
	failure error // the cause, if the event has fired with a failure
}

// add adds e, and returns the failure with which the event has fired before, if
// it has.
func (p *parents) add(e *entry) (failure error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil {
		p.entries = make(map[*entry]struct{})
	}
	p.entries[e] = struct{}{}
	return p.failure
}

func (p *parents) remove(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.entries, e)
}

// failed notes that the event has fired with a failure, and returns its parents.
// An entry that is added later learns of it in add.
func (p *parents) failed(cause error) []*QuitEvent {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure = cause
	var qs []*QuitEvent
	for e := range p.entries {
		qs = append(qs, e.q)
	}
	return qs
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
// so on. It reports whether it fired q. One that has fired before, and so a ring
// of events, ends the way up.
func (q *QuitEvent) fireAll(cause error) (fired bool) {
	fired = q.fire(cause)
	todo := []*QuitEvent{}
	if fired {
		todo = q.parents.failed(cause)
	}
	for len(todo) > 0 {
		up := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if up.fire(cause) {
			todo = append(todo, up.parents.failed(cause)...)
		}
	}
	return fired
}
