//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// do sends a request over a connection of its own.
func (i *instance) do(method, path, body string) (status int, answer string) {
	i.t.Helper()
	return i.get(method, "http://"+i.addr+path, body)
}

func (i *instance) get(method, url, body string) (status int, answer string) {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), method, url, strings.NewReader(body))
	must(i.t, err)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	must(i.t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	must(i.t, err)
	return resp.StatusCode, strings.TrimSuffix(string(content), "\n")
}

// accept checks that the job is accepted.
func (i *instance) accept(job string) {
	i.t.Helper()
	if status, answer := i.do("POST", "/jobs", job); status != http.StatusAccepted {
		i.t.Fatalf("POST /jobs %q = %d, %q, want 202", job, status, answer)
	}
}

// wantError checks that the lines after the log are the program's error, one
// line for each failure, and contain these texts.
func (i *instance) wantError(texts ...string) {
	i.t.Helper()
	_, failure, _ := strings.Cut(i.Stderr(), "\njobs: ")
	lines := strings.Split(strings.TrimSuffix(failure, "\n"), "\n")
	ok := len(lines) == len(texts)
	for n, text := range texts {
		ok = ok && strings.Contains(lines[n], text)
	}
	if !ok {
		i.t.Errorf("the error is %q, want %d lines with %q", lines, len(texts), texts)
	}
	if strings.Contains(i.Stderr(), password) {
		i.t.Error("stderr has the password")
	}
}

// wantDoneOnce starts the program again, and checks that it does all remaining
// jobs.
func wantDoneOnce(t testing.TB, p *postgres, jobs int) {
	t.Helper()
	i := run(t, p.url(p.addr), "")
	wantAllDone(t, p)
	i.Signal(syscall.SIGTERM)
	i.WantExit(0)
	times := p.number(`select count(*) from done`)
	distinct := p.number(`select count(distinct job) from done`)
	if times != jobs || distinct != jobs {
		t.Errorf("%d jobs are done, which was committed %d times, want %d", distinct, times, jobs)
	}
}

// TestQueryNeverReturns uses a worker that waits for Postgres until time runs
// out.
func TestQueryNeverReturns(t *testing.T) {
	t.Parallel()
	process.Patiently(t, 3*time.Second, func(timeout time.Duration) bool {
		c := startCollector(t)
		p := startPostgres(t)
		i := run(t, p.url(p.addr), c.URL, fmt.Sprint("-timeout=", timeout))
		p.noteDone()
		p.hang("1ns")
		i.accept("1ns")
		i.accept("2ns")
		p.awaitHanging(1)
		await(t, "the other job is done", func() bool {
			return p.number(`select count(*) from done`) == 1
		})
		i.Signal(syscall.SIGTERM)
		i.WantExit(1)
		p.unhang()
		wantDoneOnce(t, p, 2)
		if _, work, _ := c.counts(); len(work) != 2 {
			return false
		}
		i.wantError("job 1 is left for the next start: quit: no time left for work in flight: ",
			"drain: 1 goroutine left after ")
		return true
	})
}

// leaking is the program with a fault: it never gives one of its connections
// back.
var leaking = process.NewProgram("leaking", func([]string) {
	q := quit.GetQuitEvent()
	s, err := start(q, parseFlags(q))
	if err != nil {
		exit(1, err)
	}
	if _, err := s.db.Acquire(context.Background()); err != nil {
		exit(1, err)
	}
	process.Say("leaked")
	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
})

