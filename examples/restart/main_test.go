//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

// TestRestarts restarts the program five times under load on all sockets, and
// tries three broken versions. No request fails, and nothing is left behind.
func TestRestarts(t *testing.T) {
	t.Parallel()
	// Each client asks once in 3 s, on any machine.
	s := startAll(t, "-delay=3s", "-ready-timeout=8s")
	files := s.files(s.pid)
	l := s.startLoad()
	pid := s.pid
	self, err := os.Executable()
	must(t, err)
	for n, broken := range []struct{ script, why string }{
		{},
		{"exit 3", "it ended before it served (exit status 3)"},
		{hang, "it did not serve within 8s (signal: terminated)"},
		{"exec " + self + ` "$@" -cert=/nowhere`, "it ended before it served (exit status 1)"},
		{},
	} {
		l.await(pid)
		if broken.script != "" {
			s.putScript(broken.script)
			s.signal(pid, syscall.SIGHUP)
			s.noSuccessor(pid, broken.why)
			l.await(pid)
			s.putProgram()
		}
		pid = s.restart(pid, n+2)
	}
	l.await(pid)
	l.stop()
	if !l.result() {
		t.Error("requests have failed")
	}
	if got := strings.Count(s.Stderr(), "restart: -cert=/nowhere -key="); got != 1 {
		t.Errorf("the certificate is named %d times, want once", got)
	}
	s.await("the last process has no more files open than the first", func() bool {
		return s.files(pid) <= files
	})
	s.stop(pid)
}

// TestRestartsWithoutDelay restarts the program ten times under load without a
// delay: no request is lost either. A client has a quarter of a second to come
// back to its connection. On a slow machine one may need longer, so there is
// another try.
func TestRestartsWithoutDelay(t *testing.T) {
	t.Parallel()
	for range 3 {
		s := startAll(t, "-delay=0")
		l := s.startLoad()
		pid := s.pid
		for n := 2; n <= 11; n++ {
			l.await(pid)
			pid = s.restart(pid, n)
		}
		l.await(pid)
		l.stop()
		s.stop(pid)
		if l.result() {
			return
		}
	}
	t.Error("each time requests failed")
}

// TestClientsAreAskedToLeave checks that the predecessor, once the successor
// serves, still answers requests on its connections, and asks the clients to
// leave.
func TestClientsAreAskedToLeave(t *testing.T) {
	t.Parallel()
	s := startAll(t, "-delay=15s") // longer than the test takes
	c := s.hold("")
	c.send()
	resp := c.response()
	if _, err := answer(resp, "hello"); err != nil || resp.Close {
		t.Fatalf("POST before = %+v, %v, want an answer that keeps the connection", resp, err)
	}
	s.signal(s.pid, syscall.SIGHUP)
	next := s.serving(2)
	s.AwaitStderr("quit: fired")
	c.begin("")
	c.send()
	resp = c.response()
	pid, err := answer(resp, "hello")
	must(t, err)
	if pid != s.pid || !resp.Close {
		t.Errorf("pid %d answered, Connection: close %v, want pid %d and true",
			pid, resp.Close, s.pid)
	}
	// It gets no new connections any more, even if the successor is slow. The
	// first one may come before it has closed its sockets.
	var failures []error
	for try := 0; try == 0 || failures != nil && try < 5; try++ {
		failures = nil
		for name := range s.addr {
			s.signal(next, syscall.SIGSTOP)
			time.AfterFunc(200*time.Millisecond, func() { syscall.Kill(next, syscall.SIGCONT) })
			if pid, err := s.newClient(name, false).ask("GET", ""); pid != next || err != nil {
				failures = append(failures, fmt.Errorf("%s: pid %d answered, error %v, want %d",
					name, pid, err, next))
			}
		}
	}
	if failures != nil {
		t.Error("new connections:", errors.Join(failures...))
	}
}

