package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	maxQueue   = 256     // messages that a member may be late
	maxMessage = 4 << 10 // bytes; more than the page's maxlength can be
	goodbye    = "the server is going away"
)

// patience is how long a member that is to go may take; conn.Close waits for
// 5 s. Tests change it.
var patience = 3 * time.Second

// chat is a handler of WebSockets: what one member says, all get, in the same
// order.
type chat struct {
	// mu guards the fields below, and keeps a send away from a closed queue.
	mu      sync.Mutex
	members map[*member]bool
	closed  bool
}

type member struct {
	addr   string
	queue  chan []byte        // what is to be sent to it; closed when it is to go
	cancel context.CancelFunc // ends its connection, however that hangs

	// Why it is to go; set before queue is closed.
	status websocket.StatusCode
	reason string
}

func newChat() *chat { return &chat{members: make(map[*member]bool)} }

// ServeHTTP sends to a member. A goroutine receives from it, for as long as the
// connection lives, since the answer to the end of the connection is received
// too.
func (c *chat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// This lives on after the fire, until there is no time left.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	m := &member{addr: r.RemoteAddr, queue: make(chan []byte, maxQueue), cancel: cancel}
	if !c.join(m) {
		http.Error(w, goodbye, http.StatusServiceUnavailable)
		return
	}
	defer c.leave(m)
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it has answered the request
	}
	conn.SetReadLimit(maxMessage)

	go func() { // ends when the connection does
		defer c.leave(m)
		for {
			_, text, err := conn.Read(ctx)
			if err != nil {
				return
			}
			c.say(m, bytes.ToValidUTF8(text, []byte("\uFFFD"))) // browsers close on anything else
		}
	}()

	for text := range m.queue {
		if conn.Write(ctx, websocket.MessageText, text) != nil {
			break
		}
	}
	c.leave(m)
	conn.Close(m.status, m.reason) // waits for the answer
	if ctx.Err() != nil {
		slog.Warn("cut off", "member", m.addr)
	}
}

func (c *chat) join(m *member) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.members[m] = true
	}
	return !c.closed
}

// leave does nothing if m is to go already.
func (c *chat) leave(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(m, websocket.StatusNormalClosure, "")
}

// say has all members get text, its author too, who so knows that it was said.
// If the author is to go, nobody gets it: the author would not know, and says
// it again when it is back. Once the chat is closed there are no members.
func (c *chat) say(author *member, text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.send(author, text) {
		return
	}
	for m := range c.members {
		if m != author {
			c.send(m, text)
		}
	}
}

// close has all members go, once they have got what was said.
func (c *chat) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for m := range c.members {
		c.send(m, []byte(goodbye))
		c.end(m, websocket.StatusGoingAway, goodbye)
	}
}

// send reports whether m will be sent text. It waits for nobody: a member that
// does not read has to go. mu is held.
func (c *chat) send(m *member, text []byte) bool {
	if !c.members[m] {
		return false
	}
	select {
	case m.queue <- text:
		return true
	default:
		slog.Warn("too slow", "member", m.addr)
		c.end(m, websocket.StatusPolicyViolation, "too slow")
		return false
	}
}

// end has the handler of m end: in order, or else when patience does. mu is
// held.
func (c *chat) end(m *member, status websocket.StatusCode, reason string) {
	if !c.members[m] {
		return
	}
	delete(c.members, m)
	m.status, m.reason = status, reason
	close(m.queue)
	time.AfterFunc(patience, m.cancel)
}
