package quit

import (
	"io"
	"log/slog"
	"runtime"
)

// entry is a registered closer that has not been called yet.
type entry struct {
	// These three are guarded by the schedule's mu.
	prev, next *entry // in the stack
	in         *stack // nil once the entry was taken out

	q      *QuitEvent
	closer closer  // cleared when the entry is taken out, as is ignore
	site   uintptr // of the call to Register; 0 for the delay and the drain
	config
}

// clear drops the closer, and the funcs of IgnoreFunc, which may refer to it.
// So an unregister func that is kept does not keep the closer alive.
func (e *entry) clear() { e.closer, e.ignore = closer{}, nil }

// stack holds the entries of one phase, the last registered on top. Any entry
// can be taken out. It is guarded by the schedule's mu.
type stack struct{ last *entry }

func (l *stack) push(e *entry) {
	e.in, e.prev = l, l.last
	if l.last != nil {
		l.last.next = e
	}
	l.last = e
}

func (l *stack) remove(e *entry) {
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.last = e.prev
	}
	if e.prev != nil {
		e.prev.next = e.next
	}
	e.in, e.prev, e.next = nil, nil, nil
}

// RegisterCloser registers c. The shutdown calls its Close method exactly once,
// before the drain, in the reverse order of registration. If counted goroutines
// use c, pass [AfterDrain] to have Close called after the drain. The package
// documentation describes the time limits.
//
// RegisterCloser may be called at any time, even by a closer. During the
// shutdown, c is called next in its phase, or as the very next step if that
// phase is over. After the shutdown has ended, c is called before
// RegisterCloser returns, with a share of its own, 4/5 of [QuitEvent.Timeout],
// and its error is logged.
//
// The func unregister takes c out again, in constant time. It reports whether
// it did so, which means that c will not be called. It reports false if c is
// being called, was called, or was already taken out. A closer that is
// registered twice is called twice.
//
// A nil c is ignored, with a warning that names the call site. A typed nil is
// called like any other closer, and its panic is reported. If c also has a
// Shutdown(ctx) error method, RegisterCloser logs a warning and calls Close
// nonetheless. Close may cut off work that Shutdown would let finish.
func (q *QuitEvent) RegisterCloser(c io.Closer, opts ...Option) (unregister func() bool) {
	if c == nil {
		return q.ignored("RegisterCloser")
	}
	if _, ok := c.(QuitCloser); ok {
		q.warn(msgHasShutdown,
			slog.String("closer", typeName(c)), slog.String("site", siteOutside()))
	}
	var pc [1]uintptr
	runtime.Callers(2, pc[:]) // not in a func of its own, since each frame costs time
	e := &entry{q: q, closer: closer{c, kindCloser}, site: pc[0], config: configOf(opts)}
	return e.register()
}

// RegisterQuitCloser is like [QuitEvent.RegisterCloser], for a closer with a
// Shutdown method. The context passed to c.Shutdown expires at the end of its
// share. It carries the values of the context passed to [QuitEvent.Shutdown],
// but not its cancellation. If c.Shutdown returns an error after its context
// was done, and c is also an [io.Closer], c.Close is called at once. Both
// errors count. A nil ShutdownFunc is ignored like a nil c.
//
// If c is a *QuitEvent and fires by itself with a failure, q fires at once with
// the same cause. See "Nested events" in the package documentation.
func (q *QuitEvent) RegisterQuitCloser(c QuitCloser, opts ...Option) (unregister func() bool) {
	if f, ok := c.(ShutdownFunc); c == nil || ok && f == nil {
		return q.ignored("RegisterQuitCloser")
	}
	e := &entry{
		q:      q,
		closer: closer{c, kindQuitCloser},
		site:   callerOutside(),
		config: configOf(opts),
	}
	child := e.closer.child()
	if child == nil {
		return e.register()
	}
	up := parent{q, child, e.ignore}
	cause := child.parents.add(e, up)
	remove := e.register()
	if cause != nil { // the child has already failed
		fireUp([]parent{up}, cause)
	}
	return func() bool {
		child.parents.remove(e)
		return remove()
	}
}

// RegisterStopFunc is like [QuitEvent.RegisterCloser], for a func that returns
// no error.
func (q *QuitEvent) RegisterStopFunc(stop func(), opts ...Option) (unregister func() bool) {
	if stop == nil {
		return q.ignored("RegisterStopFunc")
	}
	var pc [1]uintptr
	runtime.Callers(2, pc[:])
	e := &entry{q: q, closer: closer{stop, kindFunc}, site: pc[0], config: configOf(opts)}
	return e.register()
}

func (e *entry) register() (unregister func() bool) {
	late, look := e.q.sched.add(e, e.q.Concurrent)
	if late {
		e.q.runLate(e)
		return func() bool { return false }
	}
	if look {
		go e.q.loop() // ends when no step may begin
	}
	return e.unregister
}

func (e *entry) unregister() bool { return e.q.sched.remove(e) }

// ignored warns of a nil passed to the method with the given name.
func (q *QuitEvent) ignored(method string) (unregister func() bool) {
	q.warn(msgNil, slog.String("in", method), slog.String("site", siteOutside()))
	return func() bool { return false }
}
