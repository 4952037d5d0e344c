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

// A stop ends the connections of a server. No client loses a request that it
// has sent. [http.Server.Shutdown] closes an idle connection even if a request
// is on its way, and drops requests that it reads later. So it is called once
// the clients know that their connections end.
//
// After begin, each connection is told or waits:
//
//   - It is told if the answer to its request has "Connection: close", which
//     HTTP/2 sends as a GOAWAY. Nothing more is to be done.
//   - It waits if it is new or idle, or was busy at begin. It has until the end
//     of its time to send a request or to get its answer. After that, a
//     connection that is new or idle is ended. It then waits until it is closed
//     or has read a request after all. A connection that is busy is left to
//     Shutdown. So is a connection of HTTP/2: Shutdown tells its client. A
//     GOAWAY can cross a request, which is then lost. A GOAWAY that comes with
//     an answer crosses none if the client sends one request at a time.
//
// As long as any connection is used, no new or idle connection reaches the end
// of its time, since a pool may hand out one that has been idle for long.
//
// Invariant: waiting is the number of conns with waits set, and each of them
// has a timer.
//
// Before begin, serve notes the beginning of each request, without a lock, and
// net/http reports when the connection is idle. It is idle once the answer has
// been sent, which can be long after the handler has returned. After begin, all
// follows from the states that net/http reports.
type stop struct {
	closing context.Context // done once the server is being shut down
	close   context.CancelFunc

	linger      time.Duration
	readTimeout time.Duration // of the server
	epoch       time.Time     // connState.since is counted from it

	conns sync.Map // from net.Conn to *conn; those that are open and not hijacked

	// begun is set once. A state is stored before begun is loaded, and begun is
	// stored before the states are loaded. So either change sees begun, or
	// begin sees the state.
	begun atomic.Bool
	start time.Time // the time of begin; written before begun is set

	// open is the number of conns. A goroutine that makes it zero after over
	// was set finds over set.
	open atomic.Int64

	mu      sync.Mutex // guards the fields below, and those of conn that say so
	used    time.Time  // the time of the last request
	waiting int
	changed chan struct{} // receives when waiting becomes zero; has room for one
	over    func()        // called when no connection is left; set before Shutdown
}

// A conn is a connection. It is the parent of the contexts of its requests.
type conn struct {
	context.Context
	cancel context.CancelCauseFunc
	stop   *stop
	nc     net.Conn

	// These are written without a lock; see stop.begun. The state is written
	// by the goroutine that serves the connection, and by begin.
	state   atomic.Uint64 // a connState
	http1   atomic.Bool   // set by the first request
	http2   atomic.Bool   // set by the preface, which net/http reads, or the first request
	streams atomic.Int64  // requests of HTTP/2 in flight

	ending sync.Mutex // held while the connection is ended, and while it is resumed
	ended  bool       // guarded by ending: the read deadline has been set to the past

	// Guarded by stop.mu:
	told  bool // the answer to its request says that it is the last
	waits bool
	end   time.Time   // the end of its time
	timer *time.Timer // calls timeUp at end; nil if the connection does not wait
}

// A connState is the state of a connection and two times. They are in one word,
// because each atomic store costs a request 7 ns. From the lowest bit:
//
//   - state, 3 bits: an http.ConnState. Before begin, HTTP/2 is not active.
//   - period, 21 bits: the milliseconds between the last two times it became
//     idle, or maxPeriod if that is less.
//   - since, 40 bits: when it became new or idle, in milliseconds after the
//     epoch. They last for 34 years.
type connState uint64

const maxPeriod = 1<<21 - 1 // 34 minutes

// now returns the number of milliseconds since the epoch, rounded up.
func (s *stop) now() connState {
	return connState(time.Since(s.epoch)+time.Millisecond-1) / connState(time.Millisecond)
}

func newState(state http.ConnState, since, period connState) connState {
	return connState(state) | min(period, maxPeriod)<<3 | since<<24
}

