package quithttp

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// listener is the listener of a server that can be drained: from then on, it
// hands out the connections that the kernel has accepted, and then is closed.
//
// Closing a socket resets the connections in its queue, and those whose
// handshake is under way. So the order is: the kernel refuses new connections,
// where the socket is ours alone; the queue is emptied; it is closed. Only
// EAGAIN from the socket shows that the queue is empty: an Accept whose
// deadline has passed does not look at it.
//
// Accept is called by one goroutine, that of [http.Server.Serve]. Once it has
// returned [net.ErrClosed], the server knows all connections that it was ever
// given.
type listener struct {
	net.Listener
	own    bool         // opened by this package: nobody else has the socket
	socket socket       // nil: a listener of another kind, which can only be closed
	close  func() error // closes the Listener, once

	// draining is set once, by drain, which then wakes Accept: whoever wakes up
	// for that reason finds it set. What drain has written before is seen then.
	draining atomic.Bool
	until    time.Time // the end of the time for draining, zero: no limit; written before draining is set
	refusing bool      // so is this: no new connection can come

	lastAccept atomic.Int64 // Unix time in seconds; only a hint whether anybody is there
	kept       *os.File     // an accepted connection for which there was no descriptor yet; used by Accept alone
}

// socket is what is needed of a *net.TCPListener or *net.UnixListener.
type socket interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
}

// errNonePending is the error of acceptNow if no connection is pending.
var errNonePending = errors.New("none is pending")

const (
	// maxHandshakes is the longest wait for handshakes that are under way. The
	// kernel goes on with one that is lost for a minute.
	maxHandshakes = 500 * time.Millisecond

	// unsure is the wait where it cannot be known what is pending, if a
	// connection came not longer ago than recently.
	unsure   = 50 * time.Millisecond
	recently = 5 // seconds
)

func newListener(ln net.Listener, own bool) *listener {
	l := &listener{Listener: ln, own: own, close: sync.OnceValue(ln.Close)}
	switch ln := ln.(type) {
	case *net.TCPListener:
		l.socket = ln
	case *net.UnixListener:
		l.socket = ln
	}
	return l
}

func (l *listener) Close() error { return l.close() }

func (l *listener) Accept() (net.Conn, error) {
	if !l.draining.Load() {
		conn, err := l.Listener.Accept()
		if err == nil {
			l.lastAccept.Store(time.Now().Unix())
		}
		if err == nil || !l.draining.Load() {
			return conn, err
		}
	}
	conn, err := l.acceptPending()
	if err != nil && !isTemporary(err) {
		l.Close()
		err = net.ErrClosed
	}
	return conn, err
}

// drain has Accept hand out what is pending, at most until the given time, and
// then close the listener. It is called once, and does not block.
func (l *listener) drain(until time.Time) {
	l.until = until
	if parts.refuse && l.own && l.socket != nil {
		l.refusing = refuse(l.socket)
	}
	l.draining.Store(true)
	switch {
	case l.socket != nil && parts.drain:
		l.socket.SetDeadline(time.Unix(1, 0))
	case l.quiet() || !parts.drain:
		l.Close()
	default: // it is accepted from as ever
		time.AfterFunc(unsure, func() { l.Close() })
	}
}

// quiet reports whether no connection came in the last seconds.
func (l *listener) quiet() bool { return time.Now().Unix()-l.lastAccept.Load() > recently }

// acceptPending returns the next connection that is pending. It returns a
// temporary error if one cannot be accepted now, and another one if none is
// left.
func (l *listener) acceptPending() (net.Conn, error) {
	if l.socket == nil {
		return l.Listener.Accept()
	}
	start := time.Now()
	for {
		conn, err := l.take()
		if err == nil || isTemporary(err) && before(l.until) {
			return conn, err
		}
		wait := unsure
		if errors.Is(err, errNonePending) {
			if !l.refusing { // others may come at any time, so this is as good a moment as any
				return nil, err
			}
			if n, unknown := handshakes(l.Addr()); unknown == nil {
				if n == 0 {
					return l.take() // a handshake may have ended before the kernel was asked
				}
				wait = maxHandshakes
			}
		} else if !errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
		end := start.Add(wait)
		if wait == unsure && l.quiet() || !before(end) || !before(l.until) {
			return nil, err
		}
		l.socket.SetDeadline(end)
		conn, err = l.socket.Accept()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, err
		}
	}
}

// before reports whether t has not come yet; it never comes if it is zero.
func before(t time.Time) bool { return t.IsZero() || time.Now().Before(t) }

// take accepts without waiting: its error is errNonePending if that is so.
func (l *listener) take() (net.Conn, error) {
	if l.kept == nil {
		fd, err := acceptNow(l.socket)
		if err != nil {
			return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: err}
		}
		l.kept = os.NewFile(fd, "")
	}
	conn, err := net.FileConn(l.kept) // which is a duplicate
	if err == nil || !isTemporary(err) {
		l.kept.Close()
		l.kept = nil
	}
	return conn, err
}

// isTemporary reports whether net/http tries to accept again after err, a
// little later: there may be no descriptor left, until a request is answered.
func isTemporary(err error) bool {
	t, ok := err.(interface{ Temporary() bool })
	return ok && t.Temporary()
}
