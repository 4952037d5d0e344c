//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// With this variable the process is a successor. Then 3 is the socket, and 4 the
// pipe on which its predecessor waits.
const isSuccessor = "RESTART_IS_SUCCESSOR"

// listen returns the listener, of the predecessor if there is one, and a func that
// tells it that we serve.
func listen(addr string) (ln net.Listener, serving func(), err error) {
	if os.Getenv(isSuccessor) == "" {
		ln, err = net.Listen("tcp", addr)
		return ln, func() {}, err
	}
	os.Unsetenv(isSuccessor)
	// What a process inherited it would pass on to all that it starts.
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	socket, ready := os.NewFile(3, "socket"), os.NewFile(4, "ready")
	defer socket.Close() // ln has a copy
	ln, err = net.FileListener(socket)
	return ln, func() {
		ready.Write([]byte("1")) // an error: there is no predecessor anymore, and we serve all the more
		ready.Close()
	}, err
}

// programPath returns the path that the program was called by. It is asked for at
// the start, since a relative one is soon another; and it is not os.Executable, which
// may follow a symlink to the old version, or the old file to its new name.
func programPath() (string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// handOver starts the successor, waits until it serves, and fires q. If it returns
// an error, there is no successor: it was ended, if it was started at all.
func handOver(q *quit.QuitEvent, path string, ln net.Listener, timeout time.Duration, hangups <-chan os.Signal) error {
	cmd, ready, err := start(path, ln)
	if err != nil {
		return err
	}
	defer ready.Close()
	serves := make(chan bool, 1)
	go func() { // ends when the successor serves, or ends, or ready is closed
		n, _ := ready.Read(make([]byte, 1))
		serves <- n == 1
	}()

	tooLate := time.After(timeout)
	for err == nil {
		select {
		case ok := <-serves:
			if !ok {
				err = errors.New("it ended before it served")
				break
			}
			// Either this fires or a signal has, and then nobody is to serve.
			if q.Fail(fmt.Errorf("pid %d serves: %w", cmd.Process.Pid, &quit.SignalError{Signal: syscall.SIGHUP})) {
				return nil
			}
			err = q.Cause()
		case <-tooLate:
			err = fmt.Errorf("it did not serve within %v", timeout)
		case <-q.Done():
			err = q.Cause()
		case <-hangups:
			fmt.Fprintf(os.Stderr, "restart: pid %d: SIGHUP ignored: pid %d is being started\n", os.Getpid(), cmd.Process.Pid)
		}
	}
	end(q, cmd, timeout)
	return fmt.Errorf("pid %d: %w (%v)", cmd.Process.Pid, err, cmd.ProcessState)
}

// start starts the successor, and returns a pipe from it.
func start(path string, ln net.Listener) (*exec.Cmd, *os.File, error) {
	socket, err := socketOf(ln.(*net.TCPListener))
	if err != nil {
		return nil, nil, err
	}
	defer socket.Close()
	ready, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer w.Close() // so that the end of the successor is that of the pipe

	cmd := exec.Command(path, os.Args[1:]...) // not CommandContext: it outlives us
	cmd.Env = append(os.Environ(), isSuccessor+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{socket, w} // from 3 on
	if err := cmd.Start(); err != nil {
		ready.Close()
		return nil, nil, err
	}
	return cmd, ready, nil
}

// socketOf is ln.File() but for one thing: to start a process with the file of
// that would put the socket, which is one for all its copies, into blocking mode. Then
// an Accept under way is not ended by Close, and the stop hangs.
func socketOf(ln *net.TCPListener) (*os.File, error) {
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

// end ends the successor and waits for that. It begins with SIGTERM, since one that is
// late may serve by now.
func end(q *quit.QuitEvent, cmd *exec.Cmd, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(q.WorkContext(), timeout)
	defer cancel()
	cmd.Process.Signal(syscall.SIGTERM)
	defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
	cmd.Wait() // its error is in cmd.ProcessState
}

// writePID replaces the file in one step: who reads it finds the old pid or ours.
func writePID(path string) error {
	if path == "" {
		return nil
	}
	temp := fmt.Sprintf("%s.%d", path, os.Getpid())
	err := os.WriteFile(temp, fmt.Appendln(nil, os.Getpid()), 0o644)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

// removePID removes the file, unless it is the successor's.
func removePID(path string) error {
	if content, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(content)) != strconv.Itoa(os.Getpid()) {
		return nil
	}
	return os.Remove(path)
}
