package quit

import (
	"os"
	"os/signal"
	"sync"

	"github.com/gracefulgo/graceful/internal/goid"
)

// pipeHold keeps SIGPIPE from ending the process, for one event. It does so
// from the fire to the end of the shutdown, and after that while the event's
// signals are handled. So a broken stdout or stderr does not kill the process
// during a shutdown.
type pipeHold struct {
	mu       sync.Mutex // guards the fields below; sigpipeHeld is changed under it
	handlers int        // of signals, in effect
	fired    bool       // the event is about to fire, or has fired
	ended    bool       // the shutdown has ended
	held     bool
}

// fire is called before the event fires, so that no write comes after the fire
// and before the hold.
func (p *pipeHold) fire() { p.change(func() { p.fired = true }) }

// end is called when the shutdown has ended.
func (p *pipeHold) end() { p.change(func() { p.ended = true }) }

// handle adds n to the number of signal handlers: 1 when a handler begins, and
// -1 when it ends.
func (p *pipeHold) handle(n int) { p.change(func() { p.handlers += n }) }

func (p *pipeHold) change(what func()) {
	if sigpipe == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	what()
	if hold := p.fired && (!p.ended || p.handlers > 0); hold != p.held {
		p.held = sigpipeHeld.hold(hold)
	}
}

// sigpipeHeld counts the holds of all events.
var sigpipeHeld sharedHold

// sharedHold counts the events that hold SIGPIPE. While there are any, the
// signal goes to a channel that nobody reads.
type sharedHold struct {
	mu      sync.Mutex // guards the fields below, and the order of calls to os/signal
	events  int
	c       chan os.Signal
	ignored bool // the process ignored the signal before the hold
}

// hold begins or ends the hold of one event, and reports whether the event now
// has one. The first hold does not begin in a bubble of testing/synctest, since
// os/signal cannot be used there.
func (h *sharedHold) hold(on bool) (held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case on && h.events > 0:
		h.events++
	case on && goid.InBubble():
		return false
	case on:
		h.events = 1
		h.c, h.ignored = make(chan os.Signal, 1), signal.Ignored(sigpipe)
		signal.Notify(h.c, sigpipe)
	default:
		if h.events--; h.events == 0 {
			restore(h.c, sigpipe, h.ignored)
		}
	}
	return on
}

// restore ends the delivery of sig to c. The signal is ignored again if it was
// ignored before.
func restore(c chan os.Signal, sig os.Signal, ignored bool) {
	if ignored {
		signal.Ignore(sig) // before Stop, so that the default never applies in between
	}
	signal.Stop(c)
}
