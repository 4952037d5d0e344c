//go:build !linux

package quithttp

import (
	"errors"
	"net"
	"time"
)

// Other systems have no way to refuse connections or to report pending ones.

func refuse(socket) bool                { return false }
func acceptNow(socket) (uintptr, error) { return 0, errors.ErrUnsupported }
func handshakes(net.Addr) (int, error)  { return 0, errors.ErrUnsupported }

func received(net.Conn) (has bool, last time.Duration, known bool) { return false, 0, false }

func unread(net.Conn) bool { return false }
