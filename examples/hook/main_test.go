//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// If this variable is set, the program says when it can take a signal, before
// it does anything else.
const ready = "EXAMPLE_HOOK_READY"

func TestMain(m *testing.M) {
	process.Main(m, func() {
		if os.Getenv(ready) != "" {
			quit.GetQuitEvent().NotifySignal()
			fmt.Println("ready")
		}
		main()
	})
}

// start starts the program with a port of its own and returns its URL.
func start(t *testing.T, args ...string) (*process.Process, string) {
	t.Helper()
	p := process.Start(t, append([]string{"-addr=127.0.0.1:0"}, args...)...)
	return p, p.Line("listening on ")
}

// wantClosed checks that each closer was called, once and in order, before the
// program ended.
func wantClosed(t *testing.T, p *process.Process, count int) {
	t.Helper()
	want := fmt.Sprintf("left the cluster\nstore saved, count: %d\n", count)
	_, got, _ := strings.Cut("\n"+p.Stdout(), "\nleft ")
	if "left "+got != want || strings.Count(p.Stdout(), "left") != 1 {
		t.Errorf("stdout = %q, want it to end with %q, and with that alone", p.Stdout(), want)
	}
}

func wantStderr(t *testing.T, p *process.Process, patterns ...string) {
	t.Helper()
	for _, want := range patterns {
		if got := p.Stderr(); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("stderr = %s\nwant %s", got, want)
		}
	}
}

// openStream opens a stream that is read only if the test reads it.
func openStream(t *testing.T, p *process.Process, url string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, "GET /stream HTTP/1.1\r\nHost: example.com\r\n\r\n")
	p.AwaitStdout("streaming to")
	return conn
}

// get returns the status and the body of the answer, over a connection of its
// own.
func get(url string) (int, string, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: 3 * time.Minute}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// TestInFlight stops the program while requests are in flight. They use the
// store long after the hook was called. Closing the store then takes longer
// than everything else. SIGTERM comes again and again after the framework has
// stopped taking signals.
func TestInFlight(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		stop func(p *process.Process)
		args []string
	}{
		{name: "SIGTERM", stop: func(p *process.Process) { p.Signal(syscall.SIGTERM) }},
		{name: "interrupt", stop: func(p *process.Process) { p.Signal(os.Interrupt) }},
		// Without a signal, after all requests have arrived.
		{name: "by itself", stop: func(*process.Process) {}, args: []string{"-stop-after=4s"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const requests = 5
			p, url := start(t, append(test.args, "-saving=1s")...)
			var clients sync.WaitGroup
			for range requests {
				clients.Go(func() {
					status, body, err := get(url + "/work?d=8s")
					if status != http.StatusOK || body != "worked for 8s\n" || err != nil {
						t.Errorf("GET /work = %d, %q, %v, want 200", status, body, err)
					}
				})
			}
			for range requests {
				p.Line("working for 8s")
			}
			test.stop(p)
			p.AwaitPortClosed(strings.TrimPrefix(url, "http://"))
			for range 5 {
				p.Signal(syscall.SIGTERM)
				time.Sleep(100 * time.Millisecond) // or they would merge
			}
			p.WantExit(0)
			clients.Wait()
			wantClosed(t, p, requests)
			if got := strings.Count(p.Stderr(), "quit: stopped"); got != 1 {
				t.Errorf("stopped %d times, want once", got)
			}
		})
	}
}

// TestSignalAtStart sends a signal as early as the program can get one. The
// program ends, whether or not the framework takes the signal.
func TestSignalAtStart(t *testing.T) {
	t.Parallel()
	for range 20 {
		cmd := process.Command(t, "-addr=127.0.0.1:0")
		cmd.Env = append(cmd.Env, ready+"=1")
		p := process.StartCommand(t, cmd)
		p.AwaitStdout("ready\n")
		p.Signal(syscall.SIGTERM)
		p.WantExit(0)
		var got []string // without the line of Run, which may not have begun
		for line := range strings.Lines(p.Stdout()) {
			if !strings.HasPrefix(line, "listening on ") {
				got = append(got, line)
			}
		}
		want := []string{"ready\n", "left the cluster\n", "store saved, count: 0\n"}
		if !slices.Equal(got, want) {
			t.Errorf("stdout = %q, want %q", got, want)
		}
	}
}

// TestGoroutineFails checks that the framework stops when a goroutine of the
// program fails, and that the failure is in the result.
func TestGoroutineFails(t *testing.T) {
	t.Parallel()
	p, _ := start(t, "-fail-after=50ms")
	p.WantExit(1)
	wantStderr(t, p, `(?m)^hook: quit: goroutine member: the cluster has gone\n\z`,
		`cause="the cluster has gone"`)
	wantClosed(t, p, 0)
}

func TestIdle(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	if status, _, err := get(url + "/work?d=1ms"); status != http.StatusOK || err != nil {
		t.Errorf("GET /work = %d, %v, want 200", status, err)
	}
	if status, _, err := get(url + "/work?d=soon"); status != http.StatusBadRequest || err != nil {
		t.Errorf("GET /work = %d, %v, want 400", status, err)
	}
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	wantClosed(t, p, 1)
}

