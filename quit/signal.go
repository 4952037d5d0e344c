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
// *SignalError, and is [context.Canceled] in the sense of [errors.Is]:
// being asked to end is no failure.
type SignalError struct{ Signal os.Signal }

// Error names the signal.
func (e *SignalError) Error() string { return fmt.Sprintf("quit: received signal: %v", e.Signal) }

// Is reports whether target is [context.Canceled].
func (e *SignalError) Is(target error) bool { return target == context.Canceled }

// isSignal reports whether err is a signal, perhaps wrapped, and nothing else:
// not one of several errors.
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

// ExitCode returns 128 + the signal's number, the status with which shells
// report a process that a signal ended: 130 for an interrupt, 143 for SIGTERM.
// It returns 1 for a signal without a number, as on Plan 9.
func (e *SignalError) ExitCode() int {
	if n, ok := signalNumber(e.Signal); ok {
		return 128 + n
	}
	return 1
}

// NotifySignal handles signals from now on: the first one fires the event, with
// a [*SignalError] as the cause. Without arguments these are [os.Interrupt] and
// SIGTERM; nil ones, and those that the system does not have, are left out. A
// listed SIGINT or SIGHUP that the process was started to ignore, as by nohup,
// stays ignored, which is logged. SIGQUIT keeps dumping all stacks, unless it
// is listed.
//
// After the event's first signal, whichever that was, an [os.Interrupt] that
// comes half a second or more later ends the process at once: the steps that
// still run go to stderr with their stacks, if these can be had within a
// second, and the exit status is [SignalError.ExitCode]. (One Ctrl-C often
// arrives twice, from the terminal and from a parent.) During [QuitEvent.Delay]
// such an interrupt ends the delay instead, and the next one, half a second or
// more later, ends the process. All other signals change nothing.
//
// If several events handle an interrupt, each takes it as its first signal if
// it has had none. Whether it ends the process is decided by the oldest of
// those whose shutdown has not ended: a program that reloads by one event after
// the other still gets its first Ctrl-C. After the last event has ended, main
// is in its last lines: signals stay handled until stop is called, or
// NotifySignal or WaitSignal for another event.
//
// stop restores what was before, and may be called more than once.
func (q *QuitEvent) NotifySignal(sigs ...os.Signal) (stop func()) {
	return signals.handle(q, sigs).stop
}

