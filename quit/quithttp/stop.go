package quithttp

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// stop ends the connections of a server such that no client loses what it has
// sent. [http.Server.Shutdown] closes those that are idle while a request may
// be on its way, and drops requests that it reads afterwards. So it is called
// once the clients know that their connections end.
//
// Once the stop has begun, each connection is in one of these states:
//
//   - told: the answer to its request has "Connection: close", for which HTTP/2
//     sends a GOAWAY. It needs nothing more.
//   - waiting: it is new or idle, or was busy when the stop began. It has
//     until its time is over to send a request, or to get its answer. Then, if
//     it is new or idle, it is ended, and waits until it is closed or has a
//     request after all. Or else, and if it is HTTP/2, whose clients Shutdown
//     tells, it is left to Shutdown. A GOAWAY loses requests that it crosses:
//     with an answer it meets none, if the client has one at a time.
//
// As long as some connection is used, the time of none is over that is new or
// idle: a pool hands out those too that were idle for long.
//
// The invariant is that waiting is the number of conns with waits set, and that
// each of them has a timer.
//
// Before the stop, the handler of each request notes when it begins, without a
// lock, and net/http tells when the connection is idle: when the answer has
// been sent, which can be long after the handler has returned. During the stop,
// all follows from the states that net/http reports.
type stop struct {
	closing context.Context // done when the stop begins
	close   context.CancelFunc

	linger      time.Duration
	readTimeout time.Duration // of the server
	epoch       time.Time     // what times are counted from

	conns sync.Map // from net.Conn to *conn: all that are open and not hijacked

	// begun is set once. A change of state is stored before begun is loaded,
	// and begun is stored before the states are looked at: so either the one
	// that changes a state sees begun, or begin sees the state.
	begun atomic.Bool
	start time.Time // of the stop; written before begun is set

	open atomic.Int64 // the number of conns; who brings it to zero after over was set finds over set

	mu      sync.Mutex // guards the fields below, and those of conn that say so
	used    time.Time  // when a request came last
	waiting int
	changed chan struct{} // has room for one: waiting became zero
	over    func()        // called when no connection is left; set when Shutdown is called
}

// conn is a connection, and the parent of the contexts of its requests.
type conn struct {
	context.Context
	cancel context.CancelCauseFunc
	stop   *stop
	nc     net.Conn

	// Atomic since they are noted without a lock: see stop.begun. since and
	// period are written before state, by the goroutine that serves the
	// connection.
	state   atomic.Int32 // an http.ConnState; before the stop, HTTP/2 is not active
	since   atomic.Int64 // when it became new or idle, counted from the epoch
	period  atomic.Int64 // how often it has become idle lately
	http1   atomic.Bool  // set by the first request
	http2   atomic.Bool  // set when net/http has read the preface, or by the first request
	streams atomic.Int64 // requests of HTTP/2 that are being answered

	ending sync.Mutex // keeps the end of the connection and its turn to a request apart
	ended  bool       // guarded by ending: its read deadline has passed

	// Guarded by stop.mu:
	told  bool // the answer to its request says that it is the last
	waits bool
	end   time.Time   // of its wait
	timer *time.Timer // calls timeUp then; nil if it does not wait
}

type connKey struct{}

func (c *conn) Value(key any) any {
	if key == (connKey{}) {
		return c
	}
	return c.Context.Value(key)
}