// TestPortTaken makes the framework's Run fail. It then calls no hook.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	p := process.Start(t, "-addr="+taken, "-saving=100ms")
	p.WantExit(1)
	wantStderr(t, p, `(?m)^hook: listen tcp 127\.0\.0\.1:\d+: bind: address already in use\n\z`,
		`quit: fired cause="listen tcp `)
	wantClosed(t, p, 0)
}

// TestStream uses two streams that never end. One is read, the other is not.
func TestStream(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		read func(net.Conn)
	}{
		{"read", func(c net.Conn) { io.Copy(io.Discard, c) }},
		{"never read", func(net.Conn) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// A fifth of the timeout is left for the stream to end.
			process.Patiently(t, 10*time.Second, func(timeout time.Duration) bool {
				p, url := start(t, fmt.Sprint("-timeout=", timeout))
				go test.read(openStream(t, p, url)) // ends with the connection
				p.Signal(syscall.SIGTERM)
				p.WantExit(1)
				wantStderr(t, p, `(?m)^(hook: )?quit: drain: [12] goroutines? left after `,
					`1 goroutine of request:.*\.stream\\n`)
				wantClosed(t, p, 0)
				// The stream must have ended before the framework's time ran
				// out.
				return !strings.Contains(p.Stderr(), "framework: context deadline exceeded")
			})
		})
	}
}

// TestOutOfTime uses a request that takes longer than the shutdown may. It is
// still answered.
func TestOutOfTime(t *testing.T) {
	t.Parallel()
	// A fifth of the timeout is left for the answer.
	process.Patiently(t, 5*time.Second, func(timeout time.Duration) bool {
		p, url := start(t, fmt.Sprint("-timeout=", timeout))
		failed := make(chan error, 1)
		go func() {
			status, body, err := get(url + "/work?d=10m")
			ok := status == http.StatusServiceUnavailable && strings.Contains(body, "no time left")
			if err == nil && !ok {
				t.Errorf("GET /work = %d, %q, want 503 with the cause", status, body)
			}
			failed <- err
		}()
		p.Line("working for 10m0s")
		p.Signal(syscall.SIGTERM)
		p.WantExit(1)
		wantStderr(t, p, `(?m)^(hook: )?quit: drain: [12] goroutines? left after `,
			`1 goroutine of request:.*\.work\\n`)
		wantClosed(t, p, 0)
		return <-failed == nil
	})
}

// TestSlowClient uses a client that never sends the body it has announced.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	wantAnswer := process.SlowToSend(t, strings.TrimPrefix(url, "http://"), "/work?d=1ms")
	p.Line("working for 1ms")
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	wantAnswer()
	wantClosed(t, p, 1)
}

// TestClientGone checks that the stream ends when its client is gone.
func TestClientGone(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	openStream(t, p, url).Close()
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	wantClosed(t, p, 0)
}

// TestSecondInterrupt checks that the process ends at once, with a report,
// though the framework has stopped taking signals.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		first os.Signal
		args  []string
	}{
		{first: os.Interrupt},
		{first: syscall.SIGTERM},
		{first: os.Interrupt, args: []string{"-stop-after=3s"}}, // fired without a signal
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			t.Parallel()
			p, url := start(t, test.args...)
			openStream(t, p, url)
			if test.args != nil {
				p.AwaitFired()
			}
			p.Signal(test.first)
			p.AwaitFired()
			p.AwaitPortClosed(strings.TrimPrefix(url, "http://"))
			p.InterruptAgain()
			p.WantExit(130)
			wantStderr(t, p, "ending at once", "1 goroutine of request:",
				"1 goroutine of framework:", `hook/main\.go:\d+`)
			if strings.Contains(p.Stdout(), "store saved") {
				t.Errorf("stdout = %q, want no store closed while the request was in flight",
					p.Stdout())
			}
			if strings.Contains(p.Stderr(), "hook: ") {
				t.Errorf("stderr = %q, want no result", p.Stderr())
			}
		})
	}
}

// TestStoreClosed uses the store after it was closed. A request that arrives so
// late gets an error as its answer.
func TestStoreClosed(t *testing.T) {
	t.Parallel()
	s := new(store)
	if err := errors.Join(s.add(), s.Close()); err != nil {
		t.Errorf("add, Close = %v, want nil", err)
	}
	if err := s.add(); err == nil {
		t.Error("add after Close = nil, want an error")
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for arg, why := range map[string]string{
		"-timeout=soon": `invalid value "soon" for flag -timeout`,
		"-timeout=0":    "-timeout must be more than 0, not 0s",
		"-timeout=-1s":  "-timeout must be more than 0, not -1s",
		"-port=80":      "not defined: -port",
		"serve":         `unexpected argument "serve"`,
	} {
		process.WantBadStart(t, 2, why, arg)
	}
	p := process.Start(t, "-h")
	p.WantExit(0)
	if !strings.HasPrefix(p.Stdout(), "usage: hook [flags]\n") ||
		!strings.Contains(p.Stdout(), "  -addr address\n") || p.Stderr() != "" {
		t.Errorf("-h: stdout = %q, stderr = %q, want the usage on stdout", p.Stdout(), p.Stderr())
	}
}
