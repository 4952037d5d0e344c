package quit

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/gracefulgo/graceful/internal/goid"
)

// A closer may call the shutdown that waits for it, directly or through other
// events. Such a call must not wait. So there is a graph of all waits of the
// process. Its edges go from a step to the node that the step waits for: the
// shutdown of another event, or a closer that was registered late. A step holds
// up its own node until it is over: a closer that was abandoned holds up
// nobody, so it may wait for anything.
//
// A wait that would close a circle does not begin. To find one, the search goes
// from the caller up to those who wait for it. It is not made if no step of the
// target waits for anything, as in a target that has just been started: then
// nothing can be held up by the caller. So a wait costs a constant, however
// many events there are; only one for an event that waits itself costs as much
// as the way up from the caller.
var waits struct {
	mu      sync.Mutex         // guards the fields below and those of every node; a leaf
	walkers map[uint64]*walker // by goroutine
}

// node is what a step can wait for.
type node struct {
	waiters map[*step]int // the steps that wait for this node, and how often each does
	blocked int           // waits of this node's own steps
}

// walker is a goroutine of ours that calls user code: closers or a log handler.
type walker struct {
	q    *QuitEvent
	step *step // whose closer it calls now; only the goroutine itself uses it
}

// enter makes the calling goroutine a walker of q until leave is called.
func enter(q *QuitEvent) (w *walker, leave func()) {
	w = &walker{q: q}
	id := goid.ID()
	if id == 0 { // then a closer is known by its context alone
		return w, func() {}
	}
	waits.mu.Lock()
	defer waits.mu.Unlock()
	if waits.walkers == nil {
		waits.walkers = make(map[uint64]*walker)
	}
	waits.walkers[id] = w
	return w, func() {
		waits.mu.Lock()
		defer waits.mu.Unlock()
		delete(waits.walkers, id)
	}
}

// walk is enter for a goroutine that works for the step s alone.
func walk(s *step) (leave func()) {
	w, leave := enter(s.q)
	w.step = s
	return leave
}

// walking returns the events whose closers or log handlers are being called.
func walking() []*QuitEvent {
	waits.mu.Lock()
	defer waits.mu.Unlock()
	qs := make(map[*QuitEvent]bool)
	for _, w := range waits.walkers {
		qs[w.q] = true
	}
	return slices.Collect(maps.Keys(qs))
}

// callers returns the steps whose closers make the call: the one that got ctx,
// and the one that the calling goroutine works for.
func callers(ctx context.Context) []*step {
	var steps []*step
	if s := stepOf(ctx); s != nil {
		steps = append(steps, s)
	}
	// Without any walker, the caller is none: it would have entered before. To
	// know its number takes as long as its stack is deep.
	waits.mu.Lock()
	none := len(waits.walkers) == 0
	waits.mu.Unlock()
	if none {
		return steps
	}
	id := goid.ID()
	waits.mu.Lock()
	defer waits.mu.Unlock()
	if w := waits.walkers[id]; w != nil && w.step != nil && !slices.Contains(steps, w.step) {
		steps = append(steps, w.step)
	}
	return steps
}

// tryWait notes that callers wait for target until leave is called. It reports
// false, and notes nothing, if target is held up by one of them.
func tryWait(callers []*step, target *node) (leave func(), ok bool) {
	callers = slices.DeleteFunc(callers, func(s *step) bool { return s.over.Load() })
	waits.mu.Lock()
	defer waits.mu.Unlock()
	if heldUp(target, callers) {
		return nil, false
	}
	for _, s := range callers {
		if target.waiters == nil {
			target.waiters = make(map[*step]int)
		}
		target.waiters[s]++
		s.node.blocked++
	}
	return func() {
		waits.mu.Lock()
		defer waits.mu.Unlock()
		for _, s := range callers {
			s.node.blocked--
			if target.waiters[s]--; target.waiters[s] == 0 {
				delete(target.waiters, s)
			}
		}
	}, true
}

// heldUp reports whether target is held up by one of the steps, or by others
// that wait for one of them. It is called with waits.mu held.
func heldUp(target *node, steps []*step) bool {
	seen := make(map[*node]bool)
	var todo []*node
	up := func(s *step) {
		if !s.over.Load() && !seen[s.node] {
			seen[s.node] = true
			todo = append(todo, s.node)
		}
	}
	for _, s := range steps {
		if s.node == target {
			return true
		}
		up(s)
	}
	if target.blocked == 0 {
		return false
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n == target {
			return true
		}
		for s := range n.waiters {
			up(s)
		}
	}
	return false
}
