package quit

import (
	"context"
	"log/slog"
	"maps"
	"runtime/pprof"
	"sync"
	"sync/atomic"

	"github.com/gracefulgo/graceful/internal/stacks"
)

// AddGoroutine counts one more goroutine, for which the drain will wait. Call
// it before the go statement. It may be called at any time. The drain waits
// even for a goroutine that is added during the drain, but nothing waits for
// one that is added after the shutdown has ended. To take in work only if it
// will be awaited, use [QuitEvent.TryAddGoroutine].
func (q *QuitEvent) AddGoroutine() { q.count.add(1) }

// TryAddGoroutine counts one more goroutine and reports true. Once the event
// has fired, it counts nothing and reports false. The drain waits for every
// goroutine for which it reported true, however close to the fire the call was.
func (q *QuitEvent) TryAddGoroutine() bool {
	// The first check keeps a crowd of refused calls from holding up the drain.
	// The second check decides. All atomic operations have one order. In it, a
	// fire that the second check does not see comes after the add, and so does
	// the drain that follows the fire.
	if q.HasFired() {
		return false
	}
	q.count.add(1)
	if q.HasFired() {
		q.count.add(-1)
		return false
	}
	return true
}

// DoneGoroutine counts one goroutine fewer. Defer it in the goroutine. In the
// terminology of the Go memory model, a call to DoneGoroutine is synchronized
// before the end of a drain that waits for it, and before the return of any
// WaitGoroutines call that does. An extra call causes neither a panic nor a
// data race, and the shutdown reports it.
func (q *QuitEvent) DoneGoroutine() { q.count.add(-1) }

// WaitGoroutines waits until no counted goroutine is left. It may be called at
// any time, before or after the fire, from any number of goroutines. Unlike the
// drain, it has no time limit. A counted goroutine must not call it, since it
// would wait for itself. The first wait makes every later count lock a mutex,
// so WaitGoroutines is meant for tests and for the end of a program.
func (q *QuitEvent) WaitGoroutines() { q.count.wait(nil) }

// Go calls f in a new, counted goroutine and reports true. Once the event has
// fired, Go starts nothing and reports false, and logs a warning once for each
// func. The argument of f is [QuitEvent.Context]. Do not call Shutdown or
// GracefulStop in f, since the shutdown waits for f. Call Fire or Fail instead.
//
// An error returned by f is logged at once and fires the event, as
// [QuitEvent.Fail] does. After the fire, it is added to the result of Shutdown,
// unless it is [context.Canceled] or the cause. This exception is for these
// very errors, alone or joined by [errors.Join]. An error that wraps one of
// them counts, since it reports lost work. Errors given to [Ignore] or
// [IgnoreFunc] are dropped in both cases. Unlike an
// [golang.org/x/sync/errgroup.Group], the event keeps every error and not only
// the first.
//
// A panic in f is logged with its stack, and counts as an error returned by f,
// a [*PanicError]. A call to [runtime.Goexit] in f is not an error. A nil f is
// ignored with a warning, and Go reports false.
//
// The goroutine has the pprof labels of its caller. Its label "quit" is its
// name: the one given by the option [Name], or else the symbol of f.
func (q *QuitEvent) Go(f func(ctx context.Context) error, opts ...Option) bool {
	if f == nil {
		q.ignored("Go")
		return false
	}
	if !q.TryAddGoroutine() {
		q.refuse(f, opts)
		return false
	}
	r := q.routineOf(f, opts)
	go r.run(f) // ends when f does
	return true
}

// refuse logs that f is not started, once for each func.
func (q *QuitEvent) refuse(f func(ctx context.Context) error, opts []Option) {
	code := codeOf(f)
	if _, warned := q.routines.refused.LoadOrStore(code, true); warned {
		return
	}
	name := configOf(opts).name
	if name == "" {
		name = funcName(code)
	}
	q.warn(msgNotStarted, slog.String("goroutine", name), slog.String("site", siteOutside()))
}

// routine has the parts that goroutines started by equal calls to Go share.
type routine struct {
	q      *QuitEvent
	name   string
	ignore *ignore
	ctx    context.Context // Context, with the labels of the goroutine
}

func (r *routine) run(f func(ctx context.Context) error) {
	q := r.q
	defer q.DoneGoroutine() // after the error was recorded: the drain's end includes it
	pprof.SetGoroutineLabels(r.ctx)
	var err error
	defer func() { // deferred, so that err counts if a func of IgnoreFunc calls Goexit
		if err != nil {
			q.fail(&namedError{name: "goroutine " + r.name, err: err}, err, r.name)
		}
	}()
	err = caught(func() error { return f(r.ctx) })
	err = caught(func() error { return r.ignore.counts(err) })
	switch {
	case err == nil:
	case q.HasFired():
		err = q.toldToEnd().counts(err)
	case isSignal(err):
		q.fire(err)
		err = nil
	}
}

// toldToEnd ignores the errors with which a func only says that it ended
// because of the fire. An error that wraps the cause says more, and counts.
func (q *QuitEvent) toldToEnd() *ignore {
	return &ignore{keepNamed: true, oks: []func(error) bool{func(err error) bool {
		_, signal := err.(*SignalError)
		return signal || equal(err, context.Canceled) || equal(err, q.Cause())
	}}}
}

// routineCache has the routines of an event. Making a routine costs as much as
// starting a goroutine, because of its labels.
type routineCache struct {
	known   atomic.Pointer[map[routineKey]*routine] // a map is replaced, never changed
	refused sync.Map                                // the code of each func that refuse has logged
}

// routineKey identifies a routine that has no option but Name.
type routineKey struct {
	code   uintptr // of the func
	name   string
	labels stacks.Labels // that the goroutine inherits
}

// mostRoutines bounds the cache, since names may be made up at run time.
const mostRoutines = 64

func (q *QuitEvent) routineOf(f func(ctx context.Context) error, opts []Option) *routine {
	key, plain := routineKey{code: codeOf(f), labels: stacks.Inherited()}, true
	for _, o := range opts {
		if name, ok := o.(nameOption); ok {
			key.name = string(name)
		} else if o != nil {
			plain = false
		}
	}
	if known := q.routines.known.Load(); known != nil && plain {
		if r := (*known)[key]; r != nil {
			return r
		}
	}
	r := &routine{q: q, name: key.name}
	if !plain {
		r.ignore = configOf(opts).ignore
	}
	if r.name == "" {
		r.name = funcName(key.code)
	}
	r.ctx = key.labels.Extend(q.Context(), r.name, stacks.ID(q))
	if plain {
		q.routines.add(key, r)
	}
	return r
}

// add adds r to a copy of the known routines, if r inherits no labels or those
// of a known routine. Other labels may be new for each request. If add is
// called twice at the same time, one routine may be dropped. The next call to
// Go then makes it again.
func (c *routineCache) add(key routineKey, r *routine) {
	known := c.known.Load()
	ours := key.labels == stacks.Labels{}
	more := map[routineKey]*routine{key: r}
	if known != nil {
		if len(*known) >= mostRoutines {
			return
		}
		for _, o := range *known {
			ours = ours || key.labels == stacks.Of(o.ctx)
		}
		maps.Copy(more, *known)
	}
	if !ours {
		return
	}
	c.known.CompareAndSwap(known, &more)
}
