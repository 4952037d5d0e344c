package quit

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"syscall"
	"time"
)

// SignalError is the cause of a fire by a signal. It is always used as a
// *SignalError. In the sense of [errors.Is] it is [context.Canceled], since a
// program that is asked to end has not failed.
type SignalError struct{ Signal os.Signal }

// Error names the signal.
func (e *SignalError) Error() string { return fmt.Sprintf("quit: received signal: %v", e.Signal) }

// Is reports whether target is [context.Canceled].
func (e *SignalError) Is(target error) bool { return target == context.Canceled }

// isSignal reports whether err is a signal, perhaps wrapped. It reports false
// if the signal is one of several errors.
func isSignal(err error) bool {
	for range mostWrapped {
		if _, ok := err.(*SignalError); ok {
			return true
		}
		inner, _ := wrapped(err)
		if len(inner) != 1 {
			return false
		}
		err = inner[0]
	}
	return false
}

// ExitCode returns 128 plus the signal's number. Shells report this status for
// a process that a signal ended: 130 for an interrupt, and 143 for SIGTERM. For
// a signal without a number, as on Plan 9, ExitCode returns 1.
func (e *SignalError) ExitCode() int {
	if n, ok := signalNumber(e.Signal); ok {
		return 128 + n
	}
	return 1
}

// NotifySignal begins to handle signals. The first signal fires the event, with
// a [*SignalError] as the cause. Without arguments, the signals are
// [os.Interrupt] and SIGTERM. NotifySignal skips nil, and signals that the
// system does not have. A listed SIGINT or SIGHUP stays ignored if the process
// was started to ignore it, as by nohup, and this is logged once. SIGQUIT still
// dumps all stacks, unless it is listed.
//
// A second Ctrl-C ends the process at once. More precisely, an [os.Interrupt]
// does so if it comes half a second or more after the event's first signal. One
// Ctrl-C often arrives twice, from the terminal and from a parent. The steps
// that still run are then written to stderr, with their stacks if these can be
// taken within a second. The exit status is [SignalError.ExitCode]. During
// [QuitEvent.Delay] such an interrupt ends the delay instead, and the next one,
// again after half a second, ends the process. After the first signal, all
// other signals have no effect.
//
// If several events handle an interrupt, it is the first signal for each event
// that has had none. The oldest of the events whose shutdown has not ended
// decides whether the interrupt ends the process. So a program that reloads,
// with one event after another, handles its first Ctrl-C as usual. After the
// last shutdown has ended, while main is in its last lines, signals stay
// handled until stop is called, or until NotifySignal or WaitSignal of another
// event is called.
//
// The func stop restores the state before the call. It may be called more than
// once.
func (q *QuitEvent) NotifySignal(sigs ...os.Signal) (stop func()) {
	return signals.handle(q, sigs).stop
}

// WaitSignal handles signals as [QuitEvent.NotifySignal] does, and waits until
// the event has fired, by a signal or otherwise. It then calls
// [QuitEvent.Shutdown] within q.Timeout, and returns the result. Several
// callers get the same result, even after the end. WaitSignal never ends the
// process, except on a second interrupt: main should return after it.
//
// If a signal came, signals stay handled after WaitSignal has returned. So
// another SIGTERM does not end main before its last line. If no signal came,
// WaitSignal restores the state before the call.
//
// If a signal fired the event, but no closer was ever registered and no
// goroutine ever counted, the shutdown logs a warning. Since nothing was closed
// or awaited, main most likely ends before the work in flight. Such a program
// may, for example, register its closers with another event.
func (q *QuitEvent) WaitSignal(sigs ...os.Signal) error {
	if q.ended.HasFired() {
		return q.sched.err
	}
	h := signals.handle(q, sigs)
	if !q.HasFired() { // else main may not have registered anything yet
		q.waiter.CompareAndSwap(0, callerOutside())
	}
	onWait(q)
	<-q.Done()
	err := q.Shutdown(context.Background())
	if !signals.received(q) {
		h.stop()
	}
	return err
}

// onWait is called by WaitSignal once its signals are handled. It is for tests.
var onWait = func(*QuitEvent) {}

// WaitSignal calls [QuitEvent.WaitSignal] on the event of the process, which
// [GetQuitEvent] returns.
func WaitSignal(sigs ...os.Signal) error { return GetQuitEvent().WaitSignal(sigs...) }

// doubled is the time after a signal in which an interrupt counts as the same
// signal, arriving twice.
const doubled = 500 * time.Millisecond

