//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

// start starts the program with a port of its own, and returns its URL too.
func start(t *testing.T, args ...string) (p *process.Process, url string) {
	t.Helper()
	p = process.Start(t, append([]string{"-addr=127.0.0.1:0", "-tick=20ms"}, args...)...)
	return p, p.Line("listening on ")
}

// newClient returns a client with connections of its own.
func newClient(t *testing.T) *http.Client {
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// conn is a connection to the program: a Transport may leave one that it could
// keep, and dial another.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, url string) *http.Client {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &http.Client{Transport: conn{c, bufio.NewReader(c)}}
}

func (c conn) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Write(c); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.r, r)
}

func get(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	resp, err := c.Get(url)
	return read(t, resp, err)
}

func read(t *testing.T, resp *http.Response, err error) (status int, body string) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(b)
}

type answer struct {
	status int
	body   string
}

// inWork sends a request, and returns when it is in work.
func inWork(t *testing.T, p *process.Process, url, query string) <-chan answer {
	t.Helper()
	c := make(chan answer, 1)
	client := newClient(t)
	go func() {
		status, body := get(t, client, url+"/work?"+query)
		c <- answer{status, body}
	}()
	p.AwaitStderr(": working for ")
	return c
}

func stopService(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := newClient(t).Post(url+"/service/stop", "", nil)
	return read(t, resp, err)
}

func wantText(t *testing.T, what, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%s = %q, want it with %q", what, text, want)
		}
	}
}

// wantStopped waits for the end, and wants that all tickers had said that they
// stop.
func wantStopped(t *testing.T, p *process.Process, n int) {
	t.Helper()
	p.WantExit(0)
	before, after, _ := strings.Cut(p.Stdout(), "all have stopped\n")
	for i := range n {
		for _, who := range []string{"\nticker", "\nservice ticker"} {
			stop := fmt.Sprintf("%s %d: stop\n", who, i+1)
			if got := strings.Count("\n"+before, stop); got != 1 {
				t.Errorf("stdout has %q %d times, want 1:\n%s", stop, got, p.Stdout())
			}
		}
	}
	if after != "" {
		t.Errorf("stdout after the end = %q, want none", after)
	}
}

func TestTickersAreAwaited(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		p, _ := start(t, "-n=20")
		for i := range 20 {
			p.AwaitStdout(fmt.Sprintf("\nticker %d: tick\n", i+1))
			p.AwaitStdout(fmt.Sprintf("\nservice ticker %d: tick\n", i+1))
		}
		p.Signal(sig)
		wantStopped(t, p, 20)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"stray"}, {"-no-such-flag"}, {"-tick=0s"}, {"-timeout=soon"}} {
		p := process.Start(t, args...)
		p.WantExit(2)
		if p.Stdout() != "" || p.Stderr() == "" {
			t.Errorf("context %q: stdout = %q, stderr = %q, want only the latter", args, p.Stdout(), p.Stderr())
		}
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	p := process.Start(t, "-addr="+taken)
	p.WantExit(1)
	if got := p.Stderr(); !strings.HasPrefix(got, "context: listen tcp "+taken) || strings.Count(got, "\n") != 1 {
		t.Errorf("stderr = %q, want a line that names the address", got)
	}
	if p.Stdout() != "" {
		t.Errorf("stdout = %q, want none", p.Stdout())
	}
}

func TestServiceIsStoppedAlone(t *testing.T) {
	t.Parallel()
	p, url := start(t, "-n=2")
	status, body := stopService(t, url)
	if status != http.StatusOK {
		t.Errorf("POST /service/stop = %d, want 200", status)
	}
	wantText(t, "POST /service/stop", body, "quit: stopped", "drain")
	p.AwaitStdout("\nservice ticker 1: stop\n") // it has been written, and may be on the way
	p.AwaitStdout("\nservice ticker 2: stop\n")

	// The program goes on: its tickers tick, and its server answers.
	so := len(p.Stdout())
	for i := 0; strings.Count(p.Stdout()[so:], "\nticker 1: tick\n") < 3; i++ {
		if status, _ := get(t, newClient(t), url+"/work?d=20ms"); status != http.StatusOK || i == 1000 {
			t.Fatalf("GET /work = %d after %d requests, want 200, and ticks", status, i)
		}
	}
	if got := p.Stdout()[so:]; strings.Contains(got, "service") || strings.Contains(got, ": stop") {
		t.Errorf("stdout after the stop of the service = %q, want ticks of the program only", got)
	}
	if status, _ := stopService(t, url); status != http.StatusOK { // once more: the same
		t.Errorf("POST /service/stop again = %d, want 200", status)
	}
	p.Signal(syscall.SIGTERM)
	wantStopped(t, p, 2)
}

