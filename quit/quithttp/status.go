package quithttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/gracefulgo/graceful/quit"
)

// Status returns a handler that shows [quit.QuitEvent.Report]: the plan before
// the fire, the progress of the shutdown, and the result after it. A browser
// gets a page, which updates itself while it is open and is a plain snapshot
// without JavaScript; a client that accepts application/json gets that; all
// others, such as curl, get the text timeline.
//
// It shows internals: names, source lines, errors and stacks. Serve it on an
// admin address, and not to the public.
//
// The page sees most of a shutdown if its server is closed last: serve it with
// [quit.AfterDrain], as [Serve] says. An open page never holds up the shutdown
// of the server that shows it. But a browser may keep a spare connection, for
// which Serve waits no longer than [Linger], and an [http.Server] that is shut
// down otherwise up to five seconds; and a drain waits for what [Track] counts,
// so this handler is not to be wrapped in it.
func Status(q *quit.QuitEvent) http.Handler {
	return &status{
		q:       q,
		servers: make(map[weak.Pointer[http.Server]]*pageServer),
		latest:  noFrame(),
	}
}

// Times of the live page.
const (
	pingEvery  = 15 * time.Second // for proxies, and to notice clients that have vanished
	patience   = 10 * time.Second // with a client that does not read
	retryAfter = 2 * time.Second  // by a client that has lost its stream
)

// status is the handler, and what its streams have in common. One goroutine
// draws for all of them, when the report has changed, and only while there are
// any. They have no queues: each waits for a frame newer than the one it has
// sent, and takes the latest. So a slow client misses frames and costs nothing,
// and one that does not read at all is cut off.
//
// An http.Server that is being shut down waits for its streams, and does not
// cancel their contexts. So the first stream on a server registers a func with
// it, which has all streams on it send a last frame and end: at the last moment
// at which they can still show something, and not earlier, such as at the fire.
// Where the server is not known, or the writer cannot flush or has no
// deadlines, a stream is a single frame, and the client comes back for more.
type status struct {
	q *quit.QuitEvent

	mu      sync.Mutex // guards the fields below, and keeps writers of clients from being used once their handlers have returned
	servers map[weak.Pointer[http.Server]]*pageServer
	streams int
	latest  *frame
	taken   int64         // reports that were taken for frames
	stop    chan struct{} // closed when the last stream has left; a new one for the next
}

// pageServer is an http.Server on which there are or were streams. Both fields
// are guarded by status.mu.
type pageServer struct {
	closing chan struct{}                         // closed when the server is being shut down
	clients map[*http.ResponseController]struct{} // that are being written to
}

func (s *status) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Accept")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", assets().policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are allowed", http.StatusMethodNotAllowed)
		return
	}
	switch kind := accepted(r.Header.Values("Accept")); kind {
	case "text/event-stream":
		h.Set("Content-Type", kind)
		h.Set("X-Accel-Buffering", "no") // nginx would hold the events back
		if r.ProtoMajor == 1 {
			h.Set("Connection", "close") // or the stop would wait for another request
		}
		if r.Method == http.MethodGet {
			s.stream(w, r)
		}
	case "text/html":
		s.reply(w, r, kind+"; charset=utf-8", assets().page(take(s.q)))
	case "application/json":
		b, err := json.MarshalIndent(s.q.Report(), "", "  ")
		if err != nil { // which no report is
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.reply(w, r, kind, append(b, '\n'))
	default:
		s.reply(w, r, "text/plain; charset=utf-8", []byte(s.q.Report().String()))
	}
}

// accepted returns which of our types, other than the default, the client
// prefers: that with the highest weight, and of equals the first. A wildcard is
// for the default.
func accepted(accept []string) (kind string) {
	best := 0.0
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		t, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		weight := 1.0
		if q, ok := params["q"]; ok {
			weight, _ = strconv.ParseFloat(q, 64)
		}
		switch t {
		case "text/html", "application/json", "text/event-stream", "text/plain":
			if weight > best {
				kind, best = t, weight
			}
		}
	}
	return kind
}

func (s *status) reply(w http.ResponseWriter, r *http.Request, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		c := s.connect(w, r)
		defer c.leave()
		c.send(body)
	}
}

