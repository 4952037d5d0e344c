//go:build unix

package suite

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

// Server is a broker in a process, which can be stopped and started again.
type Server struct {
	*process.Process
	t       testing.TB
	addr    string
	command func() *exec.Cmd
}

// StartServer starts a server that listens on addr.
func StartServer(t testing.TB, addr string, command func() *exec.Cmd) *Server {
	t.Helper()
	s := &Server{t: t, addr: addr, command: command}
	s.Start()
	return s
}

// Start starts a stopped server again. It listens when Start returns.
func (s *Server) Start() {
	s.t.Helper()
	cmd := s.command()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it may have children
	p := process.StartCommand(s.t, cmd)
	s.Process = p
	s.t.Cleanup(func() { syscall.Kill(-p.Process.Pid, syscall.SIGKILL) })
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-s.Exited():
			s.t.Fatalf("the server has ended: %s%s", s.Stdout(), s.Stderr())
		default:
		}
		if time.Now().After(end) {
			s.t.Fatalf("the server does not listen on %s: %s", s.addr, s.Stderr())
		}
	}
}

// Stop stops the server.
func (s *Server) Stop() {
	s.t.Helper()
	s.Signal(syscall.SIGTERM)
	<-s.Exited()
}

// Kill kills the server. Data that it has not read yet is lost.
func (s *Server) Kill() {
	s.t.Helper()
	syscall.Kill(-s.Process.Process.Pid, syscall.SIGKILL)
	<-s.Exited()
}

// Pause makes the server stop answering. After that it can only be killed.
func (s *Server) Pause() { s.Signal(syscall.SIGSTOP) }

// LookPath returns the path of the program. Without the program it skips the
// test, or fails it where all tests must run.
func LookPath(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	return path
}

// FreeAddr returns a free address. On Linux, a socket that does not listen
// holds it until the end of the test, for a server that may listen on a held
// port.
func FreeAddr(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	Must(t, err)
	syscall.CloseOnExec(fd)
	if runtime.GOOS == "linux" {
		t.Cleanup(func() { syscall.Close(fd) })
	} else {
		defer syscall.Close(fd)
	}
	Must(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	Must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	addr, err := syscall.Getsockname(fd)
	Must(t, err)
	return fmt.Sprint("127.0.0.1:", addr.(*syscall.SockaddrInet4).Port)
}

// Must ends the test if err is not nil.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
