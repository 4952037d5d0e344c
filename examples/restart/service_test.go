//go:build unix

package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

// If this variable is set, the test binary is the program. A successor inherits
// it.
const asProgram = "EXAMPLE_RESTART_AS_PROGRAM"

// limit is how long a test waits for something that should happen at once.
const limit = 3 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	process.Main(m, main)
}

// service is a process with all its successors. They are a process group, and
// write to the same two pipes. The embedded Process ends when all of them have
// ended, and has the exit status of the first one.
type service struct {
	*process.Process
	t    *testing.T
	path string            // of the program: each restart starts the file that is there
	pid  int               // of the first process
	addr map[string]string // by the name of the socket
}

// startService starts the first process, and waits until it serves.
func startService(t *testing.T, args ...string) *service {
	t.Helper()
	s := newService(t)
	s.start(process.Other(t, s.path, append([]string{"-addr=127.0.0.1:0"}, args...)...))
	return s
}

// startAll starts a service with a socket of each kind.
func startAll(t *testing.T, args ...string) *service {
	t.Helper()
	cert, key := certificateFiles(t)
	args = append(args, "-https=127.0.0.1:0", "-cert="+cert, "-key="+key, "-unix="+socketPath(t))
	return startService(t, args...)
}

// newService puts the program at a path of its own.
func newService(t *testing.T) *service {
	t.Helper()
	s := &service{t: t, path: filepath.Join(t.TempDir(), "restart"), addr: make(map[string]string)}
	s.putProgram()
	return s
}

func (s *service) start(cmd *exec.Cmd) {
	s.t.Helper()
	cmd.Env = append(cmd.Env, asProgram+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 0 // it ends long before its successors
	s.Process = process.StartCommand(s.t, cmd)
	s.t.Cleanup(func() {
		select {
		case <-s.Exited(): // the group has ended too, and its number may have been reused
		default:
			syscall.Kill(-s.Process.Process.Pid, syscall.SIGKILL)
		}
	})
	s.pid = s.serving(1)
	for _, socket := range sockets.FindAllStringSubmatch(s.Stdout(), -1) {
		s.addr[socket[1]] = socket[2]
	}
}

// putProgram makes the path lead to the program, in one step. It is a symlink,
// as in real deployments.
func (s *service) putProgram() {
	s.t.Helper()
	self, err := os.Executable()
	must(s.t, err)
	must(s.t, os.Symlink(self, s.path+".new"))
	must(s.t, os.Rename(s.path+".new", s.path))
}

// putScript puts a shell script there.
func (s *service) putScript(text string) {
	s.t.Helper()
	s.putFile("#!/bin/sh\n" + text + "\n")
}

func (s *service) putFile(text string) {
	s.t.Helper()
	// A process that another test starts at this moment would briefly have the
	// file open for writing, and such a file cannot be executed.
	syscall.ForkLock.RLock()
	err := os.WriteFile(s.path+".new", []byte(text), 0o700)
	syscall.ForkLock.RUnlock()
	must(s.t, errors.Join(err, os.Rename(s.path+".new", s.path)))
}

// hang never serves. It prints its pid, as the program does.
const hang = `echo "pid $$: hanging"; exec sleep 1000`

var (
	listening = regexp.MustCompile(`(?m)^pid (\d+): listening on \[.*\]\n`)
	hanging   = regexp.MustCompile(`(?m)^pid (\d+): hanging\n`)
	sockets   = regexp.MustCompile(`(http|https|unix)://([^] ]+)`)
)

// serving waits until n processes in all have said that they serve, and returns
// the pid of the last one.
func (s *service) serving(n int) int { s.t.Helper(); return s.awaitPid(listening, n) }

func (s *service) awaitPid(line *regexp.Regexp, n int) (pid int) {
	s.t.Helper()
	s.await(fmt.Sprintf("%d lines of stdout match %v", n, line), func() bool {
		lines := line.FindAllStringSubmatch(s.Stdout(), -1)
		if len(lines) < n {
			return false
		}
		pid, _ = strconv.Atoi(lines[n-1][1])
		return true
	})
	return pid
}

// stopped waits until the process has ended with status 0.
func (s *service) stopped(pid int) {
	s.t.Helper()
	s.AwaitStdout(fmt.Sprintf("pid %d: stopped\n", pid))
}

func (s *service) await(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("waited too long until %s", what)
		}
	}
}

