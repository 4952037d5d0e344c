//go:build unix

package main

import (
	"flag"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/gracefulgo/graceful/internal/process"
)

var (
	restarts = flag.Int("restarts", 12, "how often TestRestarts and TestKilled stop the service")
	between  = flag.Int("between", 150, "how many jobs they have accepted before the next stop")
)

func TestMain(m *testing.M) { process.Main(m, main) }

// instance is the running program.
type instance struct {
	*process.Process
	t           testing.TB
	addr, admin string
}

// begin starts the program. Either of the URLs can be empty.
func begin(t testing.TB, database, collector string, args ...string) *process.Process {
	t.Helper()
	defaults := []string{"-addr=127.0.0.1:0", "-admin=127.0.0.1:0",
		"-connect-timeout=1m", "-timeout=2m", "-limit=1m"}
	cmd := process.Command(t, append(defaults, args...)...)
	cmd.Env = append(cmd.Env, "DATABASE_URL="+database,
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector)
	return process.StartCommand(t, cmd)
}

func run(t testing.TB, database, collector string, args ...string) *instance {
	t.Helper()
	return ready(t, begin(t, database, collector, args...))
}

func ready(t testing.TB, p *process.Process) *instance {
	t.Helper()
	i := &instance{t: t, Process: p}
	i.addr = strings.TrimPrefix(i.Line("listening on "), "http://")
	i.admin = strings.TrimSuffix(i.Line("admin: "), "/debug/quit")
	return i
}

// TestRestarts replaces the service again and again while clients send jobs.
// Every other time, the next process starts before the last one stops, as in a
// rolling update; otherwise, after it.
func TestRestarts(t *testing.T) {
	p, c := startPostgres(t), startCollector(t)
	addr := freeAddr(t)
	now := run(t, p.url(p.addr), c.URL, "-addr="+addr)
	p.noteDone()
	l := startLoad(t, 8, addr, false)
	for n := range *restarts {
		l.await(*between, http.StatusAccepted)
		last := now
		if n%2 == 0 {
			now = run(t, p.url(p.addr), c.URL)
			l.to(now.addr)
			last.Signal(syscall.SIGTERM)
			last.WantExit(0)
		} else {
			last.Signal(syscall.SIGTERM)
			last.WantExit(0)
			now = run(t, p.url(p.addr), c.URL)
			l.to(now.addr)
		}
		if got := last.Stderr(); strings.Contains(got, "no job done") {
			t.Errorf("stderr = %q, want no worker to have failed", got)
		}
	}
	l.await(*between, http.StatusAccepted)
	l.stop()
	wantAllDone(t, p)
	now.Signal(syscall.SIGTERM)
	now.WantExit(0)

	n := l.count(p, c)
	t.Logf("%d stops by SIGTERM, %d connections refused, %d requests late: %v",
		*restarts+1, l.refused, l.late, n)
	if n.lost+n.twice+n.begunAgain+n.missing > 0 || n.accepted < (*restarts+1)**between {
		t.Error("want none lost, done twice, begun again or missing")
	}
	// The last values of all processes.
	if got := c.sum("jobs.accepted"); got != n.accepted && l.late == 0 {
		t.Errorf("jobs.accepted = %d, want %d", got, n.accepted)
	}
	if got, want := c.sum("jobs.done"), p.number(`select count(*) from done`); got != want {
		t.Errorf("jobs.done = %d, want %d", got, want)
	}
}

func wantAllDone(t testing.TB, p *postgres) {
	t.Helper()
	await(t, "all jobs are done", func() bool {
		return p.number(`select count(*) from jobs where done_at is null`) == 0
	})
}

// TestKilled ends the service without a shutdown. The jobs in the workers'
// hands begin again, but none is done twice.
func TestKilled(t *testing.T) {
	p, c := startPostgres(t), startCollector(t)
	now := run(t, p.url(p.addr), c.URL)
	p.noteDone()
	l := startLoad(t, 8, now.addr, true)
	for range *restarts {
		l.await(*between, http.StatusAccepted)
		now.Process.Process.Kill()
		now.WantEnd("signal: killed")
		now = run(t, p.url(p.addr), c.URL)
		l.to(now.addr)
	}
	l.await(*between, http.StatusAccepted)
	l.stop()
	wantAllDone(t, p)
	now.Signal(syscall.SIGTERM)
	now.WantExit(0)

	n := l.count(p, c)
	t.Logf(
		"%d times killed, %d requests without an answer: %d jobs accepted: %d lost, %d done twice",
		*restarts, l.broken, n.accepted, n.lost, n.twice)
	if n.lost+n.twice > 0 {
		t.Error("want none lost, and none done twice")
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	i := begin(t, "", "", "-h")
	i.WantExit(0)
	if !strings.HasPrefix(i.Stdout(), "usage: ") || i.Stderr() != "" {
		t.Errorf("-h: stdout %q, stderr %q", i.Stdout(), i.Stderr())
	}
}