func TestStuckServiceStoppedAlone(t *testing.T) {
	t.Parallel()
	process.Patiently(t, 2*time.Second, func(timeout time.Duration) bool { // the tickers have less than half of it to stop
		p, url := start(t, "-stuck", fmt.Sprint("-timeout=", timeout))
		status, report := stopService(t, url)
		if status != http.StatusInternalServerError {
			t.Errorf("POST /service/stop = %d, want 500", status)
		}
		wantText(t, "POST /service/stop", report, "1 goroutine of stuck:")
		// The time that the stop has counts from the call, and the report from
		// what comes next.
		_, rest, _ := strings.Cut(report, " of ")
		of, _, _ := strings.Cut(rest, ", cause: ")
		if got, err := time.ParseDuration(of); err != nil || got > timeout/2 || got < timeout/4 {
			t.Errorf("POST /service/stop = %q, want it to be of %v", report, timeout/2)
		}
		if status, body := get(t, newClient(t), url+"/work?d=0s"); status != http.StatusOK {
			t.Errorf("GET /work = %d %q, want 200", status, body)
		}
		p.Signal(syscall.SIGTERM)
		p.WantExit(1)
		return strings.Contains(report, "drain: 1 goroutine left") && stuckAlone(p)
	})
}

func TestStuckServiceStoppedWithTheProgram(t *testing.T) {
	t.Parallel()
	process.Patiently(t, 2*time.Second, func(timeout time.Duration) bool {
		p, _ := start(t, "-stuck", fmt.Sprint("-timeout=", timeout))
		p.Signal(syscall.SIGTERM)
		p.WantExit(1)
		wantText(t, "stderr", p.Stderr(), "1 goroutine of stuck:")
		return stuckAlone(p)
	})
}

// stuckAlone reports whether all but one goroutine of the service ended in
// time.
func stuckAlone(p *process.Process) bool {
	return strings.Contains(p.Stderr(), "context: quit: service (context/main.go:") && strings.Contains(p.Stderr(), "drain: 1 goroutine left") &&
		strings.Contains(p.Stdout(), "\nticker 3: stop\n") && strings.Contains(p.Stdout(), "\nservice ticker 3: stop\n")
}

func TestServiceFails(t *testing.T) {
	t.Parallel()
	p, _ := start(t, "-fail")
	p.WantExit(1) // by itself
	wantText(t, "stdout", p.Stdout(), "ticker 3: stop\n", "service ticker 3: stop\n")
	wantText(t, "stderr", p.Stderr(), "context: quit: service (context/main.go:", "goroutine failing: out of ticks\n", " event=service")
}

func TestValuesAreInherited(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	a := dial(t, url)
	get(t, a, url+"/work?d=0s") // and so it is the first
	b := dial(t, url)
	for _, test := range []struct {
		client *http.Client
		conn   int
	}{{a, 1}, {a, 1}, {b, 2}, {a, 1}, {b, 2}} {
		want := fmt.Sprintf("%s, connection %d: worked for 0s\n", strings.TrimPrefix(url, "http://"), test.conn)
		if status, body := get(t, test.client, url+"/work?d=0s"); status != 200 || body != want {
			t.Errorf("GET /work = %d %q, want 200 %q", status, body, want)
		}
	}
	for _, query := range []string{"", "d=x", "d=1s&timeout=x"} {
		if status, body := get(t, a, url+"/work?"+query); status != http.StatusBadRequest {
			t.Errorf("GET /work?%s = %d %q, want 400", query, status, body)
		}
	}
	p.Signal(syscall.SIGTERM)
	wantStopped(t, p, 3)
}

func TestEarlierDeadlineCounts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ limit, timeout, cause, request string }{
		{"1h", "30ms", errOwn.Error(), "<nil>"}, // the child ends, and the parent does not
		{"30ms", "1h", errLimit.Error(), context.DeadlineExceeded.Error()},
		{"30ms", "", errLimit.Error(), context.DeadlineExceeded.Error()},
	} {
		p, url := start(t, "-limit="+test.limit)
		client := dial(t, url)
		for range 2 { // on one connection, which ends with neither
			status, body := get(t, client, url+"/work?d=1h&timeout="+test.timeout)
			if want := "connection 1: stopped: " + test.cause + "\n"; status != http.StatusGatewayTimeout || !strings.HasSuffix(body, want) {
				t.Errorf("GET /work = %d %q, want 504 with %q", status, body, want)
			}
		}
		p.AwaitStderr("stopped: " + test.cause + " (the request: " + test.request + ")\n")
		p.Signal(syscall.SIGTERM)
		wantStopped(t, p, 3)
	}
}

