package quit

import (
	"os"
	"os/signal"
	"sync"

	"github.com/gracefulgo/graceful/internal/goid"
)

// pipeHold keeps SIGPIPE away from the process for one event: from its fire to
// the end of its shutdown, and after that for as long as its signals are
// handled. So a broken stdout or stderr does not kill the process while it
// closes what it has.
type pipeHold struct {
	mu       sync.Mutex // guards the fields below; sigpipeHeld is changed under it
	handlers int        // of signals, in effect
	fired    bool       // the event fires, or has
	ended    bool       // the shutdown has ended
	held     bool
}

// fire is called before the event fires, so that nobody writes after the fire
// and before the hold.
func (p *pipeHold) fire() { p.change(func() { p.fired = true }) }

// end is called when the shutdown has ended.
func (p *pipeHold) end() { p.change(func() { p.ended = true }) }

// handle is called with 1 when a handler of signals begins, and with -1 when it
// ends.
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

// sigpipeHeld is what all events together do with SIGPIPE.
var sigpipeHeld sharedHold

// sharedHold counts the events that hold SIGPIPE. While there are any, it goes
// to a channel that nobody reads.
type sharedHold struct {
	mu      sync.Mutex // guards the fields below, and the order of calls to os/signal
	events  int
	c       chan os.Signal
	ignored bool // before
}

// hold begins or ends the hold of one event, and reports whether it has one
// now. The first one does not begin in a bubble of testing/synctest, where
// os/signal cannot be used.
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

// restore has a signal no longer sent to c, and ignored again if it was.
func restore(c chan os.Signal, sig os.Signal, ignored bool) {
	if ignored {
		signal.Ignore(sig) // first, so that there is no moment at which it is neither
	}
	signal.Stop(c)
}
