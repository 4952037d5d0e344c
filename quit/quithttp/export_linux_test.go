package quithttp

import (
	"net"
	"net/http"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// MaxHandshakes is maxHandshakes, for tests.
const MaxHandshakes = maxHandshakes

// Received is received, for tests.
func Received(conn net.Conn) (has bool, last time.Duration, known bool) { return received(conn) }

// Handshakes is handshakes, for tests.
func Handshakes(addr net.Addr) (int, error) { return handshakes(addr) }

// AcceptNow returns the error of acceptNow.
func AcceptNow(ln *net.TCPListener) error { _, err := acceptNow(ln); return err }

// ServeOwn acts like ListenAndServe with a listener that is already open.
func ServeOwn(q *quit.QuitEvent, srv *http.Server, ln net.Listener) {
	startServer(q, srv, newListener(ln, true), plain, nil)
}