func TestRequestInFlight(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0")
	h := s.hold("")
	idle := s.hold("")
	idle.send()
	_, err := answer(idle.response(), "hello")
	must(t, err)
	s.signal(s.pid, syscall.SIGHUP)
	next := s.serving(2)
	if _, err := idle.r.ReadByte(); err != io.EOF { // Shutdown closes it after the listener
		t.Errorf("the idle connection: %v, want it closed", err)
	}
	s.answers(next)
	h.send()
	if pid, err := answer(h.response(), "hello"); pid != s.pid || err != nil {
		t.Errorf("the request in flight: pid %d, %v, want pid %d", pid, err, s.pid)
	}
	s.stopped(s.pid)
	s.stop(next)
}

// TestRequestNeverEnds checks that a request that does not end does not keep
// the old process running, and that the process says so.
func TestRequestNeverEnds(t *testing.T) {
	t.Parallel()
	// Half a second of the timeout is left for the message.
	process.Patiently(t, 10*time.Second, func(timeout time.Duration) bool {
		s := startService(t, "-delay=0", fmt.Sprint("-timeout=", timeout))
		h := s.hold("?d=1h")
		h.send()
		s.signal(s.pid, syscall.SIGHUP)
		next := s.serving(2)
		resp, err := http.ReadResponse(h.r, nil)
		if err == nil && resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("the request that never ends: %s, want 503", resp.Status)
		}
		s.AwaitStderr("restart: quit: http (restart/main.go:")
		s.answers(next)
		s.signal(next, syscall.SIGTERM)
		s.stopped(next)
		s.wantEnd(1) // of the first
		return err == nil
	})
}

// TestNoSuccessor puts various broken programs at the path. The old process
// prints the reason, waits for the process that it has started, and keeps
// nothing of it. It can be replaced later, and it can be stopped.
func TestNoSuccessor(t *testing.T) {
	for name, test := range map[string]struct{ file, why string }{
		"exits":     {"#!/bin/sh\nexit 1\n", "it ended before it served (exit status 1)"},
		"ends well": {"#!/bin/sh\n", "it ended before it served (exit status 0)"},
		"crashes": {"#!/bin/sh\nkill -KILL $$\n",
			"it ended before it served (signal: killed)"},
		"no program":    {"hello\n", "exec format error"},
		"nothing there": {"", "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startService(t, "-delay=0")
			files := s.files(s.pid)
			s.answers(s.pid)
			if test.file == "" {
				must(t, os.Remove(s.path))
			} else {
				s.putFile(test.file)
			}
			s.signal(s.pid, syscall.SIGHUP)
			s.noSuccessor(s.pid, test.why)
			s.answers(s.pid)
			s.await("no more files are open than before", func() bool {
				return s.files(s.pid) <= files
			})
			s.putProgram()
			next := s.restart(s.pid, 2)
			s.answers(next)
			s.stop(next)
		})
	}
}

// TestSuccessorHangs checks that a successor that hangs, and ignores SIGTERM
// too, is killed.
func TestSuccessorHangs(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0", "-ready-timeout=500ms")
	s.putScript("trap '' TERM; " + hang)
	line := fmt.Sprintf("restart: pid %d has no successor: pid ", s.pid)
	// On a slow machine, the first successors may not live long enough to hang.
	for n := 1; !hanging.MatchString(s.Stdout()); n++ {
		s.signal(s.pid, syscall.SIGHUP)
		s.await("it has no successor", func() bool { return strings.Count(s.Stderr(), line) == n })
		if n == 100 {
			t.Fatal("no successor comes to hang")
		}
	}
	successor := s.awaitPid(hanging, 1)
	s.AwaitStderr(fmt.Sprintf("%s%d: it did not serve within 500ms (signal: killed)\n",
		line, successor))
	s.wantGone(successor)
	s.answers(s.pid)
	s.stop(s.pid)
}