func TestConnectionNeverGivenBack(t *testing.T) {
	t.Parallel()
	p := startPostgres(t)
	process.Patiently(t, time.Second, func(limit time.Duration) bool {
		c := startCollector(t)
		cmd := leaking.Command(t, "-addr=127.0.0.1:0", "-admin=127.0.0.1:0",
			"-connect-timeout=1m", "-timeout=-1s", fmt.Sprint("-limit=", limit))
		cmd.Env = append(cmd.Env, "DATABASE_URL="+p.url(p.addr),
			"OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL)
		i := ready(t, leaking.StartCommand(t, cmd))
		i.Expect("leaked")
		i.accept("1ms")
		wantAllDone(t, p)
		i.Signal(syscall.SIGTERM)
		i.WantExit(1)
		if _, work, _ := c.counts(); len(work) != 1 {
			return false // the limit applies to the telemetry too
		}
		i.wantError("database (jobs/main.go:")
		i.wantError("): 1 connections were not given back: context deadline exceeded")
		return true
	})
}

// deaf returns the address of a listener that accepts connections and never
// answers, and a channel that gets a value for each connection.
func deaf(t testing.TB) (addr string, taken <-chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	accepted := make(chan struct{}, 1000)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			accepted <- struct{}{}
		}
	})
	t.Cleanup(func() {
		ln.Close()
		conns.Wait()
	})
	return ln.Addr().String(), accepted
}

// TestCollectorDown checks that the service works without a collector, and
// reports at the end that spans were lost.
func TestCollectorDown(t *testing.T) {
	t.Parallel()
	p := startPostgres(t)
	silent, _ := deaf(t)
	for _, test := range []struct{ addr, limit, why string }{
		{freeAddr(t), "1m", "connection refused"},
		{silent, "500ms", "context deadline exceeded"},
	} {
		i := run(t, p.url(p.addr), "http://"+test.addr, "-timeout=-1s", "-limit="+test.limit)
		i.accept("1ms")
		wantAllDone(t, p)
		i.Signal(syscall.SIGTERM)
		i.WantExit(1)
		i.wantError("): spans may be lost: ", "): metrics may be lost: ")
		i.wantError(test.why, test.why)
	}
}

// TestCollectorLostDuringStop stops the collector while a job is being
// finished.
func TestCollectorLostDuringStop(t *testing.T) {
	t.Parallel()
	p, c := startPostgres(t), startCollector(t)
	i := run(t, p.url(p.addr), c.URL, "-workers=1")
	p.noteDone()
	p.hang("1ns")
	i.accept("1ns")
	p.awaitHanging(1)
	i.Signal(syscall.SIGTERM)
	i.AwaitPortClosed(i.addr)
	c.Close()
	p.exec(`select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'`)
	i.WantExit(1)
	i.wantError("job 1 is left for the next start: ERROR: canceling statement due to user request",
		"): spans may be lost: ", "): metrics may be lost: ")
	p.unhang()
	wantDoneOnce(t, p, 1)
}

// TestDatabaseStopsDuringStop stops Postgres while a job is being finished.
func TestDatabaseStopsDuringStop(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		p, c := startPostgres(t), startCollector(t)
		i := run(t, p.url(p.addr), c.URL, "-workers=1")
		p.noteDone()
		p.hang("1ns")
		i.accept("1ns")
		p.awaitHanging(1)
		i.Signal(syscall.SIGTERM)
		i.AwaitPortClosed(i.addr)
		p.stop(sig)
		i.WantExit(1)
		i.wantError("job 1 is left for the next start: ")
		if requests, work, _ := c.counts(); len(requests) != 1 || len(work) != 1 {
			t.Errorf("spans in %d and %d traces, want 1 and 1", len(requests), len(work))
		}
		p.start()
		p.unhang()
		wantDoneOnce(t, p, 1)
	}
}

// TestDatabaseDeafDuringStop uses a Postgres that no longer answers, on
// connections that stay open.
func TestDatabaseDeafDuringStop(t *testing.T) {
	t.Parallel()
	p := startPostgres(t)
	through := startProxy(t, p.addr)
	i := run(t, p.url(through.addr), "", "-timeout=4s", "-limit=1s")
	p.noteDone()
	p.hang("1ns")
	i.accept("1ns")
	p.awaitHanging(1)
	through.hold()
	i.Signal(syscall.SIGTERM)
	i.WantExit(1)
	i.wantError("job 1 is left for the next start: ", "drain: ", "database (jobs/main.go:")
	through.release()
	p.unhang()
	wantDoneOnce(t, p, 1)
}

