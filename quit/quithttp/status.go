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

// Status returns a handler that shows the report of q: the plan before the
// fire, the progress of the shutdown, and then its result. Browsers get a page
// that updates itself while it is open. Without JavaScript the page is a
// snapshot. Clients that accept application/json get the report as JSON. All
// others, such as curl, get the text of [quit.Report.String].
//
// The report shows names, source lines, errors and stacks. Serve it on an admin
// address, and not to the public.
//
// The page shows most of a shutdown if its server is closed last. Serve it with
// [quit.AfterDrain], as described for [Serve]. An open page never holds up the
// shutdown of its server. However, a browser may keep a spare connection. Serve
// waits for it no longer than [Linger], and an [http.Server] that is shut down
// in another way waits for up to five seconds. Do not wrap this handler in
// [Track], since the drain would then wait for open pages.
func Status(q *quit.QuitEvent) http.Handler {
	return &status{
		q:       q,
		servers: make(map[weak.Pointer[http.Server]]*pageServer),
		latest:  noFrame(),
	}
}

// Times of the live page.
const (
	pingEvery  = 15 * time.Second // for proxies, and to detect dead clients
	patience   = 10 * time.Second // with a client that does not read
	retryAfter = 2 * time.Second  // of a client that has lost its stream
	countEvery = time.Second      // while a step waits for requests or goroutines
)

// status is the handler and the state that its streams share. One goroutine
// draws for all streams, when the report has changed, and only while there are
// streams. Streams have no queues. Each waits for a frame newer than the one it
// has sent, and takes the latest. A slow client therefore misses frames and
// costs nothing, and a client that does not read at all is cut off.
//
// An http.Server that is being shut down waits for its streams and does not
// cancel their contexts. So the first stream on a server registers a function
// with it that makes all its streams send a last frame and end. That is the
// last moment at which a page can be updated. It comes after the fire. If the
// server is unknown, or the writer has no deadlines or cannot flush, a stream
// is a single frame, and the client connects again for the next.
type status struct {
	q *quit.QuitEvent

	// mu guards the fields below. It also keeps closing from using the writer
	// of a handler that has returned.
	mu      sync.Mutex
	servers map[weak.Pointer[http.Server]]*pageServer
	streams int
	latest  *frame
	taken   int64         // number of reports taken for frames
	stop    chan struct{} // closed when the last stream leaves; then replaced
}

// pageServer is an http.Server that has or had streams. Both fields are guarded
// by status.mu.
type pageServer struct {
	closing chan struct{}                         // closed when the server shuts down
	clients map[*http.ResponseController]struct{} // with a running handler
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
			h.Set("Connection", "close") // so that no other request is awaited
		}
		if r.Method == http.MethodGet {
			s.stream(w, r)
		}
	case "text/html":
		s.reply(w, r, kind+"; charset=utf-8", assets().page(take(s.q)))
	case "application/json":
		b, err := json.MarshalIndent(s.q.Report(), "", "  ")
		if err != nil { // never for a report
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.reply(w, r, kind, append(b, '\n'))
	default:
		s.reply(w, r, "text/plain; charset=utf-8", []byte(s.q.Report().String()))
	}
}

// accepted returns the media type that the client prefers: the one with the
// highest weight, or the first of several. It returns "" if the client names
// none of ours.
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

// stream sends frames until the shutdown has ended, the client is gone, or the
// server is being shut down.
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
			// The base context may be WorkContext, which ends before the client
			// is gone.
			if context.Cause(r.Context()) != context.Cause(s.q.WorkContext()) {
				return
			}
			done = nil
		}
		newest, closing := s.newest(c.server)
		if closing && newest.html == nil {
			newest = newFrame(take(s.q)) // none has been drawn
		}
		if newest != f {
			f = newest
			parts = append(parts, f.event, f.clock(), f.last) // the frame may be old
		}
		if closing {
			parts = append(parts, end(lastReport()))
		}
		if c.send(parts...) != nil || closing {
			return
		}
	}
}

// join counts a stream. The stream begins after the frame that join returns.
func (s *status) join() *frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams++
	if s.streams == 1 {
		s.latest = noFrame() // one of earlier streams may be old
		s.stop = make(chan struct{})
		go s.draw(s.stop) // ends when the last stream leaves, or the shutdown has ended
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

// newest returns the latest frame, and reports whether v is being shut down.
func (s *status) newest(v *pageServer) (f *frame, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest, v.isClosing()
}

// draw draws for all streams until stop is closed or the shutdown has ended. It
// uses at most a tenth of a core.
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
		var counted <-chan time.Time
		if f.shot.waits() {
			counted = time.After(countEvery)
		}
		select {
		case <-stop:
			return
		case <-r.Changed():
		case <-outgrown:
		case <-counted:
		}
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
	}
}

