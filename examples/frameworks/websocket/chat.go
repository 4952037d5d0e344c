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
	maxQueue   = 256     // messages that a member may be behind
	maxMessage = 4 << 10 // bytes; more than the page's maxlength allows
	goodbye    = "the server is going away"
)

// patience is the time that a member has to leave; conn.Close waits for 5 s.
// Tests change it.
var patience = 3 * time.Second

// chat is a handler of WebSockets: all members get each message, in the same
// order.
type chat struct {
	// mu guards the fields below, and keeps a send away from a closed queue.
	mu      sync.Mutex
	members map[*member]bool
	closed  bool
}

type member struct {
	addr   string
	queue  chan []byte        // messages for the member; closed when it must leave
	cancel context.CancelFunc // ends its connection, even if that hangs

	// The reason why it must leave; set before queue is closed.
	status websocket.StatusCode
	reason string
}

func newChat() *chat { return &chat{members: make(map[*member]bool)} }

// ServeHTTP sends to a member. A goroutine receives from it as long as the
// connection lives, since it also receives the answer to the closing of the
// connection.
func (c *chat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// This ctx outlives the fire, until no time is left.
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

// leave makes m leave, unless it must already do so.
func (c *chat) leave(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(m, websocket.StatusNormalClosure, "")
}

// say sends text to all members. The author gets it too, and so knows that it
// was said. If the author must leave, nobody gets the text: the author would
// not know that, and sends it again after connecting again. Once the chat is
// closed there are no members.
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

// close makes all members leave, once they have got all messages.
func (c *chat) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for m := range c.members {
		c.send(m, []byte(goodbye))
		c.end(m, websocket.StatusGoingAway, goodbye)
	}
}

// send reports whether m will be sent text. It never waits: a member that does
// not read must leave. mu is held.
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

// end makes the handler of m end, by itself or when patience has passed. mu is
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