func (s *service) signal(pid int, sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatalf("sending %v to %d: %v", sig, pid, err)
	}
}

// stop stops the process that serves, and checks that it is the last one and
// that the first one has ended with status 0.
func (s *service) stop(pid int) {
	s.t.Helper()
	s.signal(pid, syscall.SIGTERM)
	s.stopped(pid)
	s.wantEnd(0)
}

// wantEnd waits for the end of all processes. It checks the status of the
// first, and that nothing is left.
func (s *service) wantEnd(status int) {
	s.t.Helper()
	s.WantExit(status)
	for name, addr := range s.addr {
		if conn, err := dial(name, addr); err == nil {
			conn.Close()
			s.t.Errorf("%s is open still", addr)
		}
	}
	if path := s.addr["unix"]; path != "" {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			s.t.Errorf("the socket's file: %v, want it removed", err)
		}
	}
	if strings.Contains(s.Stderr(), "DATA RACE") {
		s.t.Error("a data race")
	}
}

// dial connects to the socket with the given name.
func dial(name, addr string) (net.Conn, error) {
	network := "tcp"
	if name == "unix" {
		network = name
	}
	return net.Dial(network, addr)
}

// answers waits until the process answers a new connection.
func (s *service) answers(pid int) {
	s.t.Helper()
	client := s.newClient("http", false)
	s.await(fmt.Sprintf("pid %d answers", pid), func() bool {
		got, err := client.ask("GET", "")
		must(s.t, err)
		return got == pid
	})
}

// files returns the number of files that the process has open, or 0 if that is
// unknown.
func (s *service) files(pid int) int {
	s.t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(s.t, err)
	return len(files)
}

// restart sends SIGHUP. When the predecessor has stopped, it returns the pid of
// the successor, the n-th process that serves.
func (s *service) restart(pid, n int) int {
	s.t.Helper()
	s.signal(pid, syscall.SIGHUP)
	next := s.serving(n)
	s.stopped(pid)
	return next
}

// noSuccessor waits until the process prints the reason why it goes on.
func (s *service) noSuccessor(pid int, why string) {
	s.t.Helper()
	line := fmt.Sprintf("restart: pid %d has no successor: ", pid)
	s.AwaitStderr(line)
	s.await("the line has its end", func() bool {
		_, text, _ := strings.Cut(s.Stderr(), line)
		return strings.Contains(text, "\n")
	})
	_, text, _ := strings.Cut(s.Stderr(), line)
	if text, _, _ = strings.Cut(text, "\n"); !strings.HasSuffix(text, why) {
		s.t.Errorf("stderr = %q, want %q at the end", line+text, why)
	}
}

// wantGone checks that there is no such process, not even as a zombie.
func (s *service) wantGone(pid int) {
	s.t.Helper()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		s.t.Errorf("pid %d is there still: %v", pid, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// socketPath returns a path that is short enough for a socket, which that of
// TempDir may not be.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "restart")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "socket")
}

// testServer has the certificate of httptest, and clients that know it.
var testServer = sync.OnceValue(func() *httptest.Server { return httptest.NewTLSServer(nil) })

// certificateFiles returns the names of files with the certificate and its key.
func certificateFiles(t *testing.T) (cert, key string) {
	t.Helper()
	c := testServer().TLS.Certificates[0]
	private, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	must(t, err)
	dir := t.TempDir()
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600))
		return path
	}
	return write("cert", "CERTIFICATE", c.Certificate[0]), write("key", "PRIVATE KEY", private)
}
