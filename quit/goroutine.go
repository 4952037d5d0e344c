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

// AddGoroutine counts one more goroutine, which the drain will wait for. Call
// it before the go statement. It counts at any time. The drain waits even for
// one that is added during the drain; nothing waits for one that is added after
// the shutdown has ended. Use [QuitEvent.TryAddGoroutine] to take in work only
// if it will be awaited.
func (q *QuitEvent) AddGoroutine() { q.count.add(1) }

// TryAddGoroutine counts one more goroutine and reports true, or, once the event
// has fired, counts nothing and reports false. What it lets in is always awaited
// by the drain; there is no window between the two.
func (q *QuitEvent) TryAddGoroutine() bool {
	// The first look keeps a crowd that is turned away from holding up the drain.
	// The second decides: a fire that it does not see comes after the add, in the
	// one order of all atomic operations, and so does the drain that follows it.
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

// DoneGoroutine counts one goroutine less; defer it in the goroutine. What comes
// before it is synchronized before the end of the drain and of WaitGoroutines.
// One call too many makes neither panic nor race; the shutdown reports it.
func (q *QuitEvent) DoneGoroutine() { q.count.add(-1) }

// WaitGoroutines waits until no counted goroutine is left. It may be called at
// any time, fired or not, from any number of goroutines. Unlike the drain, it
// has no limit in time. A counted goroutine that calls it waits for itself. The
// first wait makes counting cost a mutex from then on: it is made for the end
// of a program, and for tests.
func (q *QuitEvent) WaitGoroutines() { q.count.wait(nil) }

// Go runs f in a new, counted goroutine and reports true. Once the event has
// fired, it starts nothing, reports false, and warns once for each func. f gets
// [QuitEvent.Context]. Its goroutine has the pprof labels of the one that calls
// Go, and the label "quit" with its name: that of the option [Name], or the
// symbol of f.
//
// An error that f returns is logged at once and fires the event, as
// [QuitEvent.Fail] does. After the fire it is added to what Shutdown returns,
// unless it is [context.Canceled] or the cause: these very errors, alone or in
// a list by [errors.Join], since an error that wraps them says what was lost.
// An error given to [Ignore] or [IgnoreFunc] is dropped in either case. A panic
// in f is logged with its stack, and is then an error like any other, a
// [*PanicError]. Unlike in an [golang.org/x/sync/errgroup.Group], every error
// counts, and not the first alone. f may call [runtime.Goexit]: that is no
// error.
//
// A nil f is ignored with a warning, and Go reports false. In f, call Fire or Fail
// and not Shutdown or GracefulStop: the shutdown waits for f.
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

// refuse warns of an f that is not started, once for each func.
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

// routine is what goroutines of Go have in common.
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
	defer func() { // if a func given to IgnoreFunc calls Goexit, the error counts
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

// toldToEnd ignores what a func returns that was told to end by the fire, and
// says no more than that. An error that wraps the cause says what was lost, and
// counts.
func (q *QuitEvent) toldToEnd() *ignore {
	return &ignore{keepNamed: true, oks: []func(error) bool{func(err error) bool {
		_, signal := err.(*SignalError)
		return signal || equal(err, context.Canceled) || equal(err, q.Cause())
	}}}
}

// routineCache has the routines of an event. To make one costs as much as to
// start a goroutine, since it has labels of its own.
type routineCache struct {
	known   atomic.Pointer[map[routineKey]*routine] // a map is never changed, only replaced
	refused sync.Map                                // the code of each func of which refuse has warned
}

// routineKey is what tells routines apart that have no other options.
type routineKey struct {
	code   uintptr // of the func
	name   string
	labels stacks.Labels // that the goroutine inherits
}

// mostRoutines bounds the cache, for names may be made up at run time.
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

// add adds r to a copy of the known routines, if the labels that it inherits
// are none, or those of one of them: others may be new ones for each request.
// Of two at the same time one may be forgotten, and is made again by the next
// call.
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
