//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

// fileOf returns the file of a listener or a connection.
func fileOf(t *testing.T, c interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	file, err := c.File()
	must(t, err)
	t.Cleanup(func() { file.Close() })
	return file
}

// listen returns a listener like those of systemd.
func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// inheriting returns a command that gets the files and the variables.
func inheriting(t *testing.T, files []*os.File, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := process.Command(t, args...)
	cmd.ExtraFiles = files
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

func TestBadSockets(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	conn, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	defer conn.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer udp.Close()
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	good := fileOf(t, ln)
	for _, test := range []struct {
		fds, fdnames string
		files        []*os.File
		want         string
	}{
		{"some", "http", nil, "LISTEN_FDS=some is no number of sockets\n"},
		{"-1", "http", nil, "LISTEN_FDS=-1 is no number of sockets\n"},
		{"0", "", nil, "LISTEN_FDS=0 is no number of sockets\n"},
		{"2", "http", []*os.File{good, good}, "LISTEN_FDS=2 does not match LISTEN_FDNAMES=http\n"},
		{"1", "restart.socket", []*os.File{good},
			"LISTEN_FDS=1: file descriptor 3 (restart.socket): " +
				"its name is not http, https or unix\n"},
		{"2", "http:unix", []*os.File{good}, "LISTEN_FDS=2: file descriptor 4 (unix): "},
		{"1", "http", []*os.File{null}, "LISTEN_FDS=1: file descriptor 3 (http): "},
		{"1", "http", []*os.File{fileOf(t, udp.(*net.UDPConn))},
			"LISTEN_FDS=1: file descriptor 3 (http): "},
		{"2", "http:http", []*os.File{good, fileOf(t, conn.(*net.TCPConn))},
			"LISTEN_FDS=2: file descriptor 4 (http): it does not listen\n"},
		{"1", "https", []*os.File{good}, "-cert= -key=: "},
	} {
		p := process.StartCommand(t, inheriting(t, test.files,
			[]string{"LISTEN_FDS=" + test.fds, "LISTEN_FDNAMES=" + test.fdnames}, "-addr="))
		p.WantExit(1)
		if got := p.Stderr(); !strings.HasPrefix(got, "restart: "+test.want) ||
			strings.Count(got, "\n") != 1 || p.Stdout() != "" {
			t.Errorf("LISTEN_FDS=%s LISTEN_FDNAMES=%s: stdout = %q, stderr = %q, want nothing "+
				"and %q", test.fds, test.fdnames, p.Stdout(), got, test.want)
		}
	}
}

// TestListenPid checks that sockets for another process, whose pid is in
// LISTEN_PID, are not taken. Those for this process are taken, even two with
// the same name, and its successor gets no LISTEN_PID.
func TestListenPid(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	env := []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=http:http"}
	p := process.StartCommand(t, inheriting(t, []*os.File{fileOf(t, ln), fileOf(t, listen(t))},
		append(env, "LISTEN_PID="+fmt.Sprint(os.Getpid())), "-addr=127.0.0.1:0", "-delay=0"))
	p.AwaitStdout("listening on ")
	if strings.Contains(p.Stdout(), ln.Addr().String()) {
		t.Error("it serves on a socket that is another's")
	}
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)

	s := newService(t)
	cmd := process.Other(t, "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, s.path,
		"-addr=", "-delay=0")
	cmd.Env = append(cmd.Env, env...)
	other := listen(t)
	cmd.ExtraFiles = []*os.File{fileOf(t, ln), fileOf(t, other)}
	s.start(cmd)
	for _, c := range []io.Closer{ln, other, cmd.ExtraFiles[0], cmd.ExtraFiles[1]} {
		must(t, c.Close()) // so that the sockets end with the program
	}
	if !strings.Contains(s.Stdout(), "[http://"+ln.Addr().String()+" http://") {
		t.Errorf("it does not listen on %v and another", ln.Addr())
	}
	s.putScript(`echo "$LISTEN_FDS, $LISTEN_FDNAMES, $LISTEN_PID"; ` + hang)
	s.signal(s.pid, syscall.SIGHUP)
	successor := s.awaitPid(hanging, 1)
	s.AwaitStdout("\n3, predecessor:http:http, \n")
	s.signal(successor, syscall.SIGTERM)
	s.noSuccessor(s.pid, "(signal: terminated)")
	s.putProgram()
	next := s.restart(s.pid, 2)
	s.answers(next)
	s.stop(next)
}

