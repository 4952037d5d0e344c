//go:build unix

package main

import (
	"errors"
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

func TestMain(m *testing.M) {
	process.Main(m, func() {
		// The program takes signals once it has called WaitSignal, which the
		// test cannot see. A signal that is sent as soon as the program serves
		// might be too early.
		quit.GetQuitEvent().NotifySignal()
		fmt.Fprintln(os.Stderr, ready)
		main()
	})
}

const (
	ready     = "takes signals"
	portTaken = "listen tcp :8080: bind: address already in use"
)

// takePort listens on the port of the program. Other processes may use the port
// for a while.
func takePort(t *testing.T) net.Listener {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		ln, err := net.Listen("tcp", ":8080")
		if err == nil {
			return ln
		}
		if time.Now().After(end) {
			t.Skipf("the program has a port of its own: %v", err)
		}
	}
}

// start runs the program in dir, and returns once it serves.
func start(t *testing.T, dir string) *process.Process {
	t.Helper()
	for range 10 {
		cmd := process.Command(t)
		cmd.Dir = dir
		p := process.StartCommand(t, cmd)
		p.AwaitStderr(ready)
		for {
			if conn, err := net.Dial("tcp", "127.0.0.1:8080"); err == nil {
				conn.Close()
				return p
			}
			select {
			case <-p.Exited():
			case <-time.After(5 * time.Millisecond):
				continue
			}
			break
		}
		if !strings.Contains(p.Stderr(), portTaken) {
			t.Fatal("the program has ended")
		} // another process was faster
	}
	t.Fatal("the program does not get a port that was free")
	return nil
}

// TestNothingLost stops the program again and again under load. Each request on
// an established connection must be answered, and each accepted job must be
// done once.
func TestNothingLost(t *testing.T) {
	var (
		mu       sync.Mutex          // guards the variables below
		accepted = map[string]bool{} // paths of jobs
		enough   = make(chan struct{})
		want     = 1 // enough is closed after this many accepted jobs
	)
	stopped := make(chan struct{})
	var clients sync.WaitGroup
	client := func() {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true},
			Timeout: 3 * time.Minute}
		for {
			select {
			case <-stopped:
				return
			case <-time.After(5 * time.Millisecond):
			}
			resp, err := c.Post("http://127.0.0.1:8080/jobs", "text/plain",
				strings.NewReader("a job"))
			if errors.Is(err, syscall.ECONNREFUSED) {
				continue
			}
			if err != nil {
				t.Errorf("a request broke: %v", err)
				return
			}
			path, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusAccepted {
				t.Errorf("answer %v, %q, %v, want 202", resp.Status, path, err)
				return
			}
			mu.Lock()
			accepted[strings.TrimSpace(string(path))] = true
			if len(accepted) == want {
				close(enough)
			}
			mu.Unlock()
		}
	}

	// Not later: this closes a port, and would break a client's connection.
	takePort(t).Close()
	dir := t.TempDir()
	var out strings.Builder
	stop := func(p *process.Process) {
		t.Helper()
		p.Signal(syscall.SIGTERM)
		p.WantExit(0)
		out.WriteString(p.Stdout())
	}
	const stops = 20
	for n := range stops {
		p := start(t, dir)
		if n == 0 {
			for range 4 {
				clients.Go(client)
			}
		}
		select {
		case <-enough:
		case <-time.After(time.Minute):
			t.Fatal("no client is answered")
		}
		if n == stops-1 {
			close(stopped)
			clients.Wait()
		}
		stop(p)
		mu.Lock()
		want, enough = len(accepted)+10, make(chan struct{})
		mu.Unlock()
	}

	p := start(t, dir)
	for path := range accepted {
		for result := ""; result != "A JOB"; time.Sleep(5 * time.Millisecond) {
			resp, err := http.Get("http://127.0.0.1:8080" + path)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if result = strings.TrimSpace(string(text)); result != "A JOB" &&
				result != "not done yet" {
				t.Fatalf("%s: %q", path, result)
			}
		}
	}
	stop(p)
	times := map[string]int{}
	for line := range strings.Lines(out.String()) {
		times["/jobs/"+strings.TrimSpace(strings.TrimPrefix(line, "done: job "))]++
	}
	for path := range accepted {
		if times[path] != 1 {
			t.Errorf("%s was done %d times, want once", path, times[path])
		}
	}
	t.Logf("%d stops, %d jobs accepted", stops+1, len(accepted))
}

// TestPortTaken checks that the program shuts down if its port is taken.
func TestPortTaken(t *testing.T) {
	defer takePort(t).Close()
	cmd := process.Command(t)
	cmd.Dir = t.TempDir()
	p := process.StartCommand(t, cmd)
	p.WantExit(1)
	if got := p.Stderr(); !strings.Contains(got, portTaken) {
		t.Errorf("stderr = %q, want it to say why", got)
	}
}

// TestSecondProcess checks that a second process in the same directory ends
// without doing jobs of the first one, which is still at work.
func TestSecondProcess(t *testing.T) {
	takePort(t).Close()
	dir := t.TempDir()
	p := start(t, dir)
	cmd := process.Command(t)
	cmd.Dir = dir
	second := process.StartCommand(t, cmd)
	second.WantExit(1)
	if got := second.Stderr(); !strings.Contains(got, "jobs.db: database is locked") {
		t.Errorf("stderr = %q, want it to say that the database is another's", got)
	}
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
}

// TestNoDatabase checks that the error names the file.
func TestNoDatabase(t *testing.T) {
	cmd := process.Command(t)
	cmd.Dir = t.TempDir()
	if err := os.Mkdir(cmd.Dir+"/jobs.db", 0o700); err != nil {
		t.Fatal(err)
	}
	p := process.StartCommand(t, cmd)
	p.WantExit(1)
	if got := p.Stderr(); !strings.Contains(got, "jobs.db") {
		t.Errorf("stderr = %q, want it to name the file", got)
	}
}

// TestDatabaseFails checks that the program ends with status 1 if the database
// fails while it runs.
func TestDatabaseFails(t *testing.T) {
	takePort(t).Close()
	dir := t.TempDir()
	jobs, err := openJobs(dir + "/jobs.db")
	if err != nil {
		t.Fatal(err)
	}
	const trigger = `CREATE TRIGGER fails BEFORE UPDATE ON jobs ` +
		`BEGIN SELECT RAISE(ABORT, 'no result today'); END`
	_, err = jobs.db.Exec(trigger)
	if err := errors.Join(err, jobs.db.Close()); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir)
	// It wakes the worker, which fails.
	resp, err := http.Post("http://127.0.0.1:8080/jobs", "text/plain", strings.NewReader("a job"))
	if err == nil {
		resp.Body.Close()
	}
	p.WantExit(1)
	if got := p.Stderr(); !strings.Contains(got, "worker: ") ||
		!strings.Contains(got, "no result today") {
		t.Errorf("stderr = %q, want it to name the worker and the failure", got)
	}
}
