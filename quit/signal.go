package quit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
)

// SignalError is the cause of a fire by a signal. It is always used as a
// *SignalError, and is [context.Canceled] in the sense of [errors.Is]:
// being asked to end is no failure.
type SignalError struct{ Signal os.Signal }

// Error names the signal.
func (e *SignalError) Error() string { return fmt.Sprintf("quit: received signal: %v", e.Signal) }

// Is reports whether target is [context.Canceled].
func (e *SignalError) Is(target error) bool { return target == context.Canceled }

// isSignal reports whether err is a signal, perhaps wrapped, and nothing else: not
// one of several errors.
func isSignal(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if _, ok := err.(*SignalError); ok {
			return true
		}
	}
	return false
}

// ExitCode returns 128 + the signal's number, the status with which shells report
// a process that a signal ended: 130 for an interrupt, 143 for SIGTERM. It returns 1
// for a signal without a number, as on Plan 9.
func (e *SignalError) ExitCode() int {
	if n, ok := signalNumber(e.Signal); ok {
		return 128 + n
	}
	return 1
}

// NotifySignal handles signals from now on: the first one fires the event, with
// a [*SignalError] as the cause. Without arguments these are [os.Interrupt] and
// SIGTERM; nil ones are left out. A listed SIGINT or SIGHUP that the process was started to ignore, as
// by nohup, stays ignored. SIGQUIT keeps dumping all stacks, unless it is listed.
//
// Of the signals after the first, whatever that was, [os.Interrupt] ends the process at once, if it
// comes half a second or more after the first: what still runs goes to stderr with its
// stacks, if these can be had within a second, and the exit status is [SignalError.ExitCode]. (One Ctrl-C often
// arrives twice, from the terminal and from a parent.) All others change nothing.
//
// From the fire on, a write to a broken stdout or stderr fails with EPIPE instead
// of ending the process.
//
// stop restores what was before, and may be called more than once. Several calls of
// NotifySignal, on one event or many, each get every signal.
func (q *QuitEvent) NotifySignal(sigs ...os.Signal) (stop func()) {
	return q.notify(sigs).stop
}

// WaitSignal is NotifySignal, the wait for the fire, by a signal or anything
// else, and then [QuitEvent.Shutdown] with q.Timeout, whose result it returns. It
// never ends the process itself, but for the second interrupt; main returns after it.
//
// If a signal came, signals stay handled when WaitSignal has returned, so one more
// SIGTERM does not end main before its last line. Otherwise what was before is
// restored. Several callers get the same result, also after the end.
func (q *QuitEvent) WaitSignal(sigs ...os.Signal) error {
	h := q.notify(sigs)
	<-q.Done()
	err := q.Shutdown(context.Background())
	if !h.received.Load() {
		h.stop()
	}
	return err
}

// WaitSignal is [QuitEvent.WaitSignal] of [GetQuitEvent]().
func WaitSignal(sigs ...os.Signal) error { return GetQuitEvent().WaitSignal(sigs...) }

// handler is one NotifySignal in effect.
type handler struct {
	q        *QuitEvent
	signals  chan os.Signal
	once     sync.Once     // stop
	stopped  chan struct{} // closed by stop; it ends the goroutine of handle
	received atomic.Bool   // a signal came; for WaitSignal, which has no other news of it

	since       time.Time // before it got signals
	interrupted bool      // it has got an interrupt; of the goroutine of handle
}

// firstSignal is the signal that came first for an event.
type firstSignal struct {
	at  time.Time
	sig os.Signal
}