// number returns the number of the next report. A frame never replaces that of
// a later report.
func (s *status) number() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
	return s.taken
}

// publish makes f, of report n, the latest frame, unless the latest one is
// newer or differs only in its clock. mu is held.
func (s *status) publish(n int64, f *frame) {
	if n <= s.latest.number || bytes.Equal(f.still, s.latest.still) {
		return
	}
	f.number = n
	close(s.latest.newer)
	s.latest = f
}

// frame is a drawn report. It is immutable.
type frame struct {
	shot   shot
	number int64         // of its report
	html   []byte        // nil before the first drawing
	still  []byte        // the html at time 0, for comparison
	event  []byte        // sends the html
	last   []byte        // ends the stream; nil before the end of the shutdown
	newer  chan struct{} // closed when there is a newer frame
}

func noFrame() *frame { return &frame{newer: make(chan struct{})} }

func newFrame(now shot) *frame {
	f := &frame{shot: now, html: now.html(now.clock), still: now.html(0),
		newer: make(chan struct{})}
	f.event = fmt.Appendf(nil, "retry: %d\nevent: report\n", retryAfter.Milliseconds())
	for line := range bytes.Lines(f.html) {
		f.event = fmt.Appendf(f.event, "data: %s\n", bytes.TrimSuffix(line, []byte("\n")))
	}
	f.event = append(f.event, '\n')
	if !now.Ended.IsZero() {
		f.last = end("The shutdown has ended. This is the result.")
	}
	return f
}

// clock returns the event that sets the client's clock. It starts at the fire.
func (f *frame) clock() []byte {
	if f.shot.Fired.IsZero() {
		return []byte("event: clock\ndata: 0\n\n")
	}
	return fmt.Appendf(nil, "event: clock\ndata: %d\n\n", time.Since(f.shot.Fired).Milliseconds())
}

// end returns the event after which a client does not connect again, with the
// reason.
func end(why string) []byte { return []byte("event: end\ndata: " + why + "\n\n") }

// lastReport returns the reason for the end of a stream before the end of the
// shutdown.
func lastReport() string {
	at := timeOfDay(time.Now())
	return "The server of this page shut down at " + at + ". This is its last report."
}

// client is the client of a running handler.
type client struct {
	status *status
	server *pageServer // nil: unknown
	w      http.ResponseWriter
	rc     *http.ResponseController
}

// connect registers the client of a request. The handler calls its leave method
// before it returns.
func (s *status) connect(w http.ResponseWriter, r *http.Request) *client {
	c := &client{status: s, w: w, rc: http.NewResponseController(w)}
	srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok || srv == nil {
		return c
	}
	s.mu.Lock()
	key := weak.Make(srv) // a handler may outlive many servers
	v, known := s.servers[key]
	if !known {
		v = &pageServer{
			closing: make(chan struct{}),
			clients: make(map[*http.ResponseController]struct{}),
		}
		s.servers[key] = v
	}
	c.server = v
	v.clients[c.rc] = struct{}{}
	s.mu.Unlock()
	if known {
		return c
	}
	// Once for each server, since the function cannot be unregistered.
	srv.RegisterOnShutdown(func() { s.closing(v) })
	if ours, ok := r.Context().Value(connKey{}).(*conn); ok {
		// Called at the beginning of its shutdown, which may have passed.
		context.AfterFunc(ours.stop.closing, func() { s.closing(v) })
	} else if srv.BaseContext == nil && errors.Is(srv.Serve(noListener{}), http.ErrServerClosed) {
		// Shutdown was called before the function was registered. Otherwise
		// Serve returns the error of the listener. Serve would call a
		// BaseContext with this listener, which is not the program's.
		s.closing(v)
	}
	return c
}

// noListener is a listener that is closed.
type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return new(net.TCPAddr) }

// closing ends the streams on a server. They send a new frame, for which they
// have a short time. A stream that is still sending an older frame has the same
// time for that.
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

// lastWords is the time that a client has if its server is being shut down. It
// is short, but grows with the number of clients, since it takes longer to
// serve more of them.
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

// send sends and flushes parts. It fails if the client does not read them in
// time.
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
	return c.deadline(0) // HTTP/2 resets an idle stream at its deadline
}

// deadline limits the time of writes to d; 0 means no limit. While the server
// is being shut down, the limit is lastWords.
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

// leave unregisters the client. The server still writes the end of the body,
// and needs a deadline for that.
func (c *client) leave() {
	c.deadline(patience)
	if c.server != nil {
		c.status.mu.Lock()
		defer c.status.mu.Unlock()
		delete(c.server.clients, c.rc)
	}
}