// TestDatabaseRestarts restarts Postgres under load.
func TestDatabaseRestarts(t *testing.T) {
	t.Parallel()
	p, c := startPostgres(t), startCollector(t)
	i := run(t, p.url(p.addr), c.URL)
	p.noteDone()
	l := startLoad(t, 4, i.addr, false)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		l.await(100, http.StatusAccepted)
		p.stop(sig)
		l.await(20, http.StatusServiceUnavailable)
		p.start()
	}
	l.await(100, http.StatusAccepted)
	l.stop()
	wantAllDone(t, p)
	i.Signal(syscall.SIGTERM)
	i.WantExit(0)
	n := l.count(p, c)
	t.Log(n)
	if n.lost+n.twice+n.missing > 0 {
		t.Error("want none lost, done twice, or missing")
	}
}

// TestDatabaseDownAtStop stops Postgres while no job is in hand: nothing is
// lost.
func TestDatabaseDownAtStop(t *testing.T) {
	t.Parallel()
	p := startPostgres(t)
	i := run(t, p.url(p.addr), "")
	p.stop(syscall.SIGINT)
	i.AwaitStderr("no job done")
	i.Signal(syscall.SIGTERM)
	i.WantExit(0)
}

// TestSecondInterrupt sends the second interrupt while all workers are at work.
// They must not use up all connections.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	p := startPostgres(t)
	i := run(t, p.url(p.addr), "")
	p.noteDone()
	p.hang("1ns")
	for range 4 {
		i.accept("1ns")
	}
	p.awaitHanging(4)
	i.accept("1ns")
	i.Signal(os.Interrupt)
	i.AwaitFired()
	i.InterruptAgain()
	i.WantExit(130)
	got := i.Stderr()
	if !strings.Contains(got, "ending at once") || !strings.Contains(got, "worker 4") {
		t.Errorf("stderr = %q, want it to name the workers", got)
	}
	p.unhang() // needs the lock that the workers held
	wantDoneOnce(t, p, 5)
}

func TestSignalWhileConnecting(t *testing.T) {
	t.Parallel()
	addr, taken := deaf(t)
	i := begin(t, "postgres://jobs@"+addr+"/postgres", "")
	<-taken
	i.Signal(syscall.SIGTERM)
	i.WantExit(0)
}