// TestUnixSocketIsLeft checks that the file of a Unix socket belongs to a
// process to which the predecessor leaves the sockets, and not to one that was
// given up.
func TestUnixSocketIsLeft(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		ours   bool
	}{
		"left": {"", true}, "given up": {"no", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := socketPath(t)
			ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			must(t, err)
			ln.SetUnlinkOnClose(false)
			ours, theirs, err := connection()
			must(t, err)
			defer ours.Close()
			p := process.StartCommand(t, inheriting(t, []*os.File{theirs, fileOf(t, ln)},
				listenEnv([]string{"predecessor", "unix"}),
				"-addr=", "-delay=0", "-unix="+path))
			theirs.Close()
			n, err := ours.Read(make([]byte, 2))
			if n != 1 || err != nil {
				t.Fatalf("read %d bytes, %v, want 1", n, err)
			}
			ours.Write([]byte(test.answer))
			ours.Close()
			p.Signal(syscall.SIGTERM)
			p.WantExit(0)
			if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) != test.ours {
				t.Errorf("the file: %v, want it removed: %v", err, test.ours)
			}
		})
	}
}

// TestNewSocket checks that a new version may have one more socket.
func TestNewSocket(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0")
	self, err := os.Executable()
	must(t, err)
	s.addr["unix"] = socketPath(t)
	s.putScript("exec " + self + ` "$@" -unix=` + s.addr["unix"])
	next := s.restart(s.pid, 2)
	if pid, err := s.newClient("unix", false).ask("POST", "hello"); pid != next || err != nil {
		t.Errorf("pid %d answers, %v, want %d", pid, err, next)
	}
	s.stop(next)
}

// TestUnixSocketIsTaken checks that the file of a killed process does not
// prevent a start. A socket with a listener does, as does a file that is not a
// socket. Neither is touched.
func TestUnixSocketIsTaken(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	killed := process.Start(t, "-addr=", "-unix="+path)
	killed.AwaitStdout("listening on [unix://" + path + "]\n")
	taken := "listen unix " + path + ": bind: address already in use"
	process.WantBadStart(t, 1, taken, "-addr=", "-unix="+path)
	killed.Process.Kill()
	<-killed.Exited()

	_, err := os.Lstat(path)
	must(t, err)
	s := startService(t, "-delay=0", "-unix="+path)
	if pid, err := s.newClient("unix", false).ask("POST", "hello"); pid != s.pid || err != nil {
		t.Errorf("pid %d answers, %v, want %d", pid, err, s.pid)
	}
	process.WantBadStart(t, 1, taken, "-addr=", "-unix="+path)
	s.stop(s.pid)

	must(t, os.WriteFile(path, []byte("a file"), 0o600))
	process.WantBadStart(t, 1, taken, "-addr=", "-unix="+path)
	if text, err := os.ReadFile(path); string(text) != "a file" || err != nil {
		t.Errorf("the file has %q, %v", text, err)
	}
}

// TestSystemd checks that systemd passes its socket, even to a process that can
// be replaced, and that the file stays.
func TestSystemd(t *testing.T) {
	t.Parallel()
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip(err)
	}
	path := socketPath(t)
	s := newService(t)
	s.addr["unix"] = path
	// It starts the program at the first connection, which is not lost.
	first := make(chan error, 1)
	go func() {
		c := s.newClient("unix", false)
		_, err := c.ask("POST", "hello")
		for end := time.Now().Add(limit); err != nil &&
			time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			// It listens.
			if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
			_, err = c.ask("POST", "hello")
		}
		first <- err
	}()
	s.start(process.Other(t, activate, "-E", asProgram+"=1", "-l", path, "--fdname=unix", s.path,
		"-addr=", "-delay=0"))
	must(t, <-first)
	next := s.restart(s.pid, 2)
	if pid, err := s.newClient("unix", false).ask("POST", "hello"); pid != next || err != nil {
		t.Errorf("pid %d answers, %v, want %d", pid, err, next)
	}
	delete(s.addr, "unix")
	s.stop(next)
	_, err = os.Lstat(path)
	must(t, err)
}
