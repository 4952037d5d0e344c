package recipes_test

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// terminal returns both ends of a new pseudo terminal.
func terminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { user.Close() })
	raw, err := user.SyscallConn()
	must(t, err)
	var n, unlock int32
	ioctl := func(request uintptr, value *int32) {
		t.Helper()
		must(t, raw.Control(func(fd uintptr) {
			_, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, request,
				uintptr(unsafe.Pointer(value)))
			if e != 0 {
				err = e
			}
		}))
		must(t, err)
	}
	ioctl(syscall.TIOCSPTLCK, &unlock)
	ioctl(syscall.TIOCGPTN, &n)
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { program.Close() })
	return user, program
}

// TestStdinTerminal stops the program while a user types a line.
func TestStdinTerminal(t *testing.T) {
	t.Parallel()
	user, program := terminal(t)
	p := startLines(t, program)
	io.WriteString(user, "one\ntw")
	p.AwaitStdout("did one\n")
	p.Signal(syscall.SIGTERM)
	p.WantExit(143)
	if did(p) != "one\n" {
		t.Errorf("done: %q, want the line that was complete", did(p))
	}
	// The shell that comes next has the same terminal. Fd would make it
	// blocking again, so the mode is read first.
	raw, err := program.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		flags, _, e := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0)
		if e != 0 || flags&syscall.O_NONBLOCK != 0 {
			t.Errorf("flags of the terminal: %#x, %v, want it to be blocking still", flags, e)
		}
	}))
	io.WriteString(user, "o\n")
	line := make([]byte, 16)
	if n, err := program.Read(line); err != nil || string(line[:n]) != "two\n" {
		t.Errorf("left: %q, %v, want the line that was begun", line[:n], err)
	}
}