// TestStopOfUnixSocket checks that a shutdown without a restart loses nothing
// on the Unix socket: clients are answered, or find no file. A client may find
// the file just before the socket is closed, and fail. Then the test tries
// again.
func TestStopOfUnixSocket(t *testing.T) {
	t.Parallel()
	for range 3 {
		s := startService(t, "-addr=", "-delay=0", "-unix="+socketPath(t))
		l := &load{s: s, stopped: make(chan struct{}), answers: make(map[string]int),
			last: make(map[string]int)}
		for range 8 {
			l.start("unix", "POST", false)
		}
		l.await(s.pid)
		h := s.holdOn("unix", "")
		s.signal(s.pid, syscall.SIGTERM)
		l.clients.Wait() // each ends after some failures
		h.send()
		_, err := answer(h.response(), "hello")
		must(t, err)
		s.stopped(s.pid)
		s.wantEnd(0)
		if !slices.ContainsFunc(l.failures, func(err error) bool {
			return !errors.Is(err, syscall.ENOENT)
		}) {
			return
		}
		l.result()
	}
	t.Error("each time requests failed")
}

// TestStopAfterFailedRestart checks that the sockets are still in non-blocking
// mode after a failed restart. Otherwise Accept would block the shutdown.
func TestStopAfterFailedRestart(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0")
	s.putScript("exit 1")
	s.signal(s.pid, syscall.SIGHUP)
	s.noSuccessor(s.pid, "(exit status 1)")
	s.answers(s.pid) // and is in Accept again
	s.stop(s.pid)
}

func TestSignalWhileSuccessorStarts(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := startAll(t, "-delay=0", "-ready-timeout=10m")
			s.putScript(hang)
			s.signal(s.pid, syscall.SIGHUP)
			successor := s.awaitPid(hanging, 1)
			s.signal(s.pid, sig)
			s.noSuccessor(s.pid, fmt.Sprintf("quit: received signal: %v (signal: terminated)", sig))
			s.wantGone(successor)
			s.stopped(s.pid)
			s.wantEnd(0)
		})
	}
	t.Run("not heeded", func(t *testing.T) {
		t.Parallel()
		// A tenth of the timeout is left for the message.
		process.Patiently(t, 2*time.Second, func(timeout time.Duration) bool {
			s := startService(t, "-delay=0", "-ready-timeout=10m", fmt.Sprint("-timeout=", timeout))
			s.putScript("trap '' TERM; " + hang)
			s.signal(s.pid, syscall.SIGHUP)
			s.awaitPid(hanging, 1)
			s.signal(s.pid, syscall.SIGTERM)
			s.wantEnd(1) // since there was not enough time
			return strings.Contains(s.Stderr(),
				"quit: received signal: terminated (signal: killed)")
		})
	})
	t.Run("the successor hears of it", func(t *testing.T) {
		t.Parallel()
		s := startService(t, "-delay=0", "-ready-timeout=10m")
		s.putScript(`trap '' TERM; echo "pid $$: hanging"; head -c 2 <&3; echo`)
		s.signal(s.pid, syscall.SIGHUP)
		s.awaitPid(hanging, 1)
		s.signal(s.pid, syscall.SIGTERM)
		s.AwaitStdout("\nno\n")
		s.wantEnd(0)
	})
	t.Run("of the successor", func(t *testing.T) {
		t.Parallel()
		s := startService(t, "-delay=0", "-ready-timeout=10m")
		s.putScript(hang)
		s.signal(s.pid, syscall.SIGHUP)
		s.signal(s.awaitPid(hanging, 1), syscall.SIGTERM)
		s.noSuccessor(s.pid, "it ended before it served (signal: terminated)")
		s.answers(s.pid)
		s.stop(s.pid)
	})
}

func TestSecondHangup(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0", "-ready-timeout=10m")
	s.putScript(hang)
	s.signal(s.pid, syscall.SIGHUP)
	successor := s.awaitPid(hanging, 1)
	s.signal(s.pid, syscall.SIGHUP)
	s.AwaitStderr(fmt.Sprintf("restart: pid %d: SIGHUP ignored: pid %d is being started\n",
		s.pid, successor))
	s.signal(successor, syscall.SIGTERM)
	s.noSuccessor(s.pid, "it ended before it served (signal: terminated)")
	s.putProgram()
	next := s.restart(s.pid, 2)
	s.stop(next)
}

// TestNewVersion checks that a restart starts the program that is at the path
// at that time.
func TestNewVersion(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0")
	self, err := os.Executable()
	must(t, err)
	s.putScript(`echo "version 2"; exec ` + self + ` "$@"`)
	next := s.restart(s.pid, 2)
	s.AwaitStdout("version 2\n")
	s.answers(next)
	s.stop(next)
}

