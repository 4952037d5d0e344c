package quit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/pprof"
	"slices"
	"time"
)

// QuitCloser is what can be shut down within a time: [net/http.Server] is one,
// and so is [QuitEvent] itself. Shutdown should end its work by the time that
// ctx is done, and then return an error if it could not.
type QuitCloser interface {
	Shutdown(ctx context.Context) error
}

// ShutdownFunc is a func as a QuitCloser.
type ShutdownFunc func(context.Context) error

// Shutdown calls f.
func (f ShutdownFunc) Shutdown(ctx context.Context) error { return f(ctx) }

// Graceful returns a QuitCloser for what has a patient and an impatient way to
// stop, such as GracefulStop and Stop of a gRPC server. It calls stop; if that
// has not returned when ctx is done, it calls force too, in a goroutine of its
// own, waits for both and returns an error that is ctx's. A panic in either is
// returned as a [*PanicError].
//
// A nil force makes it wait for stop alone. A nil stop makes Graceful return
// nil, which Register ignores with a warning.
func Graceful(stop, force func()) QuitCloser {
	if stop == nil {
		return nil
	}
	return graceful{stop, force}
}

type graceful struct{ stop, force func() }

func (g graceful) Shutdown(ctx context.Context) error {
	if g.force == nil {
		return caught(func() error { g.stop(); return nil })
	}
	forced := make(chan error, 1)
	// The goroutine that this starts ends when force returns.
	cancel := context.AfterFunc(ctx, func() {
		if q, ok := ctx.Value(closerOf{}).(*QuitEvent); ok {
			defer enterLoop(q)()
		}
		pprof.SetGoroutineLabels(ctx)
		err := errGoexit
		defer func() { forced <- err }()
		err = caught(func() error { g.force(); return nil })
	})
	defer cancel() // for a stop that ends its goroutine
	err := caught(func() error { g.stop(); return nil })
	if cancel() {
		return err
	}
	return errors.Join(fmt.Errorf("forced to stop: %w", ctx.Err()), err, <-forced)
}

// ioCloser is an io.Closer as a QuitCloser. The closer is no embedded field, for
// then its Close would be promoted, and called once more by the escalation.
type ioCloser struct{ c io.Closer }

func (c *ioCloser) Shutdown(context.Context) error { return c.c.Close() }

// stopFunc is a stop func as a QuitCloser.
type stopFunc func()

func (f stopFunc) Shutdown(context.Context) error { f(); return nil }

// entry is a registered closer that has not been called yet. All kinds of
// closers are adapted to a QuitCloser once, so their order is one order.
type entry struct {
	prev, next *entry // in its queue
	queue      *queue // nil once it was taken out

	q      *QuitEvent
	closer QuitCloser
	site   uintptr // where Register was called
	config
}

// ioEntry is the entry of an io.Closer with its adapter, in one piece of memory.
type ioEntry struct {
	entry
	ioCloser
}

// queue holds the entries of one phase, in the order of their registration.
type queue struct{ last *entry }

// push is called with the event's mu held.
func (l *queue) push(e *entry) {
	e.queue, e.prev = l, l.last
	if l.last != nil {
		l.last.next = e
	}
	l.last = e
}

// remove takes e out of its queue, and reports whether it was in one.
// Called with the event's mu held.
func (e *entry) remove() bool {
	if e.queue == nil {
		return false
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		e.queue.last = e.prev
	}
	if e.prev != nil {
		e.prev.next = e.next
	}
	e.queue, e.prev, e.next = nil, nil, nil
	return true
}

// RegisterCloser registers c, whose Close the shutdown calls exactly once: in
// the reverse order of registration, after the fire and before the drain
// ([AfterDrain]: after it). See the package documentation for the time it has.
//
// It may be called at any time, also from a closer. While the shutdown runs, c is
// called next in its phase, or as the very next step if that phase is over. After
// the shutdown has ended, c is called before RegisterCloser returns, with a share of
// its own of 4/5 of [QuitEvent.Timeout]; its error is logged.
//
// The returned unregister takes c out again, in constant time, and reports whether
// it did: true means that c will not be called, false that it was called, is being
// called or was taken out before. Registering twice means being called twice.
//
// A nil c is ignored, with a warning that names the call site. A typed nil is
// called like any other, and its panic reported. Of a c that has a method
// Shutdown(ctx) error too, Close is what is called, with a warning: Close
// cuts off what Shutdown would let finish.
func (q *QuitEvent) RegisterCloser(c io.Closer, opts ...Option) (unregister func() bool) {
	if c == nil {
		return q.ignore("RegisterCloser", caller())
	}
	if _, ok := c.(QuitCloser); ok {
		q.warn("quit: closer has Shutdown too, RegisterCloser calls Close",
			slog.String("closer", typeName(c)), slog.String("site", siteName(caller())))
	}
	e := &ioEntry{entry{q: q, site: caller(), config: configOf(opts)}, ioCloser{c}}
	e.closer = &e.ioCloser
	return e.register()
}

