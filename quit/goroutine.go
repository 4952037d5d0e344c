package quit

import (
	"context"
	"log/slog"
	"maps"
	"runtime/pprof"

	"github.com/gracefulgo/graceful/internal/stacks"
)

// AddGoroutine counts one more goroutine, which the drain will wait for. Call it
// before the go statement. It counts at any time: added during the drain, the
// drain waits for it too; added after the shutdown has ended, nothing does.
// Use [QuitEvent.TryAddGoroutine] to take in work only where it will be awaited.
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
// any time, fired or not, from any number of goroutines; other than the drain it
// has no limit in time. A counted goroutine that calls it waits for itself. The
// first wait makes counting cost a mutex from then on: it is made for the end of
// a program, and for tests.
func (q *QuitEvent) WaitGoroutines() { q.count.wait(nil) }

// Go runs f in a new, counted goroutine and reports true; once the event has
// fired, it starts nothing and reports false. f gets [QuitEvent.Context], and its
// goroutine the pprof label "quit" with its name: of the option [Name], or the symbol of f.
//
// An error that f returns fires the event, as [QuitEvent.Fail] does; after
// the fire it is added to what Shutdown returns, unless it is [context.Canceled]
// or the cause. (Of a joined error, what is neither still counts.) An error given to [Ignore] is dropped in either case. A panic in
// f is logged at once, with its stack, and is then an error like any other, a
// [*PanicError]. Other than in [golang.org/x/sync/errgroup], every error
// counts, not the first alone. f may call [runtime.Goexit]: that is no error.
//
// A nil f is ignored with a warning, and Go reports false. In f, call Fire or Fail
// and not Shutdown or GracefulStop: the shutdown waits for f.
func (q *QuitEvent) Go(f func(ctx context.Context) error, opts ...Option) bool {
	if f == nil {
		q.ignore("Go", caller())
		return false
	}
	if !q.TryAddGoroutine() {
		return false
	}
	r := q.routineOf(f, opts)
	go r.run(f) // ends when f does
	return true
}

// routine is what goroutines of Go with the same func, and no options, share.
type routine struct {
	q *QuitEvent
	config
	ctx context.Context // Context, with the pprof label that is the name
}

func (r *routine) run(f func(ctx context.Context) error) {
	defer r.q.DoneGoroutine() // after the error was recorded: the drain's end includes it
	pprof.SetGoroutineLabels(r.ctx)
	if err := caught(func() error { return r.counts(f(r.ctx)) }); err != nil {
		if p, ok := err.(*PanicError); ok {
			r.logPanic(p)
		}
		r.q.fail(&namedError{name: "goroutine " + r.name, err: err}, err)
	}
}

func (r *routine) logPanic(p *PanicError) {
	defer enterLoop(r.q)() // the handler is user code, and may call the shutdown
	r.q.log(slog.LevelError, "quit: panic", slog.String("goroutine", r.name),
		slog.Any("panic", p.Value), slog.String("stack", string(p.Stack)))
}

// counts returns what of f's error counts as a failure.
func (r *routine) counts(err error) error {
	if err = without(err, r.ignored...); err == nil || !r.q.HasFired() {
		return err
	}
	return without(err, context.Canceled, r.q.Cause())
}

// routineOf returns the routine of f. Without options it is made once for each
// func of the program's text, for a label costs as much as starting a goroutine.
func (q *QuitEvent) routineOf(f func(ctx context.Context) error, opts []Option) *routine {
	code := codeOf(f)
	if known := q.routines.Load(); known != nil && len(opts) == 0 {
		if r := (*known)[code]; r != nil {
			return r
		}
	}
	r := &routine{q: q, config: configOf(opts)}
	if r.name == "" {
		r.name = funcName(code)
	}
	r.ctx = stacks.Label(q.Context(), r.name, stacks.ID(q))
	if len(opts) == 0 {
		q.remember(code, r)
	}
	return r
}

// remember adds r to a copy of the known routines. Of two at the same time one
// may be forgotten, and is made again by the next call.
func (q *QuitEvent) remember(code uintptr, r *routine) {
	known := q.routines.Load()
	more := map[uintptr]*routine{code: r}
	if known != nil {
		maps.Copy(more, *known)
	}
	q.routines.CompareAndSwap(known, &more)
}