// stream sends frames until the report does not change anymore, the client is
// gone, or the server is being shut down.
func (s *status) stream(w http.ResponseWriter, r *http.Request) {
	c := s.connect(w, r)
	defer c.leave()
	if c.server == nil {
		f := newFrame(take(s.q))
		c.send(f.event, f.clock(), f.last)
		return
	}
	f := s.join()
	defer s.leave()
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	done := r.Context().Done()
	for f.last == nil {
		var parts [][]byte
		select {
		case <-f.newer:
		case <-c.server.closing:
		case <-ping.C:
			parts = append(parts, f.clock())
		case <-done:
			// The base context may be WorkContext, whose end is not that of the
			// client.
			if context.Cause(r.Context()) != context.Cause(s.q.WorkContext()) {
				return
			}
			done = nil
			continue
		}
		newest, closing := s.newest(c.server)
		if closing && newest.html == nil {
			newest = newFrame(take(s.q)) // none was drawn yet, and none will be
		}
		if newest != f {
			f = newest
			parts = append(parts, f.event, f.clock(), f.last) // it may be long since it was drawn
		}
		if closing {
			parts = append(parts, end("This page’s server is shutting down: it can tell no more than this."))
		}
		if c.send(parts...) != nil || closing {
			return
		}
	}
}

// join counts a stream and returns the frame that it begins after.
func (s *status) join() *frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams++
	if s.streams == 1 {
		s.latest = noFrame() // that of an earlier stream may be old
		s.stop = make(chan struct{})
		go s.draw(s.stop) // ends when the last stream has left, or nothing changes anymore
	}
	if s.latest.html == nil {
		return s.latest
	}
	before := noFrame()
	close(before.newer)
	return before
}

func (s *status) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams--; s.streams == 0 {
		close(s.stop)
	}
}

// newest returns the latest frame, and whether no other will come since v is
// being shut down.
func (s *status) newest(v *pageServer) (f *frame, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest, v.isClosing()
}

// draw draws for all streams until stop is closed or the shutdown has ended.
// Where many changes come, it uses a tenth of a core at most.
func (s *status) draw(stop <-chan struct{}) {
	for {
		start := time.Now()
		n := s.number()
		r := s.q.Report()
		f := newFrame(newShot(r))
		s.mu.Lock()
		s.publish(n, f)
		s.mu.Unlock()
		if f.last != nil {
			return
		}
		pause := 10 * time.Since(start)
		var outgrown <-chan time.Time
		if f.shot.span > 0 {
			outgrown = time.After(f.shot.span - f.shot.clock + time.Millisecond)
		}
		select {
		case <-stop:
			return
		case <-r.Changed():
		case <-outgrown:
		}
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
	}
}

// number returns the number of the report that is taken next: a frame never
// replaces one of a later report.
func (s *status) number() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
	return s.taken
}

// publish has the streams send the frame of report n, unless they have a newer
// one, or one that differs by its clock alone. mu is held.
func (s *status) publish(n int64, f *frame) {
	if n <= s.latest.number || bytes.Equal(f.still, s.latest.still) {
		return
	}
	f.number = n
	close(s.latest.newer)
	s.latest = f
}

// frame is a drawn report. It does not change.
type frame struct {
	shot   shot
	number int64         // of its report
	html   []byte        // nil: there is none yet
	still  []byte        // the html as if no time had passed, to tell whether anything else has changed
	event  []byte        // that shows the html
	last   []byte        // the event that ends the stream; nil if more is to come
	newer  chan struct{} // closed when there is a newer frame
}

func noFrame() *frame { return &frame{newer: make(chan struct{})} }

func newFrame(now shot) *frame {
	f := &frame{shot: now, html: now.html(now.clock), still: now.html(0), newer: make(chan struct{})}
	f.event = fmt.Appendf(nil, "retry: %d\nevent: report\n", retryAfter.Milliseconds())
	for line := range bytes.Lines(f.html) {
		f.event = fmt.Appendf(f.event, "data: %s\n", bytes.TrimSuffix(line, []byte("\n")))
	}
	f.event = append(f.event, '\n')
	if !now.Ended.IsZero() {
		f.last = end("The shutdown has ended: this is its result.")
	}
	return f
}