// RegisterQuitCloser is [QuitEvent.RegisterCloser] for a QuitCloser. Its
// Shutdown gets a context that expires at the end of its share and carries the
// values of the context given to [QuitEvent.Shutdown], but not its cancellation.
// If Shutdown returns an error after its context was done, and c is an
// [io.Closer] too, c is closed at once; both errors count. A ShutdownFunc that is nil
// is ignored like a nil c.
func (q *QuitEvent) RegisterQuitCloser(c QuitCloser, opts ...Option) (unregister func() bool) {
	if c == nil {
		return q.ignore("RegisterQuitCloser", caller())
	}
	if f, ok := c.(ShutdownFunc); ok && f == nil {
		return q.ignore("RegisterQuitCloser", caller())
	}
	e := &entry{q: q, closer: c, site: callerOutside(), config: configOf(opts)}
	return e.register()
}

// RegisterStopFunc is [QuitEvent.RegisterCloser] for a func without an error.
func (q *QuitEvent) RegisterStopFunc(stop func(), opts ...Option) (unregister func() bool) {
	if stop == nil {
		return q.ignore("RegisterStopFunc", caller())
	}
	e := &entry{q: q, closer: stopFunc(stop), site: caller(), config: configOf(opts)}
	return e.register()
}

func (e *entry) register() (unregister func() bool) {
	q, phase := e.q, phaseClosers
	if e.afterDrain {
		phase = phaseAfterDrain
	}
	q.mu.Lock()
	now := q.phase
	if now != phaseEnded {
		q.queues[phase].push(e)
	}
	q.mu.Unlock()

	switch {
	case now == phaseEnded:
		q.runLate(e, phase)
		return func() bool { return false }
	case now != phaseIdle && q.Concurrent:
		go q.loop() // ends with the steps it finds; in sequence, the running loop finds e itself
	}
	return e.unregister
}

func (e *entry) unregister() bool {
	e.q.mu.Lock()
	defer e.q.mu.Unlock()
	return e.remove()
}

// ignore warns of a nil given to the method what.
func (q *QuitEvent) ignore(what string, site uintptr) (unregister func() bool) {
	q.warn("quit: nil ignored", slog.String("in", what), slog.String("site", siteName(site)))
	return func() bool { return false }
}

// Option is an option of a Register method or of [QuitEvent.Go]. A nil Option is
// ignored, and so is one where it means nothing. Of two alike, the last one counts.
type Option interface{ apply(*config) }

// config is what the options of one call come to.
type config struct {
	name       string        // "": the default name
	timeout    time.Duration // 0: none
	afterDrain bool
	ignored    []error
}

type option func(*config)

func (o option) apply(c *config) { o(c) }

func configOf(opts []Option) config {
	if len(opts) == 0 {
		return config{}
	}
	c := new(config) // on the heap, since an Option gets its address
	for _, o := range opts {
		if o != nil {
			o.apply(c)
		}
	}
	return *c
}

// Name names a closer or a goroutine in errors, logs, reports and profiles. The
// default is a closer's type, or a func's symbol; "" means the default.
func Name(name string) Option { return option(func(c *config) { c.name = name }) }

// Timeout makes d the share of a closer, if its share of the time left is not
// smaller: its context expires after d, and it is abandoned an eighth of d later.
// Zero or less means no limit of its own. It means nothing to Go.
func Timeout(d time.Duration) Option {
	return option(func(c *config) { c.timeout = max(d, 0) })
}

// AfterDrain has a closer called once no counted goroutine is left, or the drain
// was given up: for what the goroutines use, such as a database. It means nothing to Go.
func AfterDrain() Option { return option(func(c *config) { c.afterDrain = true }) }

// Ignore says that these errors, in the sense of [errors.Is], are no failure of
// the closer or goroutine. Of a joined error, the others count. Several Ignore
// options add up. A panic, and a closer that is abandoned, count in any case.
func Ignore(errs ...error) Option {
	errs = slices.Clone(errs)
	return option(func(c *config) { c.ignored = append(c.ignored, errs...) })
}
