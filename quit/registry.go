package quit

import (
	"io"
	"log/slog"
	"runtime"
)

// entry is a registered closer that has not been called yet.
type entry struct {
	prev, next *entry // in its stack
	in         *stack // nil once it was taken out; these three are guarded by the schedule's mu

	q      *QuitEvent
	closer closer  // cleared when the entry is taken out, as is ignore
	site   uintptr // where Register was called; 0: a step of our own
	config
}

// clear forgets the closer, and what is ignored of its errors, for which a func
// may use it: an unregister func that is kept keeps neither.
func (e *entry) clear() { e.closer, e.ignore = closer{}, nil }

// stack holds the entries of one phase, the last registered on top. An entry
// can be taken out anywhere. It is guarded by the schedule's mu.
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

// RegisterCloser registers c, whose Close the shutdown calls exactly once: in
// the reverse order of registration, after the fire and before the drain. If
// counted goroutines use c, pass [AfterDrain]: then Close is called after the
// drain. The package documentation says how much time it has.
//
// RegisterCloser may be called at any time, even by a closer. While the
// shutdown runs, c is called next in its phase, or as the very next step if
// that phase is over. After the shutdown has ended, c is called before
// RegisterCloser returns, with a share of its own of 4/5 of
// [QuitEvent.Timeout]; its error is logged.
//
// The returned unregister takes c out again, in constant time, and reports
// whether it did: true means that c will not be called, false that it was
// called, is being called or was taken out before. A closer that is registered
// twice is called twice.
//
// A nil c is ignored, with a warning that names the call site. A typed nil is
// called like any other closer, and its panic is reported. If c also has a
// Shutdown(ctx) error method, RegisterCloser logs a warning and calls Close
// nonetheless: Close cuts off what Shutdown would let finish.
func (q *QuitEvent) RegisterCloser(c io.Closer, opts ...Option) (unregister func() bool) {
	if c == nil {
		return q.ignored("RegisterCloser")
	}
	if _, ok := c.(QuitCloser); ok {
		q.warn(msgHasShutdown, slog.String("closer", typeName(c)), slog.String("site", siteOutside()))
	}
	var pc [1]uintptr
	runtime.Callers(2, pc[:]) // here, and not in a func of its own: each frame costs
	e := &entry{q: q, closer: closer{c, kindCloser}, site: pc[0], config: configOf(opts)}
	return e.register()
}

// RegisterQuitCloser is [QuitEvent.RegisterCloser] for a QuitCloser. Its
// Shutdown gets a context that expires at the end of its share and carries the
// values of the context given to [QuitEvent.Shutdown], but not its
// cancellation. If Shutdown returns an error after its context was done, and c
// is an [io.Closer] too, c is closed at once; both errors count. A nil
// ShutdownFunc is ignored like a nil c.
//
// If c is a *QuitEvent and fires by itself with a failure, q fires with the
// same cause at once. See "Events within events" in the package documentation.
func (q *QuitEvent) RegisterQuitCloser(c QuitCloser, opts ...Option) (unregister func() bool) {
	if f, ok := c.(ShutdownFunc); c == nil || ok && f == nil {
		return q.ignored("RegisterQuitCloser")
	}
	e := &entry{q: q, closer: closer{c, kindQuitCloser}, site: callerOutside(), config: configOf(opts)}
	child := e.closer.child()
	if child == nil {
		return e.register()
	}
	up := parent{q, e.ignore}
	cause := child.parents.add(e)
	remove := e.register()
	if cause != nil { // it has failed already
		fireUp([]parent{up}, cause)
	}
	return func() bool {
		child.parents.remove(e)
		return remove()
	}
}

// RegisterStopFunc is [QuitEvent.RegisterCloser] for a func without an error.
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

// ignored warns of a nil given to the method what.
func (q *QuitEvent) ignored(what string) (unregister func() bool) {
	q.warn(msgNil, slog.String("in", what), slog.String("site", siteOutside()))
	return func() bool { return false }
}