func (s connState) state() http.ConnState { return http.ConnState(s & 7) }
func (s connState) period() connState     { return s >> 3 & maxPeriod }
func (s connState) since() connState      { return s >> 24 }

func (c *conn) current() connState { return connState(c.state.Load()) }

// since returns when c became new or idle.
func (c *conn) since() time.Time {
	return c.stop.epoch.Add(time.Duration(c.current().since()) * time.Millisecond)
}

type connKey struct{}

func (c *conn) Value(key any) any {
	if key == (connKey{}) {
		return c
	}
	return c.Context.Value(key)
}

func newStop(linger, readTimeout time.Duration) *stop {
	s := &stop{
		linger:      linger,
		readTimeout: readTimeout,
		epoch:       time.Now(),
		changed:     make(chan struct{}, 1),
	}
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// connect returns the context of a connection that was accepted. After that,
// net/http calls change with the connection.
func (s *stop) connect(ctx context.Context, nc net.Conn) context.Context {
	key := keyOf(nc)
	if key == nil {
		s.open.Add(1) // never taken back: without a key, its end goes unnoticed
		return ctx
	}
	c := &conn{stop: s, nc: nc}
	c.Context, c.cancel = context.WithCancelCause(ctx)
	c.state.Store(uint64(newState(http.StateNew, s.now(), 0)))
	s.open.Add(1)
	s.conns.Store(key, c)
	return c
}

// keyOf returns nc as the key of a map, or nil if it cannot be one. A program's
// own type may not be comparable.
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

// change notes the state that net/http reports for a connection. Before begin,
// it ignores the beginning of a request, which serve notes.
func (s *stop) change(nc net.Conn, state http.ConnState) {
	if state == http.StateActive && !s.begun.Load() {
		return
	}
	key := keyOf(nc)
	known, _ := s.conns.Load(key) // none for the key nil
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
		c.http2.Store(true) // HTTP/2 is idle before its first request
	}
	c.set(state)
	if left && s.open.Add(-1) == 0 || s.begun.Load() {
		s.look(c)
	}
}

// set notes the state of a connection, and the time at which it became idle.
func (c *conn) set(state http.ConnState) {
	last := c.current()
	since, period := last.since(), last.period()
	if state == http.StateIdle {
		since = c.stop.now()
		period = since - last.since()
	}
	c.state.Store(uint64(newState(state, since, period)))
}

