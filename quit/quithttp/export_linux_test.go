package quithttp

import (
	"net"
	"time"
)

// Received tells what the kernel knows of a connection: see received.
func Received(conn net.Conn) (has bool, last time.Duration, known bool) { return received(conn) }