func (q *QuitEvent) notify(sigs []os.Signal) *handler {
	if len(sigs) == 0 {
		sigs = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	// A channel with room: os/signal drops what it cannot send.
	h := &handler{q: q, signals: make(chan os.Signal, 16), stopped: make(chan struct{}), since: time.Now()}
	sigs = slices.DeleteFunc(slices.Clone(sigs), func(s os.Signal) bool {
		return s == nil || staysIgnored(s) && signal.Ignored(s)
	})
	if len(sigs) > 0 { // without any, Notify would take all
		signal.Notify(h.signals, sigs...)
	}
	q.pipe.enter()
	go h.handle()
	return h
}

func (h *handler) stop() {
	h.once.Do(func() {
		signal.Stop(h.signals)
		close(h.stopped)
		h.q.pipe.leave()
	})
}

// handle is the goroutine of the handler. It ends when stop is called.
func (h *handler) handle() {
	handle := func(s os.Signal) {
		h.received.Store(true)
		if h.take(s, time.Now()) {
			h.q.exit(&SignalError{s})
		}
	}
	for {
		select {
		case s := <-h.signals:
			handle(s)
		case <-h.stopped:
			for { // what came before stop counts
				select {
				case s := <-h.signals:
					handle(s)
				default:
					return
				}
			}
		}
	}
}

// take takes a signal, fires if it is the event's first, and reports whether it is one
// that ends the process.
func (h *handler) take(s os.Signal, now time.Time) (ends bool) {
	again := h.interrupted
	h.interrupted = again || s == os.Interrupt
	if h.q.signalled.CompareAndSwap(nil, &firstSignal{now, s}) {
		h.q.Fail(&SignalError{s})
		return false
	}
	// Each handler gets each signal. So the first interrupt of this one can be the very
	// signal that another one has taken, however late this one comes to run.
	first := h.q.signalled.Load()
	same := !again && first.sig == os.Interrupt && h.since.Before(first.at)
	return s == os.Interrupt && !same && now.Sub(first.at) >= 500*time.Millisecond
}

// pipeHold keeps SIGPIPE away from the process: it goes to a channel that nobody
// reads. It is held from the fire on, while a NotifySignal is in effect.
type pipeHold struct {
	mu      sync.Mutex     // guards the fields below, and the order of calls to os/signal
	signals int            // NotifySignal calls in effect
	fired   bool           // the event fires, or has
	held    chan os.Signal // nil: not held
}

// fire is called before the event fires, so that nobody writes after the fire
// and before the hold.
func (p *pipeHold) fire() { p.change(0, true) }

func (p *pipeHold) enter() { p.change(1, false) }
func (p *pipeHold) leave() { p.change(-1, false) }

func (p *pipeHold) change(signals int, fired bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signals += signals
	p.fired = p.fired || fired
	switch hold := p.fired && p.signals > 0 && sigpipe != nil; {
	case hold && p.held == nil:
		p.held = make(chan os.Signal, 1)
		signal.Notify(p.held, sigpipe)
	case !hold && p.held != nil:
		signal.Stop(p.held)
		p.held = nil
	}
}

// exiting is locked by the first exit and never unlocked: all others wait for
// the end of the process.
var exiting sync.Mutex

// exit ends the process, having said what still runs, also of other events. It waits for a stderr
// that takes nothing, but no longer than two seconds. os.Exit it is, and not the signal itself, since
// a process that is PID 1 cannot kill itself with one.
func (q *QuitEvent) exit(sig *SignalError) {
	exiting.Lock()
	if sigpipe != nil {
		signal.Notify(make(chan os.Signal, 1), sigpipe)
	}
	collected := make(chan map[string]string, 1)
	go func() { collected <- stacks.All() }() // ends with the process at the latest, as does the next
	written := make(chan struct{})
	go func() {
		defer close(written)
		fmt.Fprintf(os.Stderr, "%v, ending at once\n", sig)
		seen, all := make(map[*QuitEvent]bool), map[string]string(nil)
		select {
		case all = <-collected:
		case <-time.After(time.Second): // a crowd of goroutines: what still runs is said without stacks
		}
		for _, e := range append([]*QuitEvent{q}, eventsRunning()...) {
			if !seen[e] && !e.ended.HasFired() {
				fmt.Fprint(os.Stderr, e.report(seen, all))
			}
		}
	}()
	select {
	case <-written:
	case <-time.After(2 * time.Second):
	}
	os.Exit(sig.ExitCode())
}
