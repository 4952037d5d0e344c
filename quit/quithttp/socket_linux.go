package quithttp

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// refuse makes the kernel refuse new connections to the socket, in every
// process that has it. Connections that are pending or in a handshake are kept.
//
// A TCP socket is bound to the index of an interface that does not exist, so
// that no packet finds it. Since Linux 5.7 this needs no privileges, unless the
// socket is bound to a device. Other ways drop the packet, or reset the pending
// connections.
func refuse(ln socket) (refused bool) {
	// The number is the same on all of Go's architectures: see
	// include/uapi/asm-generic/socket.h.
	const soBindToIfindex = 62
	control(ln, func(fd int) {
		var err error
		if _, ok := ln.(*net.UnixListener); ok {
			err = syscall.Shutdown(fd, syscall.SHUT_RD)
		} else {
			err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soBindToIfindex, 1<<31-1)
		}
		refused = err == nil
	})
	return refused
}

// acceptNow accepts a connection, or returns errNonePending.
func acceptNow(ln socket) (accepted uintptr, err error) {
	closed := control(ln, func(fd int) {
		for {
			var n int
			n, _, err = syscall.Accept4(fd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
			switch err {
			case syscall.EINTR, syscall.ECONNABORTED:
				continue
			case syscall.EAGAIN:
				err = errNonePending
			default:
				accepted, err = uintptr(n), os.NewSyscallError("accept4", err)
			}
			return
		}
	})
	if closed != nil {
		err = closed
	}
	return accepted, err
}

// unread reports whether the kernel has bytes from the client that have not
// been read yet.
func unread(conn net.Conn) (has bool) {
	onSocket(conn, func(fd int) {
		n, _, err := syscall.Recvfrom(fd, make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		has = err == nil && n > 0
	})
	return has
}

// received reports whether the client has ever sent anything, and how long ago
// it last did. known is false if the kernel does not say; for TCP it does.
func received(conn net.Conn) (has bool, last time.Duration, known bool) {
	onSocket(conn, func(fd int) {
		var info struct {
			_             [52]byte // struct tcp_info, up to tcpi_last_data_recv
			lastReceived  uint32   // milliseconds ago
			_             [72]byte // up to tcpi_bytes_received
			bytesReceived uint64
		}
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := syscall.Syscall6(sysGetsockopt, uintptr(fd),
			syscall.IPPROTO_TCP, syscall.TCP_INFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		known = errno == 0 && size == uint32(unsafe.Sizeof(info))
		has, last = info.bytesReceived > 0, time.Duration(info.lastReceived)*time.Millisecond
	})
	return has, last, known
}

// onSocket calls f with the descriptor of conn, if conn has one.
func onSocket(conn net.Conn, f func(fd int)) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if c, ok := conn.(syscall.Conn); ok {
		control(c, f)
	}
}

func control(c syscall.Conn, f func(fd int)) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// handshakes returns the number of TCP handshakes under way with the port of
// addr. It asks the kernel with sock_diag(7).
func handshakes(addr net.Addr) (n int, err error) {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return 0, nil // a Unix socket has no handshake
	}
	fd, err := syscall.Socket(syscall.AF_NETLINK,
		syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_INET_DIAG)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	// The kernel answers at once. If it did not, the time for handshakes would
	// be over anyway.
	timeout := syscall.NsecToTimeval(maxHandshakes.Nanoseconds())
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET,
		syscall.SO_RCVTIMEO, &timeout); err != nil {
		return 0, err
	}
	families := []byte{syscall.AF_INET, syscall.AF_INET6}
	if tcp.IP.To4() != nil {
		families = families[:1]
	}
	for _, family := range families {
		more, err := dumpHandshakes(fd, family, uint16(tcp.Port))
		if err != nil {
			return 0, err
		}
		n += more
	}
	return n, nil
}

// A diagRequest is a struct nlmsghdr and a struct inet_diag_req_v2.
type diagRequest struct {
	syscall.NlMsghdr
	family, protocol, ext, pad byte
	states                     uint32
	localPort                  [2]byte // big endian
	rest                       [46]byte
}

// dumpHandshakes returns the number of handshakes of one family.
func dumpHandshakes(fd int, family byte, port uint16) (n int, err error) {
	const (
		sockDiagByFamily = 20
		// TCP_SYN_RECV and TCP_NEW_SYN_RECV, the kernel's own state.
		synReceived = 1<<3 | 1<<12
	)
	r := diagRequest{family: family, protocol: syscall.IPPROTO_TCP, states: synReceived}
	r.NlMsghdr = syscall.NlMsghdr{
		Len:   uint32(unsafe.Sizeof(r)),
		Type:  sockDiagByFamily,
		Flags: syscall.NLM_F_REQUEST | syscall.NLM_F_DUMP,
	}
	binary.BigEndian.PutUint16(r.localPort[:], port)
	request := unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r))
	if err := syscall.Sendto(fd, request, 0,
		&syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return 0, err
	}
	for buf := make([]byte, 32<<10); ; {
		size, _, err := syscall.Recvfrom(fd, buf, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:size])
		if err != nil {
			return 0, err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case sockDiagByFamily:
				n++
			case syscall.NLMSG_DONE:
				return n, nil
			case syscall.NLMSG_ERROR:
				return 0, syscall.EOPNOTSUPP
			}
		}
	}
}