// signals is the table of the process.
var signals signalTable

// signalTable has the handlers of all events. A signal that any of them lists
// is received once, by one goroutine, however many list it.
type signalTable struct {
	// mu guards the fields below, those of every handler, listener and
	// receiver, and the order of calls to os/signal.
	mu        sync.Mutex
	receivers map[os.Signal]*receiver
	active    []*QuitEvent // events with handlers that have not ended, the oldest first
	rest      []*handler   // of events that have ended
	last      time.Time    // the first signal of the event that ended last; zero: it had none
}

// handler is one call to NotifySignal, until it is stopped.
type handler struct {
	q       *QuitEvent
	sigs    []os.Signal
	stopped bool
}

// listener has the signal handlers and the first signal of an event.
type listener struct {
	handlers []*handler
	ignored  []os.Signal // listed, but they stay ignored, which is logged
	first    time.Time   // the first signal; zero: none came
	ended    bool        // the shutdown has ended, and the event takes no part any more
}

// receiver is a goroutine that receives one signal.
type receiver struct {
	handlers int            // that list the signal
	c        chan os.Signal // buffered, since os/signal drops a signal that it cannot send
	ignored  bool           // the process ignored the signal before

	flush chan chan struct{} // asks to take all signals in c, then to close the sent channel
	end   chan struct{}      // closed when no handler is left: the goroutine empties c and ends
	ended chan struct{}      // closed when the goroutine has ended
}

// handle begins to handle signals for q. It releases the handlers of earlier
// events whose shutdown has ended.
func (t *signalTable) handle(q *QuitEvent, sigs []os.Signal) *handler {
	list, stay := handleable(sigs)
	h := &handler{q: q, sigs: list}
	q.pipe.handle(1)
	t.mu.Lock()
	stay = slices.DeleteFunc(stay, func(s os.Signal) bool {
		return slices.Contains(q.listener.ignored, s) // logged by an earlier call
	})
	q.listener.ignored = append(q.listener.ignored, stay...)
	for _, s := range h.sigs {
		t.receive(s)
	}
	before := t.rest
	t.rest = nil
	for _, r := range before {
		t.release(r)
	}
	if l := &q.listener; l.ended {
		t.rest = append(t.rest, h)
	} else {
		if len(l.handlers) == 0 {
			t.active = append(t.active, q)
		}
		l.handlers = append(l.handlers, h)
	}
	t.mu.Unlock()
	for _, r := range before {
		r.q.pipe.handle(-1)
	}
	for _, s := range stay {
		q.logIgnored(s)
	}
	return h
}

