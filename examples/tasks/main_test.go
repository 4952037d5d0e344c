//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

// outOfTime is the cause when the time of the shutdown has run out.
const outOfTime = "quit: no time left for the request: context deadline exceeded"

// start starts the program with a port of its own, and returns its URL too.
func start(t *testing.T, args ...string) (p *process.Process, url string) {
	t.Helper()
	p = process.Start(t, append([]string{"-addr=127.0.0.1:0"}, args...)...)
	return p, p.Line("listening on ")
}

// wantStopped stops the program, and checks that it ends without an error.
func wantStopped(t *testing.T, p *process.Process) {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	if !strings.HasSuffix(p.Stdout(), "\nno task is left\n") {
		t.Errorf("stdout = %q, want it to end with %q", p.Stdout(), "no task is left")
	}
}

// newClient returns a client with connections of its own.
func newClient(t *testing.T) *http.Client {
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

type answer struct {
	status int
	body   string
	err    error
}

func get(c *http.Client, url, query string) answer {
	resp, err := c.Get(url + "/task?" + query)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(body), err}
}

// lines returns a line for each subtask, with its result.
func lines(results ...string) string {
	var b strings.Builder
	for i, r := range results {
		fmt.Fprintf(&b, "subtask %d: %s\n", i+1, r)
	}
	return b.String()
}

// TestLimits checks that each limit stops the work below it and no other, and
// is named as the cause.
func TestLimits(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	inTime := time.Now().Add(time.Hour).Unix()
	stopped := func(cause error) string { return "stopped: " + cause.Error() }
	for _, test := range []struct {
		query  string
		status int
		body   string
	}{
		{query: "sub=0s&sub=1ms", status: 200, body: lines("done", "done")},
		{query: "sub=0s,1h&timeout=1h", status: 200, body: lines("done")},
		{query: fmt.Sprint("sub=1ms&deadline=", inTime), status: 200, body: lines("done")},
		// The subtask's limit ends it alone: the task and the other subtasks go
		// on.
		{query: "sub=1ms&sub=1h,20ms&sub=1s", status: 200,
			body: lines("done", stopped(errSubtask), "done")},
		// The task's limits end all subtasks that still run. Subtasks that
		// their own limit ended earlier keep their cause.
		{query: "sub=0s&sub=1h&sub=1h,1ms&sub=1h,1h&timeout=2s", status: 504,
			body: lines("done", stopped(errTask), stopped(errSubtask), stopped(errTask))},
		{query: "sub=1h&sub=1h,1h&deadline=1", status: 504,
			body: lines(stopped(errDeadline), stopped(errDeadline))},
		// The earlier one counts.
		{query: "sub=1h&timeout=1h&deadline=1", status: 504, body: lines(stopped(errDeadline))},
		{query: fmt.Sprint("sub=1h&timeout=20ms&deadline=", inTime), status: 504,
			body: lines(stopped(errTask))},
	} {
		if got := get(newClient(t), url, test.query); got != (answer{test.status, test.body, nil}) {
			t.Errorf("GET /task?%s = %v, want %d %q", test.query, got, test.status, test.body)
		}
	}
	wantStopped(t, p)
}

func TestServersLimit(t *testing.T) {
	t.Parallel()
	p, url := start(t, "-limit=30ms")
	for _, query := range []string{"sub=1h", "sub=1h,1h&timeout=1h"} {
		want := answer{504, lines("stopped: " + errServer.Error()), nil}
		if got := get(newClient(t), url, query); got != want {
			t.Errorf("GET /task?%s = %v, want %v", query, got, want)
		}
	}
	wantStopped(t, p)
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	for query, why := range map[string]string{
		"":                             "sub: want 1 to 16, not 0",
		"sub=x":                        "sub: ",
		"sub=":                         "sub: ",
		"sub=1s,":                      "sub: ",
		"sub=1s,0s":                    "sub: 0s is no time",
		"sub=1s&timeout=x":             "timeout: ",
		"sub=1s&timeout=-1s":           "timeout: -1s is no time",
		"sub=1s&deadline=tomorrow":     `deadline: want seconds since 1970, not "tomorrow"`,
		strings.Repeat("sub=1ms&", 17): "sub: want 1 to 16, not 17",
	} {
		got := get(newClient(t), url, query)
		if got.status != 400 || !strings.HasPrefix(got.body, why) ||
			strings.Count(got.body, "\n") != 1 {
			t.Errorf("GET /task?%s = %v, want 400 and a line with %q", query, got, why)
		}
	}
	wantStopped(t, p)
}

// inWork sends a request with a client of its own, and returns when its
// subtasks are in progress. The program's connections are counted from 1.
func inWork(t *testing.T, p *process.Process, url string, conn, subtasks int, query string) (
	<-chan answer, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	c := make(chan answer, 1)
	client := newClient(t)
	client.Transport = withContext{client.Transport, ctx}
	go func() { c <- get(client, url, query) }()
	for i := range subtasks {
		p.AwaitStderr(fmt.Sprintf("connection %d, subtask %d: working for ", conn, i+1))
	}
	return c, cancel
}

// withContext sends each request with ctx.
type withContext struct {
	http.RoundTripper
	ctx context.Context
}

func (w withContext) RoundTrip(r *http.Request) (*http.Response, error) {
	return w.RoundTripper.RoundTrip(r.WithContext(w.ctx))
}