func TestRequestLivesOnAfterTheFire(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	got := inWork(t, p, url, "d=2s")
	p.Signal(syscall.SIGTERM)
	p.AwaitFired()
	p.AwaitPortClosed(strings.TrimPrefix(url, "http://"))
	if a := <-got; a.status != http.StatusOK || !strings.HasSuffix(a.body, ": worked for 2s\n") {
		t.Errorf("GET /work = %v, want 200", a)
	}
	wantStopped(t, p, 3)
}

func TestClientGoneEndsItsOwnRequestOnly(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	stays := inWork(t, p, url, "d=2s")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	goes := make(chan error, 1)
	client := newClient(t)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, "GET", url+"/work?d=1h", nil)
		_, err := client.Do(req)
		goes <- err
	}()
	p.AwaitStderr("connection 2: working for 1h0m0s")
	cancel()
	if err := <-goes; !errors.Is(err, context.Canceled) {
		t.Errorf("the client that goes away got %v, want %v", err, context.Canceled)
	}
	p.AwaitStderr("connection 2: stopped: the client has gone (the request: context canceled)\n")
	if a := <-stays; a.status != http.StatusOK {
		t.Errorf("GET /work of the client that stays = %v, want 200", a)
	}
	if got := strings.Count(p.Stderr(), ": stopped: "); got != 1 {
		t.Errorf("stderr has %d requests stopped, want 1", got)
	}
	p.Signal(syscall.SIGTERM)
	wantStopped(t, p, 3)
}

func TestTimeForTheRequestRunsOut(t *testing.T) {
	t.Parallel()
	const cause = "connection 1: stopped: quit: no time left for the request"
	process.Patiently(t, 10*time.Second, func(timeout time.Duration) bool { // of which the request has half a second to say so
		p, url := start(t, fmt.Sprint("-timeout=", timeout))
		failed := make(chan error, 1)
		client := newClient(t)
		go func() {
			resp, err := client.Get(url + "/work?d=1h&timeout=1h")
			if err == nil {
				var body []byte
				body, err = io.ReadAll(resp.Body)
				if err == nil && (resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), cause)) {
					t.Errorf("GET /work = %d %q, want 503 with %q", resp.StatusCode, body, cause)
				}
			}
			failed <- err
		}()
		p.AwaitStderr(": working for ")
		p.Signal(syscall.SIGTERM)
		p.WantExit(1)
		if <-failed != nil {
			return false
		}
		wantText(t, "stderr", p.Stderr(), cause, "context: quit: *http.Server (context/main.go:")
		wantText(t, "stdout", p.Stdout(), "\nticker 3: stop\n", "\nservice ticker 3: stop\n")
		return true
	})
}

// A client that never sends the body that it has announced does not hold up the
// stop until the time for that runs out.
func TestClientThatIsSlowToSend(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	wantAnswer := process.SlowToSend(t, strings.TrimPrefix(url, "http://"), "/work?d=0s")
	p.AwaitStderr(": worked for 0s")
	p.Signal(syscall.SIGTERM)
	wantStopped(t, p, 3)
	wantAnswer()
}

// A client that sends and never reads does not hold up the stop for longer than
// it may take.
func TestClientThatNeverReads(t *testing.T) {
	t.Parallel()
	process.Patiently(t, 4*time.Second, func(timeout time.Duration) bool { // of which a tenth is left for all others to end
		p, url := start(t, fmt.Sprint("-timeout=", timeout))
		// The answer repeats the query.
		process.NeverRead(t, strings.TrimPrefix(url, "http://"), "GET /work?d="+strings.Repeat("x", 500_000)+" HTTP/1.1\r\nHost: x\r\n\r\n")
		p.Signal(syscall.SIGTERM)
		p.WantExit(1)
		wantText(t, "stderr", p.Stderr(), "context: quit: *http.Server (context/main.go:")
		return strings.Contains(p.Stdout(), "\nticker 3: stop\n") && strings.Contains(p.Stdout(), "\nservice ticker 3: stop\n")
	})
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	inWork := newClient(t)
	go inWork.Get(url + "/work?d=1h") // its error is that of the end
	p.AwaitStderr("connection 1: working for 1h0m0s")
	p.Signal(os.Interrupt)
	p.AwaitFired()
	p.InterruptAgain()
	p.WantExit(130)
	wantText(t, "stderr", p.Stderr(), "ending at once", "*http.Server")
}
