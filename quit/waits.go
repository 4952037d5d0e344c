package quit

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/gracefulgo/graceful/internal/goid"
)

// A closer may call the shutdown that waits for it, directly or through other
// events. Such a call must not wait. So there is a graph of all waits in the
// process. An edge goes from a step to the node for which the step waits: the
// shutdown of another event, or a closer that was registered late. A step holds
// up its own node until it is over. An abandoned closer holds up nothing, so it
// may wait for anything.
//
// A wait that would close a cycle does not begin. The search for a cycle goes
// from the caller up to the steps that wait for it. The search is skipped if no
// step of the target waits for anything, as in a shutdown that has just begun.
// The caller cannot hold up such a target. So a wait takes constant time,
// however many events there are. Only for a target that itself waits does the
// time grow with the length of the way up from the caller.
var waits struct {
	mu      sync.Mutex         // guards the fields below and those of every node; a leaf
	walkers map[uint64]*walker // by goroutine
}

// node is a shutdown or a late closer, for which a step can wait.
type node struct {
	waiters map[*step]int // the waits for this node, by step
	blocked int           // the waits of this node's own steps
}

// walker is a goroutine of this package that calls user code: closers or a log
// handler.
type walker struct {
	q    *QuitEvent
	step *step // the step whose closer it calls; used by the goroutine alone
}

// enter makes the calling goroutine a walker of q until leave is called.
func enter(q *QuitEvent) (w *walker, leave func()) {
	w = &walker{q: q}
	id := goid.ID()
	if id == 0 { // unknown: then only its context identifies a closer
		return w, func() {}
	}
	waits.mu.Lock()
	defer waits.mu.Unlock()
	if waits.walkers == nil {
		waits.walkers = make(map[uint64]*walker)
	}
	before := waits.walkers[id] // if a closer causes a warning
	waits.walkers[id] = w
	return w, func() {
		waits.mu.Lock()
		defer waits.mu.Unlock()
		if delete(waits.walkers, id); before != nil {
			waits.walkers[id] = before
		}
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

// callers returns the steps whose closers make the call: the step to whose
// closer ctx was passed, and the step of the calling goroutine.
func callers(ctx context.Context) []*step {
	var steps []*step
	if s := stepOf(ctx); s != nil {
		steps = append(steps, s)
	}
	// If there is no walker, the caller is not one. This check comes first,
	// since the deeper the stack, the longer goid.ID takes.
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

// tryWait notes that callers wait for target until leave is called. If one of
// them holds up target, it notes nothing and reports false.
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

// heldUp reports whether target is held up by one of the steps, or by a step
// that waits for one of them. It is called with waits.mu held.
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
