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

// A listener is the listener of a server. When it is drained, it hands out the
// connections that the kernel has accepted. The server then closes it.
//
// Closing a socket resets the connections in its queue and those in a
// handshake. So, if no other process has the socket, the kernel is first told
// to refuse new connections. Then the queue is emptied, and then the socket is
// closed. Only EAGAIN from the socket shows that the queue is empty: an Accept
// whose deadline has passed does not look at the queue.
//
// Accept is called by one goroutine, that of [http.Server.Serve]. When Accept
// fails for good, Serve closes the listener and returns. By then the server
// knows all connections that it was ever given.
type listener struct {
	net.Listener
	own    bool         // opened by this package: nobody else has the socket
	socket socket       // nil for a listener of another kind, which can only be closed
	close  func() error // closes the Listener, once

	// draining is set once, by drain, which then wakes Accept. An Accept that
	// wakes up for that reason finds it set. It also sees until and refusing,
	// which drain writes before it sets draining.
	draining atomic.Bool
	until    time.Time // the end of the time for draining; zero means no limit
	refusing bool      // no new connection can come

	lastAccept atomic.Int64 // Unix time in seconds; a hint that there are clients

	// kept is an accepted connection for which no second descriptor was left.
	// Only Accept uses it.
	kept *os.File
}

// A socket is a *net.TCPListener or a *net.UnixListener.
type socket interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
}

// errNonePending is the error of acceptNow when no connection is pending.
var errNonePending = errors.New("none is pending")

const (
	// maxHandshakes is the longest wait for handshakes. For a minute, the
	// kernel keeps a handshake whose client is gone.
	maxHandshakes = 500 * time.Millisecond

	// unsure is the wait for connections if it is unknown whether any are
	// pending. There is no such wait if no connection has come recently.
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
	return l.acceptPending()
}

// drain makes Accept hand out the pending connections, at most until the given
// time, and then fail. It is called once and does not block.
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
	default: // connections are accepted as before
		time.AfterFunc(unsure, func() { l.Close() })
	}
}

// quiet reports whether no connection has come recently.
func (l *listener) quiet() bool { return time.Now().Unix()-l.lastAccept.Load() > recently }

// acceptPending returns the next pending connection. Its error is temporary if
// a connection is pending that cannot be accepted now. Any other error ends the
// draining.
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
			if !l.refusing { // another could come at any time, so a wait would not end
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

// before reports whether the current time is before t. The zero t never comes.
func before(t time.Time) bool { return t.IsZero() || time.Now().Before(t) }

// take accepts a connection without waiting. Its error is errNonePending if
// none is pending.
func (l *listener) take() (net.Conn, error) {
	if l.kept == nil {
		fd, err := acceptNow(l.socket)
		if err != nil {
			return nil, &net.OpError{
				Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: err,
			}
		}
		l.kept = os.NewFile(fd, "")
	}
	conn, err := net.FileConn(l.kept) // duplicates the descriptor
	if err == nil || !isTemporary(err) {
		l.kept.Close()
		l.kept = nil
	}
	return conn, err
}

// isTemporary reports whether net/http calls Accept again after err, a little
// later. The process may have no descriptor left until a request is answered.
func isTemporary(err error) bool {
	t, ok := err.(interface{ Temporary() bool })
	return ok && t.Temporary()
}
