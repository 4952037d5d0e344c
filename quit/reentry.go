package quit

import (
	"bytes"
	"context"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
)

// A closer may call the shutdown that waits for it, also through other events
// that it is registered with or closes. Such a call must not wait. So that is
// who waits for whom, for all events of the process: a graph, whose edges are
// the closers that wait for another event.
var waits struct {
	mu    sync.Mutex            // guards the fields below; no lock is taken under it
	loops map[uint64]*QuitEvent // by goroutine: whose closers, or log handler, it calls
	edges []edge
}

// edge says that a closer of from waits for the shutdown, or a late closer, of to.
type edge struct{ from, to *QuitEvent }

// enterLoop notes that the calling goroutine calls q's closers, or its log
// handler, until leave is called. It is called first in a goroutine of ours.
func enterLoop(q *QuitEvent) (leave func()) {
	id := goroutineID()
	if id == 0 {
		return func() {}
	}
	waits.mu.Lock()
	defer waits.mu.Unlock()
	if waits.loops == nil {
		waits.loops = make(map[uint64]*QuitEvent)
	}
	waits.loops[id] = q
	return func() {
		waits.mu.Lock()
		defer waits.mu.Unlock()
		delete(waits.loops, id)
	}
}

// eventsRunning returns the events of the process that call closers now.
func eventsRunning() []*QuitEvent {
	waits.mu.Lock()
	defer waits.mu.Unlock()
	return slices.Collect(maps.Values(waits.loops))
}

// closerOf is the key of the event whose closer got the context.
type closerOf struct{}

func withCloserOf(ctx context.Context, q *QuitEvent) context.Context {
	return context.WithValue(ctx, closerOf{}, q)
}

// callersOf returns the events whose closers make the call: the one whose
// closer got ctx, and the one whose closer runs on this goroutine.
func callersOf(ctx context.Context) []*QuitEvent {
	var callers []*QuitEvent
	if q, ok := ctx.Value(closerOf{}).(*QuitEvent); ok {
		callers = append(callers, q)
	}
	id := goroutineID()
	waits.mu.Lock()
	defer waits.mu.Unlock()
	if q := waits.loops[id]; q != nil {
		callers = append(callers, q)
	}
	return callers
}

// enterWait notes that callers wait for q until leave is called.
func enterWait(callers []*QuitEvent, q *QuitEvent) (leave func()) {
	waits.mu.Lock()
	defer waits.mu.Unlock()
	return enterWaitLocked(callers, q)
}

// tryWait is enterWait, unless q is one of the callers or waits for one: then it
// reports false.
func tryWait(callers []*QuitEvent, q *QuitEvent) (leave func(), ok bool) {
	waits.mu.Lock()
	defer waits.mu.Unlock()
	seen := make(map[*QuitEvent]bool)
	var waitsForCaller func(q *QuitEvent) bool
	waitsForCaller = func(q *QuitEvent) bool {
		if seen[q] {
			return false
		}
		seen[q] = true
		return slices.Contains(callers, q) || slices.ContainsFunc(waits.edges, func(e edge) bool {
			return e.from == q && waitsForCaller(e.to)
		})
	}
	if waitsForCaller(q) {
		return nil, false
	}
	return enterWaitLocked(callers, q), true
}

func enterWaitLocked(callers []*QuitEvent, q *QuitEvent) (leave func()) {
	for _, c := range callers {
		waits.edges = append(waits.edges, edge{c, q})
	}
	return func() {
		waits.mu.Lock()
		defer waits.mu.Unlock()
		for _, c := range callers {
			i := slices.Index(waits.edges, edge{c, q})
			waits.edges = slices.Delete(waits.edges, i, i+1)
		}
	}
}

// goroutineID returns the number of the calling goroutine, or 0 if it cannot be
// told, which no goroutine has. The first line of a stack, "goroutine 7 [running]:",
// is the only public place that has it; net/http reads it there too. Without it, a
// closer is known by its context alone.
func goroutineID() uint64 {
	var buf [64]byte
	line := buf[:runtime.Stack(buf[:], false)]
	if fields := bytes.Fields(line); len(fields) > 1 {
		id, _ := strconv.ParseUint(string(fields[1]), 10, 64)
		return id
	}
	return 0
}