// TestBadStart checks that a start that fails prints one line on stderr, and
// nothing on stdout.
func TestBadStart(t *testing.T) {
	t.Parallel()
	p := startPostgres(t)
	good := p.url(p.addr)
	taken, nobody := process.TakenAddr(t), freeAddr(t)
	silent, _ := deaf(t)
	for _, test := range []struct {
		database string
		status   int
		why      string
		args     []string
	}{
		{p.url(nobody), 1, "connection refused", nil},
		{p.url(silent), 1, "jobs: database at " + silent + ": context deadline exceeded",
			[]string{"-connect-timeout=500ms"}},
		{strings.Replace(good, password, "wrong", 1), 1, "password authentication failed", nil},
		{good + "s", 1, `database "postgress" does not exist`, nil},
		{p.url("127.0.0.1:port"), 1, "invalid port", nil},
		{good, 1, "jobs: quit: listen tcp " + taken + ": bind: address already in use",
			[]string{"-addr=" + taken}},
		{good, 1, "jobs: admin: quit: listen tcp " + taken + ": bind: address already in use",
			[]string{"-admin=" + taken}},
		{good, 2, "are more than 0", []string{"-workers=0"}},
		{good, 2, "are more than 0", []string{"-limit=0s"}},
		{good, 2, "invalid value", []string{"-timeout=fast"}},
		{good, 2, "not defined: -port", []string{"-port=80"}},
		{good, 2, `unexpected argument "serve"`, []string{"serve"}},
	} {
		i := begin(t, test.database, "", test.args...)
		i.WantExit(test.status)
		got := i.Stderr()
		if i.Stdout() != "" || strings.Index(got, "\n") != len(got)-1 ||
			!strings.HasPrefix(got, "jobs: ") || !strings.Contains(got, test.why) ||
			strings.Contains(got, password) {
			t.Errorf("%s %q: stdout = %q, stderr = %q, want only the latter, one line with %q",
				test.database, test.args, i.Stdout(), got, test.why)
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	p := startPostgres(t)
	i := run(t, p.url(p.addr), "")
	for _, test := range []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"GET", "/jobs/1", "", 404, "404 page not found"},
		{"POST", "/jobs", " 1ms\n", 202, "1"},
		{"POST", "/jobs", "soon", 202, "2"},
		{"POST", "/jobs", strings.Repeat("x", maxJob), 202, "3"},
		{"POST", "/jobs", strings.Repeat("x", maxJob+1), 413, "http: request body too large"},
		{"POST", "/jobs", "", 400, "a job is a text, in UTF-8"},
		{"POST", "/jobs", "\n", 400, "a job is a text, in UTF-8"},
		{"POST", "/jobs", "\xff", 400, "a job is a text, in UTF-8"},
		{"POST", "/jobs", "a\x00b", 400, "a job is a text, in UTF-8"},
		{"PUT", "/jobs", "1ms", 405, "Method Not Allowed"},
		{"GET", "/jobs/x", "", 404, "404 page not found"},
		{"GET", "/jobs/99999999999999999999", "", 404, "404 page not found"},
		{"GET", "/readyz", "", 200, "ready"},
		{"GET", "/", "", 404, "404 page not found"},
	} {
		status, answer := i.do(test.method, test.path, test.body)
		if status != test.status || answer != test.answer {
			t.Errorf("%s %s %.20q = %d, %q, want %d, %q",
				test.method, test.path, test.body, status, answer, test.status, test.answer)
		}
	}
	wantAllDone(t, p)
	for path, want := range map[string]string{
		"/jobs/1": "worked for 1ms",
		"/jobs/2": `failed: time: invalid duration "soon"`,
	} {
		if _, got := i.do("GET", path, ""); got != want {
			t.Errorf("GET %s = %q, want %q", path, got, want)
		}
	}
	for path, want := range map[string]string{
		"/metrics":    "\njobs_accepted_total{",
		"/readyz":     "ready",
		"/debug/quit": "database",
	} {
		if status, got := i.get("GET", i.admin+path, ""); status != 200 ||
			!strings.Contains(got, want) {
			t.Errorf("GET %s = %d, %q, want 200 with %q", path, status, got, want)
		}
	}
	i.Signal(syscall.SIGTERM)
	i.WantExit(0)
}

// TestAdmin checks that the admin server shows the shutdown while a job is
// being finished.
func TestAdmin(t *testing.T) {
	t.Parallel()
	p := startPostgres(t)
	i := run(t, p.url(p.addr), "", "-workers=1")
	p.hang("1ns")
	i.accept("1ns")
	p.awaitHanging(1)
	i.Signal(syscall.SIGTERM)
	i.AwaitPortClosed(i.addr)
	for path, want := range map[string]string{
		"/metrics":    "\njobs_accepted_total{",
		"/debug/quit": "drain",
	} {
		if status, got := i.get("GET", i.admin+path, ""); status != 200 ||
			!strings.Contains(got, want) {
			t.Errorf("GET %s = %d, %q, want 200 with %q", path, status, got, want)
		}
	}
	if status, _ := i.get("GET", i.admin+"/readyz", ""); status != http.StatusServiceUnavailable {
		t.Errorf("GET /readyz = %d, want 503", status)
	}
	p.exec(`select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'`)
	i.WantExit(1)
}

// proxy is a proxy in front of a server. It can be held. Data that is sent
// meanwhile arrives after the release.
type proxy struct {
	addr    string
	held    sync.RWMutex
	release func()
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{addr: ln.Addr().String(), release: func() {}}
	copy := func(to, from net.Conn) {
		defer to.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			p.held.RLock()
			_, err = to.Write(buf[:n])
			p.held.RUnlock()
			if err != nil {
				return
			}
		}
	}
	go func() { // ends when the listener is closed
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", target)
			if err != nil {
				conn.Close()
				continue
			}
			go copy(to, conn) // both end when either side is closed
			go copy(conn, to)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		p.release()
	})
	return p
}

func (p *proxy) hold() {
	p.held.Lock()
	p.release = sync.OnceFunc(p.held.Unlock)
}