// TestClientGone checks that a client that goes away ends its task with all
// subtasks, and no other task.
func TestClientGone(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	stays, _ := inWork(t, p, url, 1, 1, "sub=2s")
	goes, cancel := inWork(t, p, url, 2, 2, "sub=1h&sub=1h,1h")
	cancel()
	if got := <-goes; !errors.Is(got.err, context.Canceled) {
		t.Errorf("the client that goes away got %v, want %v", got, context.Canceled)
	}
	for i := range 2 {
		p.AwaitStderr(fmt.Sprintf("connection 2, subtask %d: stopped: the client has gone\n", i+1))
	}
	if got, want := <-stays, (answer{200, lines("done"), nil}); got != want {
		t.Errorf("GET /task of the client that stays = %v, want %v", got, want)
	}
	wantStopped(t, p)
}

// TestTasksLiveOnAfterTheFire checks that the signal stops neither a task nor
// its subtasks, and that their own limits still count.
func TestTasksLiveOnAfterTheFire(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p, url := start(t)
		task, _ := inWork(t, p, url, 1, 2, "sub=2s&sub=1h,1s")
		p.Signal(sig)
		p.AwaitFired()
		p.AwaitPortClosed(strings.TrimPrefix(url, "http://"))
		want := answer{200, lines("done", "stopped: "+errSubtask.Error()), nil}
		if got := <-task; got != want {
			t.Errorf("GET /task = %v, want %v", got, want)
		}
		p.WantExit(0)
	}
}

// TestClientGoneDuringTheStop checks that a task whose client is gone does not
// delay the shutdown.
func TestClientGoneDuringTheStop(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	_, cancel := inWork(t, p, url, 1, 2, "sub=1h&sub=1h")
	p.Signal(syscall.SIGTERM)
	p.AwaitFired()
	cancel()
	p.WantExit(0)
	if got := strings.Count(p.Stderr(), ": stopped: the client has gone\n"); got != 2 {
		t.Errorf("stderr has %d subtasks that were stopped by their client, want 2", got)
	}
}

// TestTimeOfTheStopRunsOut checks that a task and all of its subtasks are
// stopped when the time runs out, and are answered.
func TestTimeOfTheStopRunsOut(t *testing.T) {
	t.Parallel()
	// Half a second of the timeout is left for the answer.
	process.Patiently(t, 10*time.Second, func(timeout time.Duration) bool {
		p, url := start(t, fmt.Sprint("-timeout=", timeout), "-limit=2h")
		task, _ := inWork(t, p, url, 1, 3, "sub=1h&sub=1h,1h&sub=0s&timeout=1h")
		p.AwaitStderr("connection 1, subtask 3: done\n")
		p.Signal(syscall.SIGTERM)
		p.WantExit(1)
		got := <-task
		if got.err != nil {
			return false
		}
		want := answer{503, lines("stopped: "+outOfTime, "stopped: "+outOfTime, "done"), nil}
		if got != want {
			t.Errorf("GET /task = %v, want %v", got, want)
		}
		if want := "tasks: quit: *http.Server (tasks/main.go:"; !strings.Contains(
			p.Stderr(), want) {
			t.Errorf("stderr = %q, want it with %q", p.Stderr(), want)
		}
		return true
	})
}

// TestConnections checks that the subtasks see the number of the connection,
// which is a value of a context above theirs.
func TestConnections(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	for conn := 1; conn <= 3; conn++ { // each client has its own
		get(newClient(t), url, "sub=0s&sub=0s")
		for i := range 2 {
			p.AwaitStderr(fmt.Sprintf("connection %d, subtask %d: done\n", conn, i+1))
		}
	}
	wantStopped(t, p)
}

// TestClientThatIsSlowToSend uses a client that never sends the body it has
// announced. It does not delay the shutdown until time runs out.
func TestClientThatIsSlowToSend(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	wantAnswer := process.SlowToSend(t, strings.TrimPrefix(url, "http://"), "/task?sub=0s")
	p.AwaitStderr("subtask 1: done")
	wantStopped(t, p)
	wantAnswer()
}

// TestClientThatNeverReads uses a client that sends and never reads. The
// shutdown still ends in time.
func TestClientThatNeverReads(t *testing.T) {
	t.Parallel()
	p, url := start(t, "-timeout=4s")
	// The answer repeats the query.
	query := "/task?sub=" + strings.Repeat("x", 500_000)
	request := "GET " + query + " HTTP/1.1\r\nHost: x\r\n\r\n"
	process.NeverRead(t, strings.TrimPrefix(url, "http://"), request)
	p.Signal(syscall.SIGTERM)
	p.WantExit(1)
	if want := "tasks: quit: *http.Server (tasks/main.go:"; !strings.Contains(p.Stderr(), want) {
		t.Errorf("stderr = %q, want it with %q", p.Stderr(), want)
	}
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	inWork(t, p, url, 1, 2, "sub=1h&sub=1h")
	p.Signal(os.Interrupt)
	p.AwaitFired()
	p.InterruptAgain()
	p.WantExit(130)
	for _, want := range []string{"ending at once", "*http.Server", "subtask.run"} {
		if !strings.Contains(p.Stderr(), want) {
			t.Errorf("stderr = %q, want it with %q", p.Stderr(), want)
		}
	}
}

func TestBadStart(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	process.WantBadStart(t, 1, "listen tcp "+taken+": bind: address already in use", "-addr="+taken)
	for arg, why := range map[string]string{
		"-limit=0":      "-limit must be more than 0, not 0s",
		"-timeout=soon": `invalid value "soon" for flag -timeout`,
		"-no-such-flag": "not defined: -no-such-flag",
		"start":         `unexpected argument "start"`,
	} {
		process.WantBadStart(t, 2, why, arg)
	}
	p := process.Start(t, "-h")
	p.WantExit(0)
	if !strings.HasPrefix(p.Stdout(), "usage: tasks [flags]\n") ||
		!strings.Contains(p.Stdout(), "  -addr address\n") || p.Stderr() != "" {
		t.Errorf("-h: stdout = %q, stderr = %q, want the usage on stdout", p.Stdout(), p.Stderr())
	}
}