// clock returns the event that sets the client's clock, which runs from the
// fire.
func (f *frame) clock() []byte {
	if f.shot.Fired.IsZero() {
		return []byte("event: clock\ndata: 0\n\n")
	}
	return fmt.Appendf(nil, "event: clock\ndata: %d\n\n", time.Since(f.shot.Fired).Milliseconds())
}

// end returns the event upon which a client does not come back, with the
// reason.
func end(why string) []byte { return []byte("event: end\ndata: " + why + "\n\n") }

// client is one that is being answered.
type client struct {
	status *status
	server *pageServer // nil: not known
	w      http.ResponseWriter
	rc     *http.ResponseController
}

// connect notes that a request is being answered. It is left when the handler
// returns.
func (s *status) connect(w http.ResponseWriter, r *http.Request) *client {
	c := &client{status: s, w: w, rc: http.NewResponseController(w)}
	srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok || srv == nil {
		return c
	}
	s.mu.Lock()
	key := weak.Make(srv) // since a handler may outlive many servers
	v, known := s.servers[key]
	if !known {
		v = &pageServer{closing: make(chan struct{}), clients: make(map[*http.ResponseController]struct{})}
		s.servers[key] = v
	}
	c.server = v
	v.clients[c.rc] = struct{}{}
	s.mu.Unlock()
	if known {
		return c
	}
	// Once for each server, as what is registered cannot be taken out.
	srv.RegisterOnShutdown(func() { s.closing(v) })
	if ours, ok := r.Context().Value(connKey{}).(*conn); ok {
		context.AfterFunc(ours.stop.closing, func() { s.closing(v) }) // when its stop begins, or has begun
	} else if srv.BaseContext == nil && errors.Is(srv.Serve(noListener{}), http.ErrServerClosed) {
		// Shutdown was called before the func was registered. If it was not,
		// Serve asks the listener, which has nothing but an error for it. A
		// BaseContext would be called with a listener that is not the
		// program's.
		s.closing(v)
	}
	return c
}

// noListener is a listener that is closed.
type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return new(net.TCPAddr) }

// closing ends the streams on a server. They get a fresh frame, and not much
// time to send it in; those that are still sending another have that time for
// it.
func (s *status) closing(v *pageServer) {
	n := s.number()
	f := newFrame(take(s.q))
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.isClosing() {
		return
	}
	if s.streams > 0 {
		s.publish(n, f)
	}
	close(v.closing)
	for rc := range v.clients {
		rc.SetWriteDeadline(time.Now().Add(v.lastWords()))
	}
}

// lastWords is the patience with a client whose server is being shut down:
// short, but the more there are, the longer a busy machine takes to come to
// each.
func (v *pageServer) lastWords() time.Duration {
	return 500*time.Millisecond + time.Duration(len(v.clients))*2*time.Millisecond
}

func (v *pageServer) isClosing() bool {
	select {
	case <-v.closing:
		return true
	default:
		return false
	}
}

// send sends parts at once. A client that does not take them in some time is
// given up.
func (c *client) send(parts ...[]byte) error {
	c.deadline(patience)
	for _, b := range parts {
		if _, err := c.w.Write(b); err != nil {
			return err
		}
	}
	if err := c.rc.Flush(); err != nil {
		return err
	}
	return c.deadline(0) // HTTP/2 would reset a stream whose deadline passes between two frames
}

// deadline sets the time that writes have; 0: no limit. Once the server is
// being shut down, it is short.
func (c *client) deadline(d time.Duration) error {
	c.status.mu.Lock()
	defer c.status.mu.Unlock()
	if c.server != nil && c.server.isClosing() {
		d = c.server.lastWords()
	}
	if d == 0 {
		return c.rc.SetWriteDeadline(time.Time{})
	}
	return c.rc.SetWriteDeadline(time.Now().Add(d))
}

// leave leaves the server with no more to write than the end of the body, and
// with a deadline for that.
func (c *client) leave() {
	c.deadline(patience)
	if c.server != nil {
		c.status.mu.Lock()
		defer c.status.mu.Unlock()
		delete(c.server.clients, c.rc)
	}
}
