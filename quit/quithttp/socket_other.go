//go:build !linux

package quithttp

import (
	"errors"
	"net"
	"time"
)

// Other systems cannot be told to refuse connections, and do not tell whether
// any are pending.

func refuse(socket) bool                { return false }
func acceptNow(socket) (uintptr, error) { return 0, errors.ErrUnsupported }
func handshakes(net.Addr) (int, error)  { return 0, errors.ErrUnsupported }

func received(net.Conn) (has bool, last time.Duration, known bool) { return false, 0, false }

func unread(net.Conn) bool { return false }
