//go:build unix

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// socket is a listener with its name, http, https or unix, which decides how it
// is served.
type socket struct {
	net.Listener
	name string
}

func (s socket) String() string { return fmt.Sprintf("%s://%v", s.name, s.Addr()) }

// listenEnv returns the variables for a process that gets files of these names.
func listenEnv(names []string) []string {
	return []string{
		"LISTEN_FDS=" + strconv.Itoa(len(names)),
		"LISTEN_FDNAMES=" + strings.Join(names, ":"),
	}
}

// inherit returns the sockets that systemd or the predecessor has opened.
// LISTEN_FDS is their number, and LISTEN_FDNAMES has their names. They begin at
// file descriptor 3. The one named predecessor is the connection to the
// predecessor.
//
// LISTEN_PID is the pid of the process that they are meant for. It is checked
// only if it is set. systemd sets it. A predecessor cannot set it: it does not
// know the pid before it starts the process, and Go can do nothing between fork
// and exec. LISTEN_FDS without LISTEN_PID cannot be meant for another program.
// A program that takes sockets unsets the variables, as this one does. If a
// program does not take the sockets of systemd, LISTEN_PID is still set.
func inherit() (sockets []socket, predecessor *os.File, err error) {
	fds, fdnames := os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	pid := os.Getenv("LISTEN_PID")
	for _, name := range []string{"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"} {
		os.Unsetenv(name) // child processes must not take them for their own
	}
	if fds == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, nil, nil
	}
	n, err := strconv.Atoi(fds)
	names := strings.Split(fdnames, ":")
	switch {
	case err != nil || n <= 0:
		return nil, nil, fmt.Errorf("LISTEN_FDS=%s is no number of sockets", fds)
	case n != len(names):
		return nil, nil, fmt.Errorf("LISTEN_FDS=%s does not match LISTEN_FDNAMES=%s", fds, fdnames)
	}
	for i, name := range names {
		fd := 3 + i
		syscall.CloseOnExec(fd) // or all child processes would have it
		file := os.NewFile(uintptr(fd), name)
		if name == "predecessor" {
			predecessor = file
			continue
		}
		ln, err := net.FileListener(file) // it has a copy
		switch is, optErr := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); {
		case err != nil:
		case optErr == nil && is == 0: // a connection, which passes for a listener until Accept
			err = errors.New("it does not listen")
		case name != "http" && name != "https" && name != "unix":
			err = errors.New("its name is not http, https or unix")
		}
		if err != nil {
			err = fmt.Errorf("LISTEN_FDS=%s: file descriptor %d (%s): %w", fds, fd, name, err)
			return nil, nil, err
		}
		file.Close()
		sockets = append(sockets, socket{ln, name})
	}
	return sockets, predecessor, nil
}

// open adds a socket for each address whose name was not inherited: a new
// version may have one more. It returns the configuration for HTTPS too, since
// a process without its certificate must neither open sockets nor take over.
func (o options) open(sockets []socket) ([]socket, *tls.Config, error) {
	isOpen := func(name string) bool {
		return slices.ContainsFunc(sockets, func(s socket) bool { return s.name == name })
	}
	config := &tls.Config{}
	if o.https != "" || isOpen("https") {
		cert, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, nil, fmt.Errorf("-cert=%s -key=%s: %w", o.cert, o.key, err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	for _, s := range []struct {
		name, addr string
		listen     func(addr string) (net.Listener, error)
	}{
		{"http", o.http, listenTCP},
		{"https", o.https, listenTCP},
		{"unix", o.unix, listenUnix}, // last: if two start at once, one has the ports
	} {
		if s.addr == "" || isOpen(s.name) {
			continue
		}
		ln, err := s.listen(s.addr)
		if err != nil {
			return nil, nil, err
		}
		sockets = append(sockets, socket{ln, s.name})
	}
	if len(sockets) == 0 {
		return nil, nil, errors.New("there is no socket, and no address for one")
	}
	return sockets, config, nil
}

func listenTCP(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }

// listenUnix replaces the file that a killed process has left behind. Closing
// the listener does not remove the file, which may be the successor's by then.
func listenUnix(path string) (net.Listener, error) {
	ln, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && isLeftover(path) {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		ln, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	return ln, nil
}

// isLeftover reports whether path is a socket on which nobody listens.
func isLeftover(path string) bool {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// copyOf is like the File methods of listeners, with one difference. Starting a
// process with their file would put the socket, which all copies share, into
// blocking mode. Then Close would not end an Accept under way, and the shutdown
// would hang.
func copyOf(ln syscall.Conn) (*os.File, error) {
	conn, err := ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	err = conn.Control(func(socket uintptr) {
		syscall.ForkLock.RLock() // no process is started in between
		defer syscall.ForkLock.RUnlock()
		if fd, dupErr = syscall.Dup(int(socket)); dupErr == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if err := errors.Join(err, dupErr); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "socket"), nil
}
