//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// programPath returns the path by which the program was called. It is called at
// the start, since the meaning of a relative path may change soon.
// os.Executable would not do: it may follow a symlink to the old version, or
// the old file to its new name.
func programPath() (string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// handOver starts the successor, waits until it serves, and fires q. If it
// returns an error, there is no successor: it was not started, or it was ended.
func handOver(q *quit.QuitEvent, path string, sockets []socket,
	timeout time.Duration, hangups <-chan os.Signal) error {
	cmd, successor, err := start(path, sockets)
	if err != nil {
		return err
	}
	defer successor.Close()
	serves := make(chan bool, 1)
	go func() { // ends when the successor serves, ends, or is closed
		n, _ := successor.Read(make([]byte, 1))
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
			// Either this call fires, or a signal has, and then no process may
			// serve.
			hangup := &quit.SignalError{Signal: syscall.SIGHUP}
			if q.Fail(fmt.Errorf("pid %d serves: %w", cmd.Process.Pid, hangup)) {
				return nil
			}
			err = q.Cause()
		case <-tooLate:
			err = fmt.Errorf("it did not serve within %v", timeout)
		case <-q.Done():
			err = q.Cause()
		case <-hangups:
			fmt.Fprintf(os.Stderr, "restart: pid %d: SIGHUP ignored: pid %d is being started\n",
				os.Getpid(), cmd.Process.Pid)
		}
	}
	successor.Write([]byte("no")) // before its SIGTERM
	end(q, cmd, timeout)
	return fmt.Errorf("pid %d: %w (%v)", cmd.Process.Pid, err, cmd.ProcessState)
}

// takeOver tells the predecessor that this process serves, and reports whether
// the sockets belong to it alone now. The predecessor answers no if it has
// given this process up and goes on. Otherwise it ends the connection, if only
// because it was killed.
func takeOver(predecessor *os.File) bool {
	defer predecessor.Close()
	predecessor.Write([]byte{1})
	n, _ := predecessor.Read(make([]byte, 1))
	return n == 0
}

// isReplaced reports whether q was fired because there is a successor.
func isReplaced(q *quit.QuitEvent) bool {
	var sig *quit.SignalError
	return errors.As(q.Cause(), &sig) && sig.Signal == syscall.SIGHUP
}

// start starts the successor, and returns a connection to it.
func start(path string, sockets []socket) (*exec.Cmd, *os.File, error) {
	successor, predecessor, err := connection()
	if err != nil {
		return nil, nil, err
	}
	files, names := []*os.File{predecessor}, []string{"predecessor"}
	defer func() { // so that the connection ends with the successor
		for _, f := range files {
			f.Close()
		}
	}()
	for _, s := range sockets {
		file, err := copyOf(s.Listener.(syscall.Conn))
		if err != nil {
			successor.Close()
			return nil, nil, err
		}
		files, names = append(files, file), append(names, s.name)
	}

	cmd := exec.Command(path, os.Args[1:]...) // not CommandContext: it outlives this process
	cmd.Env = append(os.Environ(), listenEnv(names)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = files // from 3 on
	if err := cmd.Start(); err != nil {
		successor.Close()
		return nil, nil, err
	}
	return cmd, successor, nil
}

// connection returns the two ends of a connection.
func connection() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock() // no process is started in between
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	syscall.SetNonblock(fds[0], true) // or Close would not end a Read
	return os.NewFile(uintptr(fds[0]), "successor"), os.NewFile(uintptr(fds[1]), "predecessor"), nil
}

// end ends the successor and waits for its end. It begins with SIGTERM, since a
// late successor may serve by now.
func end(q *quit.QuitEvent, cmd *exec.Cmd, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(q.WorkContext(), timeout)
	defer cancel()
	cmd.Process.Signal(syscall.SIGTERM)
	defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
	cmd.Wait() // its error is in cmd.ProcessState
}

// writePID replaces the file in one step: a reader finds the old pid or the new
// one.
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
	content, err := os.ReadFile(path)
	if err != nil || strings.TrimSpace(string(content)) != strconv.Itoa(os.Getpid()) {
		return nil
	}
	return os.Remove(path)
}
