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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

// start starts the program with a port of its own and returns its URL.
func start(t *testing.T, args ...string) (*process.Process, string) {
	t.Helper()
	p := process.Start(t, append([]string{"-addr=127.0.0.1:0"}, args...)...)
	return p, p.Line("listening on ")
}

// wantClosed wants each closer to have been called, once and in order, before the
// program ended.
func wantClosed(t *testing.T, p *process.Process, count int) {
	t.Helper()
	want := fmt.Sprintf("left the cluster\nstore saved, count: %d\n", count)
	if _, got, _ := strings.Cut("\n"+p.Stdout(), "\nleft "); "left "+got != want || strings.Count(p.Stdout(), "left") != 1 {
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

// get returns the status and the body of the answer, over a connection of its own.
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

// TestInFlight stops the program while requests are in flight, which use the store
// long after the hooks were called. Then closing takes longer than all else.
func TestInFlight(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(fmt.Sprint(sig), func(t *testing.T) {
			t.Parallel()
			const requests = 5
			p, url := start(t, "-saving=1s")
			var clients sync.WaitGroup
			for range requests {
				clients.Go(func() {
					status, body, err := get(url + "/work?d=2s")
					if status != http.StatusOK || body != "worked for 2s\n" || err != nil {
						t.Errorf("GET /work = %d, %q, %v, want 200", status, body, err)
					}
				})
			}
			for range requests {
				p.Line("working for 2s")
			}
			p.Signal(sig)
			p.AwaitPortClosed(strings.TrimPrefix(url, "http://"))
			p.WantExit(0)
			clients.Wait()
			wantClosed(t, p, requests)
			if got := strings.Count(p.Stderr(), "quit: stopped"); got != 1 {
				t.Errorf("stopped %d times, want once", got)
			}
		})
	}
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

// TestPortTaken has the framework's Run fail, which then calls no hook.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	p := process.Start(t, "-addr="+taken, "-saving=100ms")
	p.WantExit(1)
	wantStderr(t, p, `(?m)^hook: listen tcp 127\.0\.0\.1:\d+: bind: address already in use\n\z`)
	wantClosed(t, p, 0)
}

// TestStream has two streams that never end, of which one is read and one is not.
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
			process.Patiently(t, 10*time.Second, func(timeout time.Duration) bool { // of which the stream has a fifth to end
				p, url := start(t, fmt.Sprint("-timeout=", timeout))
				conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				io.WriteString(conn, "GET /stream HTTP/1.1\r\nHost: example.com\r\n\r\n")
				p.AwaitStdout("streaming to")
				go test.read(conn) // ends with the connection
				p.Signal(syscall.SIGTERM)
				p.WantExit(1)
				wantStderr(t, p, `(?m)^(hook: )?quit: drain: 1 goroutine left after `, `1 goroutine of request:.*\.stream\\n`)
				wantClosed(t, p, 0)
				// The stream is to have ended before the framework's time ran out.
				return !strings.Contains(p.Stderr(), "framework: ")
			})
		})
	}
}

// TestOutOfTime has a request take longer than the stop may: it is answered all the same.
func TestOutOfTime(t *testing.T) {
	t.Parallel()
	process.Patiently(t, 5*time.Second, func(timeout time.Duration) bool { // of which a fifth is left for the answer
		p, url := start(t, fmt.Sprint("-timeout=", timeout))
		failed := make(chan error, 1)
		go func() {
			status, body, err := get(url + "/work?d=10m")
			if err == nil && (status != http.StatusServiceUnavailable || !strings.Contains(body, "no time left")) {
				t.Errorf("GET /work = %d, %q, want 503 with the cause", status, body)
			}
			failed <- err
		}()
		p.Line("working for 10m0s")
		p.Signal(syscall.SIGTERM)
		p.WantExit(1)
		wantStderr(t, p, `(?m)^(hook: )?quit: drain: 1 goroutine left after `, `1 goroutine of request:.*\.work\\n`)
		wantClosed(t, p, 0)
		return <-failed == nil
	})
}

// TestSlowClient has a client that never sends the body that it has announced.
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

// TestClientGone wants the stream to end when nobody is there to get it.
func TestClientGone(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET /stream HTTP/1.1\r\nHost: example.com\r\n\r\n")
	p.AwaitStdout("streaming to")
	conn.Close()
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	wantClosed(t, p, 0)
}

// TestSecondInterrupt wants what the framework does, not what package quit would do.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	p, url := start(t)
	go get(url + "/work?d=1m")
	p.Line("working for 1m0s")
	p.Signal(os.Interrupt)
	p.AwaitFired()
	p.Signal(os.Interrupt)
	p.WantEnd("signal: interrupt")
	if strings.Contains(p.Stdout(), "store saved") {
		t.Errorf("stdout = %q, want no store closed while the request was in flight", p.Stdout())
	}
	if strings.Contains(p.Stderr(), "hook: ") {
		t.Errorf("stderr = %q, want no result", p.Stderr())
	}
}

// TestStoreClosed uses the store after it was closed: a request that comes
// so late is answered, if not with what it wants.
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

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for arg, stderr := range map[string]string{
		"-timeout=soon": `invalid value "soon"`,
		"-timeout=0":    `^hook: -timeout must be more than 0, not 0s\n$`,
		"-timeout=-1s":  `^hook: -timeout must be more than 0, not -1s\n$`,
		"-port=80":      `not defined: -port`,
		"serve":         `^hook: unexpected argument "serve"\n$`,
	} {
		p := process.Start(t, arg)
		p.WantExit(2)
		wantStderr(t, p, stderr)
		if p.Stdout() != "" {
			t.Errorf("%s: stdout = %q, want none", arg, p.Stdout())
		}
	}
}