// WaitSignal is NotifySignal, the wait for the fire, by a signal or anything
// else, and then [QuitEvent.Shutdown] with q.Timeout, whose result it returns.
// It never ends the process itself, but for the second interrupt; main returns
// after it.
//
// If a signal ends the wait, no closer was called and no goroutine was ever
// counted, the shutdown logs a warning: nothing was stopped and nothing awaited,
// so main most likely ends under the work in flight. Such a program registers
// with another event, for example, or only has hooks that nobody calls.
//
// If a signal came, signals stay handled when WaitSignal has returned, so one
// more SIGTERM does not end main before its last line. Otherwise what was
// before is restored. Several callers get the same result, even after the end.
func (q *QuitEvent) WaitSignal(sigs ...os.Signal) error {
	if q.ended.HasFired() {
		return q.sched.err
	}
	h := signals.handle(q, sigs)
	if !q.HasFired() { // else main may not have come to register anything
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

// WaitSignal is [QuitEvent.WaitSignal] of [GetQuitEvent]().
func WaitSignal(sigs ...os.Signal) error { return GetQuitEvent().WaitSignal(sigs...) }

// doubled is the time after a signal in which an interrupt is taken for the
// same one, arriving twice.
const doubled = 500 * time.Millisecond

// signals is what the process does with signals, for all its events.
var signals signalTable

// signalTable has the handlers of all events. A signal that any of them lists
// is received once, by one goroutine, however many list it.
type signalTable struct {
	// mu guards the fields below, those of every handler, listener and
	// receiver, and the order of calls to os/signal.
	mu        sync.Mutex
	receivers map[os.Signal]*receiver
	active    []*QuitEvent // with handlers, and with a shutdown that has not ended; the oldest first
	rest      []*handler   // of events that have ended
	last      time.Time    // the first signal of the event that ended last; zero: it had none
}

// handler is one NotifySignal in effect.
type handler struct {
	q       *QuitEvent
	sigs    []os.Signal
	stopped bool
}

// listener is what an event knows of signals.
type listener struct {
	handlers []*handler
	first    time.Time // when the first signal came; zero: none came
	ended    bool      // the shutdown has ended: the event takes no part any longer
}

// receiver is a goroutine that receives one signal.
type receiver struct {
	handlers int                // that list the signal
	c        chan os.Signal     // with room: os/signal drops what it cannot send
	ignored  bool               // the signal was, before
	flush    chan chan struct{} // asks to take all that has come, and then to close what is sent
	end      chan struct{}      // closed when no handler is left: the goroutine takes what has come, and ends
	ended    chan struct{}      // closed when it has ended
}

// handle begins to handle signals for q. The events before, whose shutdown has
// ended, have no say from now on.
func (t *signalTable) handle(q *QuitEvent, sigs []os.Signal) *handler {
	h := &handler{q: q, sigs: q.handleable(sigs)}
	q.pipe.handle(1)
	t.mu.Lock()
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
	return h
}

// handleable returns those of sigs that can be handled, or the default.
func (q *QuitEvent) handleable(sigs []os.Signal) []os.Signal {
	if len(sigs) == 0 {
		sigs = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	var list []os.Signal
	for _, s := range sigs {
		switch {
		case !exists(s) || slices.Contains(list, s):
		case staysIgnored(s) && ignored(s):
			q.logIgnored(s)
		default:
			list = append(list, s)
		}
	}
	return list
}

// exists reports whether os/signal can deliver s: whether it has the type of
// the system's signals, and a number, where they are numbers, that it knows.
// The others are no harm to signal.Notify, but a signal.Stop of them alone
// waits for ever in a process that has handled no other one
// (go.dev/issue/77076).
func exists(s os.Signal) bool {
	if reflect.TypeOf(s) != reflect.TypeOf(os.Interrupt) { // as nil's is
		return false
	}
	const numbers = 65 // of all systems
	n, ok := signalNumber(s)
	return !ok || 0 <= n && n < numbers
}

// ignored reports whether the process ignores s. On wasm, which has no signals,
// signal.Ignored panics.
func ignored(s os.Signal) bool { return runtime.GOARCH != "wasm" && signal.Ignored(s) }

// receive has s received. It is called with mu held.
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
	signal.Notify(r.c, s) // even again: the program may have reset it since
	r.handlers++
}

// release is the end of h, unless it was stopped before. It is called with mu
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
	pprof.SetGoroutineLabels(context.Background()) // and not those of whoever has called NotifySignal
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
		// The end of any channel waits until os/signal has sent all that has
		// come.
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

// leave is called when q's shutdown has ended. Its handlers stay in effect for
// main's last lines, until another event handles signals.
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

// take takes a signal, for all events that listen to it.
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
		by.listener.first = now // the next one may be this one's double
		return
	}
	exit(&SignalError{s}, by)
}

// decide returns the events for which s is the first signal, and whether it
// ends the process: by is the event that says so, or nil if all have ended.
func (t *signalTable) decide(s os.Signal, now time.Time) (fires []*QuitEvent, by *QuitEvent, ends bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	again := func(first time.Time) bool { return s == os.Interrupt && now.Sub(first) >= doubled }
	heard := false
	for _, q := range t.active {
		l := &q.listener
		if !slices.ContainsFunc(l.handlers, func(h *handler) bool { return slices.Contains(h.sigs, s) }) {
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

// endDelay ends the delay, and reports whether it did.
func (q *QuitEvent) endDelay() bool { return q.sched.delaying() && q.hasten.Fire() }