func newStop(linger, readTimeout time.Duration) *stop {
	s := &stop{linger: linger, readTimeout: readTimeout, epoch: time.Now(), changed: make(chan struct{}, 1)}
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// connect returns the context of a connection that was accepted. net/http tells
// change of it next.
func (s *stop) connect(ctx context.Context, nc net.Conn) context.Context {
	key := keyOf(nc)
	if key == nil {
		s.open.Add(1) // for good: who knows when it is closed
		return ctx
	}
	c := &conn{stop: s, nc: nc}
	c.Context, c.cancel = context.WithCancelCause(ctx)
	c.state.Store(int32(http.StateNew))
	c.since.Store(int64(time.Since(s.epoch)))
	s.open.Add(1)
	s.conns.Store(key, c)
	return c
}

// keyOf returns nc as the key of a map, or nil: a program's own type may not be
// comparable.
func keyOf(nc net.Conn) any {
	switch nc.(type) {
	case *net.TCPConn, *tls.Conn, *net.UnixConn:
		return nc
	}
	if reflect.ValueOf(nc).Comparable() {
		return nc
	}
	return nil
}

// change notes the state that net/http reports of a connection. Before the
// stop, that of a request is left to serve.
func (s *stop) change(nc net.Conn, state http.ConnState) {
	if state == http.StateActive && !s.begun.Load() {
		return
	}
	key := keyOf(nc)
	if key == nil {
		return
	}
	known, _ := s.conns.Load(key)
	c, _ := known.(*conn)
	if c == nil {
		return
	}
	left := state == http.StateHijacked || state == http.StateClosed
	if left {
		s.conns.Delete(key)
	}
	switch {
	case state == http.StateClosed:
		c.cancel(nil)
	case state == http.StateIdle && !c.http1.Load():
		c.http2.Store(true) // idle before any request
	}
	c.set(state)
	if left && s.open.Add(-1) == 0 || s.begun.Load() {
		s.look(c)
	}
}

// set notes the state of a connection, and when it became idle.
func (c *conn) set(state http.ConnState) {
	if state == http.StateIdle {
		now := int64(time.Since(c.stop.epoch))
		if http.ConnState(c.state.Load()) != http.StateIdle {
			c.period.Store(now - c.since.Load())
		}
		c.since.Store(now)
	}
	c.state.Store(int32(state))
}

// serve has h answer a request.
func (s *stop) serve(h http.Handler, w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	switch {
	case c == nil: // of a type that is not comparable
	case r.ProtoMajor >= 2:
		c.http2.Store(true)
		c.streams.Add(1)
		defer c.streams.Add(-1)
	default:
		if !c.http1.Load() {
			c.http1.Store(true)
			c.http2.Store(false) // it was idle after a request that net/http has answered itself
		}
		c.set(http.StateActive)
		defer c.returned()
	}
	if s.begun.Load() {
		s.tell(c, w, r)
	}
	h.ServeHTTP(w, r)
}

// returned notes that the handler of a request has returned.
func (c *conn) returned() {
	if http.ConnState(c.state.Load()) == http.StateHijacked {
		c.cancel(nil) // for the context must not be kept until the server ends
	}
}

// begin begins the stop.
func (s *stop) begin() {
	s.mu.Lock()
	s.start = time.Now()
	s.all(func(c *conn) {
		if c.streams.Load() > 0 { // of which serve has not told
			c.state.Store(int32(http.StateActive))
		}
		switch http.ConnState(c.state.Load()) {
		case http.StateActive:
			s.used = s.start
		case http.StateIdle:
			s.used = later(s.used, s.at(c.since.Load()))
		}
	})
	s.mu.Unlock()
	s.begun.Store(true)
	s.all(s.look)
}

// look brings what is known of c in line with its state.
func (s *stop) look(c *conn) {
	if http.ConnState(c.state.Load()) == http.StateActive {
		s.resume(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Of several goroutines that look at c, the last one sees its latest state.
	waits := s.over == nil
	switch http.ConnState(c.state.Load()) {
	case http.StateNew:
		c.end = s.at(c.since.Load()).Add(s.linger)
	case http.StateIdle:
		c.end = s.at(c.since.Load()).Add(s.patience(c))
		if c.http2.Load() {
			waits = waits && !c.told
		} else {
			c.told = false
		}
	case http.StateActive:
		// Even if its time was over: net/http drops a request if Shutdown is
		// called before the handler is.
		waits, c.end = waits && !c.told, time.Now().Add(s.linger)
	default:
		waits = false
	}
	s.wait(c, waits)
	if s.over != nil && s.open.Load() == 0 {
		s.over()
	}
}

// at returns the time that was counted from the epoch.
func (s *stop) at(since int64) time.Time { return s.epoch.Add(time.Duration(since)) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// patience returns for how long an idle connection may keep the stop waiting. A
// client that uses it again and again has longer, by its own measure.
func (s *stop) patience(c *conn) time.Duration {
	return min(max(3*time.Duration(c.period.Load()), s.linger), 4*s.linger)
}

// wait has c wait, or not. mu is held.
func (s *stop) wait(c *conn, waits bool) {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if waits {
		c.timer = time.AfterFunc(time.Until(c.end), func() { s.timeUp(c) })
	}
	switch {
	case waits && !c.waits:
		s.waiting++
	case !waits && c.waits:
		if s.waiting--; s.waiting == 0 {
			select {
			case s.changed <- struct{}{}:
			default:
			}
		}
	}
	c.waits = waits
}

// inUseUntil returns until when any client may be about to send a request, as
// some have lately. mu is held.
func (s *stop) inUseUntil() time.Time {
	until, most := s.used.Add(s.linger), s.start.Add(4*s.linger)
	if until.After(most) {
		return most
	}
	return until
}

// timeUp is called when the time of a connection that waits is over.
func (s *stop) timeUp(c *conn) {
	state := http.ConnState(c.state.Load())
	busy := state == http.StateActive
	// A request that is here is read next. A client that has begun, with a
	// handshake or half a request, may need longer.
	since := s.at(c.since.Load())
	late := !busy && unread(c.nc)
	if time.Since(later(since, s.start)) < 4*s.linger {
		late = late || state == http.StateNew && hasBegun(c.nc) || state == http.StateIdle && hasGoneOn(c.nc, since)
	}
	s.mu.Lock()
	now := time.Now()
	if !c.waits || now.Before(c.end) { // a timer that was stopped too late
		s.mu.Unlock()
		return
	}
	c.end = now.Add(s.linger)
	if inUse := s.inUseUntil(); now.Before(inUse) {
		c.end, late = inUse, true
	}
	h2 := c.http2.Load()
	s.wait(c, !busy && (late || !h2))
	s.mu.Unlock()
	if !busy && !late && !h2 {
		s.end(c)
	}
}

// hasBegun reports whether the client of a new connection has sent anything. If
// nobody can tell, it has begun its handshake if there is to be one.
func hasBegun(nc net.Conn) bool {
	has, _, known := received(nc)
	_, encrypted := nc.(*tls.Conn)
	return has || !known && encrypted
}

// hasGoneOn reports whether the client of a connection that is idle since then
// is known to have sent something: the begin of a request, which net/http has
// read.
func hasGoneOn(nc net.Conn, since time.Time) bool {
	const exact = 20 * time.Millisecond // the kernel counts in ticks, of 10 ms at most
	_, last, known := received(nc)
	return known && time.Since(since) > last+exact
}

// end ends a connection that is new or idle: whoever reads from it gives it up,
// unless a request has just been read. Until net/http has told which it is, the
// connection waits. If it has not ended when end is called again, it is closed:
// net/http may have set another deadline, or the connection may have none.
func (s *stop) end(c *conn) {
	c.ending.Lock()
	defer c.ending.Unlock()
	switch http.ConnState(c.state.Load()) {
	case http.StateNew, http.StateIdle:
		if c.ended || c.nc.SetReadDeadline(time.Unix(1, 0)) != nil {
			c.nc.Close()
		}
		c.ended = true
	}
}

// resume takes the end of a connection back that has just read a request.
func (s *stop) resume(c *conn) {
	c.ending.Lock()
	defer c.ending.Unlock()
	if c.ended {
		c.ended = false
		deadline := time.Time{}
		if s.readTimeout > 0 {
			deadline = time.Now().Add(s.readTimeout)
		}
		c.nc.SetReadDeadline(deadline)
	}
}

// settle waits until no connection waits, or ctx is done. Then those that are
// still new or idle are ended.
func (s *stop) settle(ctx context.Context) {
	for s.waits() {
		select {
		case <-s.changed:
		case <-ctx.Done():
			s.endAll()
			time.AfterFunc(unsure, s.endAll) // those on which net/http has set another deadline
			return
		}
	}
}

func (s *stop) endAll() {
	s.all(func(c *conn) {
		if !c.http2.Load() {
			s.end(c)
		}
	})
}

func (s *stop) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting > 0
}

// whenOver has over called once no connection is left. From then on none waits.
func (s *stop) whenOver(over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = over
	if s.open.Load() == 0 {
		over()
	}
}

func (s *stop) all(f func(*conn)) {
	s.conns.Range(func(_, c any) bool {
		f(c.(*conn))
		return true
	})
}

// requests returns how many requests are being answered.
func (s *stop) requests() (n int) {
	s.all(func(c *conn) {
		switch {
		case c.http2.Load():
			n += int(c.streams.Load())
		case http.ConnState(c.state.Load()) == http.StateActive:
			n++
		}
	})
	return n
}

// tell has the answer to a request tell the client that the connection ends. An
// upgrade is not told: it ends by being another protocol's, or goes on to the
// next request.
func (s *stop) tell(c *conn, w http.ResponseWriter, r *http.Request) {
	if isUpgrade(r) || !parts.header {
		return
	}
	w.Header().Set("Connection", "close")
	if c != nil {
		s.mu.Lock()
		c.told = true
		s.used = time.Now()
		s.mu.Unlock()
		s.look(c)
	}
}

// isUpgrade reports whether the client asks for another protocol. The answer
// has its own Connection header then, to which nothing may be added.
func isUpgrade(r *http.Request) bool { return r.ProtoMajor < 2 && r.Header["Upgrade"] != nil }

// parts are the parts of a stop. A test switches some off, to see what each is
// good for.
var parts = struct{ refuse, drain, header bool }{true, true, true}
