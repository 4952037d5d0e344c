package quit

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"strconv"
	"sync"
)

// A closer may call the shutdown that waits for it, also through other events
// that it is registered with or closes. Such a call must not wait. So that is
// who waits for whom, for all events of the process: a graph, whose edges are
// the closers that wait for another event's shutdown. A wait that would close a
// circle in it does not happen, so it never has one.
var waits struct {
	mu    sync.Mutex            // guards the fields below; no lock is taken under it
	loops map[uint64]*QuitEvent // by goroutine: whose closers it calls
	edges []edge
}

// edge says that a closer of from waits for the shutdown of to.
type edge struct{ from, to *QuitEvent }

// enterLoop notes that the calling goroutine calls q's closers until leave is called.
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

// closerOf is the key of the event whose closer got the context.
type closerOf struct{}

func withCloserOf(ctx context.Context, q *QuitEvent) context.Context {
	return context.WithValue(ctx, closerOf{}, q)
}

// enterWait notes that the caller waits for q's shutdown until leave is called,
// or reports false if that shutdown waits for the caller.
func enterWait(ctx context.Context, q *QuitEvent) (leave func(), ok bool) {
	byContext, _ := ctx.Value(closerOf{}).(*QuitEvent)
	id := goroutineID()

	waits.mu.Lock()
	defer waits.mu.Unlock()
	var added []edge
	for _, from := range []*QuitEvent{byContext, waits.loops[id]} {
		if from == nil {
			continue
		}
		if waitsFor(q, from) {
			return nil, false
		}
		added = append(added, edge{from, q})
	}
	waits.edges = append(waits.edges, added...)
	return func() {
		waits.mu.Lock()
		defer waits.mu.Unlock()
		for _, e := range added {
			i := slices.Index(waits.edges, e)
			waits.edges = slices.Delete(waits.edges, i, i+1)
		}
	}, true
}

// waitsFor reports whether q is p, or waits for it, directly or not. It comes to
// an end since the graph has no circle. Called with waits.mu held.
func waitsFor(q, p *QuitEvent) bool {
	return q == p || slices.ContainsFunc(waits.edges, func(e edge) bool {
		return e.from == q && waitsFor(e.to, p)
	})
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
