package quithttp

import (
	"context"
	"net"
	"net/http"

	"github.com/gracefulgo/graceful/quit"
)

// Fragment returns the part of the page that shows a report.
func Fragment(r quit.Report) string {
	s := newShot(r)
	return string(s.html(s.clock))
}

// WithoutPart switches off a part of every stop in this process.
func WithoutPart(name string) {
	switch name {
	case "refuse":
		parts.refuse = false
	case "drain":
		parts.drain = false
	case "header":
		parts.header = false
	default:
		panic("no part of the stop: " + name)
	}
}

// Tracked returns a func that does everything that quithttp does for a request
// on a connection, with h as the program's handler. It also returns the context
// of the connection.
func Tracked(h http.Handler) (serve func(http.ResponseWriter, *http.Request), ctx context.Context) {
	s := newStop(defaultLinger, 0)
	conn := new(net.TCPConn)
	ctx = s.connect(context.Background(), conn)
	return func(w http.ResponseWriter, r *http.Request) {
		s.change(conn, http.StateActive)
		s.serve(h, w, r)
		s.change(conn, http.StateIdle)
	}, ctx
}

// InFlight returns the number of requests in flight while a request of that
// major version of HTTP on conn is being answered, and after that.
func InFlight(conn net.Conn, major int) (during, after int) {
	s := newStop(defaultLinger, 0)
	r := (&http.Request{ProtoMajor: major}).WithContext(s.connect(context.Background(), conn))
	s.change(conn, http.StateActive)
	s.serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		during = s.requests()
	}), nil, r)
	s.change(conn, http.StateIdle)
	return during, s.requests()
}