func TestPidfile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pid")
	s := startService(t, "-delay=0", "-pidfile="+path)
	want := func(pid int) {
		t.Helper()
		if content, err := os.ReadFile(path); string(content) != fmt.Sprintln(pid) {
			t.Errorf("pidfile = %q, %v, want %d", content, err, pid)
		}
	}
	want(s.pid)
	// One that was too late may have written its own.
	s.putScript("echo $$ >" + path + "; " + hang)
	s.signal(s.pid, syscall.SIGHUP)
	s.signal(s.awaitPid(hanging, 1), syscall.SIGTERM)
	s.noSuccessor(s.pid, "it ended before it served (signal: terminated)")
	want(s.pid)
	s.putProgram()
	next := s.restart(s.pid, 2)
	want(next)
	s.stop(next)
	if files, err := os.ReadDir(filepath.Dir(path)); len(files) > 0 || err != nil {
		t.Errorf("files = %v, %v, want none left", files, err)
	}
}

func TestUnderNohup(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.start(process.Other(t, "/bin/sh", "-c", `trap '' HUP; exec "$0" "$@"`, s.path,
		"-addr=127.0.0.1:0", "-delay=0"))
	next := s.restart(s.pid, 2)
	last := s.restart(next, 3)
	s.stop(last)
}

func TestClientNeverReads(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0", "-timeout=3s")
	body := strings.Repeat("x", 1<<20) // it is answered
	process.NeverRead(t, s.addr["http"],
		fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	s.signal(s.pid, syscall.SIGTERM)
	s.wantEnd(1)
	if got := s.Stderr(); !strings.Contains(got, "\nrestart: quit: http (restart/main.go:") {
		t.Errorf("stderr = %q, want it to name the server", got)
	}
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	s := startService(t, "-delay=0")
	s.hold("")
	s.signal(s.pid, syscall.SIGINT)
	s.AwaitStderr("quit: fired")
	s.InterruptAgain()
	s.wantEnd(130)
	if got := s.Stderr(); !strings.Contains(got, "http  ") ||
		!strings.Contains(got, "ending at once") {
		t.Errorf("stderr = %q, want the report", got)
	}
}

func TestBadStart(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	nowhere := filepath.Join(t.TempDir(), "no", "file")
	for _, test := range []struct {
		args   []string
		status int
		why    string
	}{
		{[]string{"-addr", taken}, 1, "listen tcp " + taken + ": bind: address already in use"},
		{[]string{"-addr=127.0.0.1:0", "-unix", nowhere}, 1,
			nowhere + ": bind: no such file or directory"},
		{[]string{"-https=127.0.0.1:0", "-cert=" + nowhere, "-key=x"}, 1,
			"-cert=" + nowhere + " -key=x: open"},
		{[]string{"-addr="}, 1, "no socket"},
		{[]string{"-https=127.0.0.1:0", "-cert=x"}, 2, "-https needs -cert and -key"},
		{[]string{"-adr=:0"}, 2, "flag provided but not defined: -adr"},
		{[]string{"-ready-timeout=0"}, 2, "-ready-timeout=0s is no time"},
		{[]string{"now"}, 2, `unexpected argument "now"`},
	} {
		process.WantBadStart(t, test.status, test.why, test.args...)
	}
}

// TestPidfileNowhere checks that a pidfile that cannot be written ends the
// program, even though it already serves.
func TestPidfileNowhere(t *testing.T) {
	t.Parallel()
	socket := socketPath(t)
	p := process.Start(t, "-addr=127.0.0.1:0", "-delay=0", "-unix="+socket,
		"-pidfile="+filepath.Join(t.TempDir(), "no", "pid"))
	p.WantExit(1)
	if want := "no such file or directory\n"; p.Stdout() != "" ||
		!strings.HasSuffix(p.Stderr(), want) {
		t.Errorf("stdout = %q, stderr = %q, want nothing, and %q at the end",
			p.Stdout(), p.Stderr(), want)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's file: %v, want it removed", err)
	}
}