// serve answers a request with h.
func (s *stop) serve(h http.Handler, w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	switch {
	case c == nil: // the connection cannot be the key of a map
	case r.ProtoMajor >= 2:
		c.http2.Store(true)
		c.streams.Add(1)
		defer c.streams.Add(-1)
	default:
		if !c.http1.Load() {
			c.http1.Store(true)
			// It was idle after a request that net/http had answered itself.
			c.http2.Store(false)
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
	if c.current().state() == http.StateHijacked {
		c.cancel(nil) // otherwise its parent would keep the context until the server ends
	}
}

// begin makes each connection wait.
func (s *stop) begin() {
	s.mu.Lock()
	s.start = time.Now()
	s.all(func(c *conn) {
		// serve does not set the state of HTTP/2.
		if last := c.current(); c.streams.Load() > 0 {
			active := newState(http.StateActive, last.since(), last.period())
			c.state.CompareAndSwap(uint64(last), uint64(active)) // unless it has just changed
		}
		switch c.current().state() {
		case http.StateActive:
			s.used = s.start
		case http.StateIdle:
			s.used = later(s.used, c.since())
		}
	})
	s.mu.Unlock()
	s.begun.Store(true)
	s.all(s.look)
}

// look sets whether c waits, according to its state.
func (s *stop) look(c *conn) {
	if c.current().state() == http.StateActive {
		s.resume(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// If several goroutines look at c, the last one sees its latest state.
	waits := s.over == nil
	switch c.current().state() {
	case http.StateNew:
		c.end = c.since().Add(s.linger)
	case http.StateIdle:
		c.end = c.since().Add(s.patience(c))
		if c.http2.Load() {
			waits = waits && !c.told
		} else {
			c.told = false
		}
	case http.StateActive:
		// It waits even if its time was over: net/http drops a request if
		// Shutdown is called before the handler.
		waits, c.end = waits && !c.told, time.Now().Add(s.linger)
	default:
		waits = false
	}
	s.wait(c, waits)
	if s.over != nil && s.open.Load() == 0 {
		s.over()
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// patience returns the time for which an idle connection waits. A client that
// uses the connection now and then has longer.
func (s *stop) patience(c *conn) time.Duration {
	return min(max(3*time.Duration(c.current().period())*time.Millisecond, s.linger), 4*s.linger)
}

// wait sets whether c waits, until c.end. mu is held.
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

// inUseUntil returns the time until which any client may be about to send a
// request, because some clients have sent one recently. mu is held.
func (s *stop) inUseUntil() time.Time {
	until, most := s.used.Add(s.linger), s.start.Add(4*s.linger)
	if until.After(most) {
		return most
	}
	return until
}

// timeUp is called at the end of the time of a connection that waits.
func (s *stop) timeUp(c *conn) {
	state := c.current().state()
	busy := state == http.StateActive
	// A request that has arrived is read next. A client that has begun a
	// handshake or sent a part of a request may need longer.
	since := c.since()
	late := !busy && unread(c.nc)
	if time.Since(later(since, s.start)) < 4*s.linger {
		late = late || state == http.StateNew && hasBegun(c.nc) ||
			state == http.StateIdle && hasGoneOn(c.nc, since)
	}
	s.mu.Lock()
	now := time.Now()
	if !c.waits || now.Before(c.end) { // the timer was stopped too late
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
// the kernel does not tell, it assumes so for a connection with a handshake.
func hasBegun(nc net.Conn) bool {
	has, _, known := received(nc)
	_, encrypted := nc.(*tls.Conn)
	return has || !known && encrypted
}

// hasGoneOn reports whether the client of a connection that has been idle since
// that time is known to have sent something. That is the beginning of a
// request, which net/http has read.
func hasGoneOn(nc net.Conn, since time.Time) bool {
	const exact = 20 * time.Millisecond // the kernel counts in ticks of at most 10 ms
	_, last, known := received(nc)
	return known && time.Since(since) > last+exact
}

// end ends a connection that is new or idle. It sets a read deadline in the
// past, so net/http gives the connection up unless a request has just been
// read. The connection waits until net/http reports one or the other. If it has
// not ended when end is called again, it is closed, since net/http may have set
// another deadline, or the connection may not have deadlines.
func (s *stop) end(c *conn) {
	c.ending.Lock()
	defer c.ending.Unlock()
	switch c.current().state() {
	case http.StateNew, http.StateIdle:
		if c.ended || c.nc.SetReadDeadline(time.Unix(1, 0)) != nil {
			c.nc.Close()
		}
		c.ended = true
	}
}

// resume undoes end for a connection that has just read a request.
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

// settle waits until no connection waits. If ctx is done before that, it ends
// those that are still new or idle.
func (s *stop) settle(ctx context.Context) {
	for s.waits() {
		select {
		case <-s.changed:
		case <-ctx.Done():
			s.endAll()
			// A second time, since net/http may have set another deadline.
			time.AfterFunc(unsure, s.endAll)
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

// whenOver makes s call over once no connection is left. From then on none
// waits.
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

// requests returns the number of requests in flight.
func (s *stop) requests() (n int) {
	s.all(func(c *conn) {
		switch {
		case c.http2.Load():
			n += int(c.streams.Load())
		case c.current().state() == http.StateActive:
			n++
		}
	})
	return n
}

// tell makes the answer to a request say that the connection ends. The answer
// to an upgrade does not say so: the connection is then hijacked, or has
// another request.
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
// then has a Connection header of its own, to which nothing may be added.
func isUpgrade(r *http.Request) bool { return r.ProtoMajor < 2 && r.Header["Upgrade"] != nil }

// parts are the parts of a stop. A test switches each of them off to measure
// its effect.
var parts = struct{ refuse, drain, header bool }{true, true, true}
