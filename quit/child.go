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
	entries map[*entry]struct{}
	failure error // the cause, if the event has fired with a failure
	up      bool  // the failure is that of an event in this one
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

// failed notes that the event has fired with a failure, its own or one that has
// come up, and returns its entries. One that is added later learns of it in add.
func (p *parents) failed(cause error, up bool) []*entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure, p.up = cause, up
	return slices.Collect(maps.Keys(p.entries))
}

// cameUp returns the failure with which the event has fired, if it is that of an
// event in it.
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

// fireUp fires the events that have these entries, and those above them. One that
// has fired before, and so a ring of events, ends the way up. An entry that
// ignores some errors is for a goroutine of its own, since to ask it is to call
// user code.
func fireUp(entries []*entry, cause error) {
	for len(entries) > 0 {
		e := entries[len(entries)-1]
		entries = entries[:len(entries)-1]
		if e.ignore != nil {
			go e.fireUnlessIgnored(cause) // ends when the entry's funcs return
		} else if e.q.fire(cause) {
			entries = append(entries, e.q.parents.failed(cause, true)...)
		}
	}
}

// fireUnlessIgnored is fireUp for an entry that may ignore the cause.
func (e *entry) fireUnlessIgnored(cause error) {
	counts := true // even if a func calls Goexit
	defer func() {
		if counts && e.q.fire(cause) {
			fireUp(e.q.parents.failed(cause, true), cause)
		}
	}()
	counts = e.ignore.counts(cause) != nil
}