// handleable returns those of sigs, or of the default, that can be handled, and
// those that stay ignored.
func handleable(sigs []os.Signal) (list, stay []os.Signal) {
	if len(sigs) == 0 {
		sigs = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	for _, s := range sigs {
		switch {
		case !exists(s) || slices.Contains(list, s) || slices.Contains(stay, s):
		case staysIgnored(s) && ignored(s):
			stay = append(stay, s)
		default:
			list = append(list, s)
		}
	}
	return list, stay
}

// exists reports whether os/signal can deliver s: whether s has the type of the
// system's signals and, if these are numbers, a number that os/signal knows.
// Other signals do no harm in signal.Notify. But a signal.Stop of them alone
// waits for ever in a process that has handled no other signal
// (go.dev/issue/77076).
func exists(s os.Signal) bool {
	if reflect.TypeOf(s) != reflect.TypeOf(os.Interrupt) { // or if s is nil
		return false
	}
	const numbers = 65 // on all systems
	n, ok := signalNumber(s)
	return !ok || 0 <= n && n < numbers
}

// ignored reports whether the process ignores s. On wasm there are no signals,
// and signal.Ignored panics.
func ignored(s os.Signal) bool { return runtime.GOARCH != "wasm" && signal.Ignored(s) }

// receive starts the receiver of s, unless it runs. It is called with mu held.
func (t *signalTable) receive(s os.Signal) {
	r := t.receivers[s]
	if r == nil {
		r = &receiver{c: make(chan os.Signal, 16), ignored: ignored(s),
			flush: make(chan chan struct{}), end: make(chan struct{}), ended: make(chan struct{})}
		if t.receivers == nil {
			t.receivers = make(map[os.Signal]*receiver)
		}
		t.receivers[s] = r
		go t.run(r) // ends when the last handler that lists s is released
	}
	signal.Notify(r.c, s) // even if r runs: the program may have called signal.Reset
	r.handlers++
}

// release ends h, unless it has already been stopped. It is called with mu
// held.
func (t *signalTable) release(h *handler) {
	if h.stopped {
		return
	}
	h.stopped = true
	for _, s := range h.sigs {
		r := t.receivers[s]
		if r.handlers--; r.handlers == 0 {
			delete(t.receivers, s)
			restore(r.c, s, r.ignored)
			close(r.end)
		}
	}
}

// run receives a signal.
func (t *signalTable) run(r *receiver) {
	defer close(r.ended)
	pprof.SetGoroutineLabels(context.Background()) // not the caller's labels
	takeAll := func() {
		for {
			select {
			case s := <-r.c:
				t.take(s, time.Now())
			default:
				return
			}
		}
	}
	for {
		select {
		case s := <-r.c:
			t.take(s, time.Now())
		case taken := <-r.flush:
			takeAll()
			close(taken)
		case <-r.end:
			takeAll()
			return
		}
	}
}

// stop ends h. Signals that came before it count.
func (h *handler) stop() {
	t := &signals
	t.mu.Lock()
	var receivers []*receiver
	if !h.stopped && len(h.sigs) > 0 {
		// signal.Stop of any channel waits until os/signal has sent all signals
		// that have come.
		c := make(chan os.Signal, 1)
		signal.Notify(c, h.sigs[0])
		signal.Stop(c)
		for _, s := range h.sigs {
			receivers = append(receivers, t.receivers[s])
		}
	}
	t.mu.Unlock()
	for _, r := range receivers {
		taken := make(chan struct{})
		select {
		case r.flush <- taken:
			<-taken
		case <-r.ended:
		}
	}

	t.mu.Lock()
	stopped := h.stopped
	t.release(h)
	t.rest = without(t.rest, h)
	l := &h.q.listener
	if l.handlers = without(l.handlers, h); len(l.handlers) == 0 {
		t.active = without(t.active, h.q)
	}
	t.mu.Unlock()
	if !stopped {
		h.q.pipe.handle(-1)
	}
}

// without returns list without e.
func without[E comparable](list []E, e E) []E {
	return slices.DeleteFunc(list, func(o E) bool { return o == e })
}

// leave is called when q's shutdown has ended. Its handlers stay in effect
// during main's last lines, until another event handles signals.
func (t *signalTable) leave(q *QuitEvent) {
	t.mu.Lock()
	l := &q.listener
	l.ended = true
	if len(l.handlers) > 0 {
		t.active = without(t.active, q)
		t.rest = append(t.rest, l.handlers...)
		t.last = l.first
		l.handlers = nil
	}
	t.mu.Unlock()
	q.pipe.end()
}

// received reports whether a signal came for q.
func (t *signalTable) received(q *QuitEvent) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !q.listener.first.IsZero()
}

// take handles a signal for all events.
func (t *signalTable) take(s os.Signal, now time.Time) {
	fires, by, ends := t.decide(s, now)
	for _, q := range fires {
		q.Fail(&SignalError{s})
	}
	if !ends {
		return
	}
	if by != nil && by.endDelay() {
		t.mu.Lock()
		defer t.mu.Unlock()
		by.listener.first = now // the next interrupt may be the same Ctrl-C, arriving twice
		return
	}
	exit(&SignalError{s}, by)
}

// decide returns the events for which s is the first signal, and whether s ends
// the process. by is the event that decides so, or nil if all have ended.
func (t *signalTable) decide(
	s os.Signal, now time.Time,
) (fires []*QuitEvent, by *QuitEvent, ends bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	again := func(first time.Time) bool { return s == os.Interrupt && now.Sub(first) >= doubled }
	lists := func(h *handler) bool { return slices.Contains(h.sigs, s) }
	heard := false
	for _, q := range t.active {
		l := &q.listener
		if !slices.ContainsFunc(l.handlers, lists) {
			continue
		}
		if l.first.IsZero() {
			l.first = now
			fires = append(fires, q)
		} else if !heard && again(l.first) { // the oldest decides
			by, ends = q, true
		}
		heard = true
	}
	switch {
	case heard:
	case t.last.IsZero():
		t.last = now
	case again(t.last):
		ends = true
	}
	return fires, by, ends
}

// endDelay ends the delay, and reports whether it did so.
func (q *QuitEvent) endDelay() bool { return q.sched.delaying() && q.hasten.Fire() }
