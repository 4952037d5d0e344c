package quithttp

import (
	"net"
	"time"
)

// Received is received, for tests.
func Received(conn net.Conn) (has bool, last time.Duration, known bool) { return received(conn) }
