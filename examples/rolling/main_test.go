//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

func needHAProxy(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestRollingUpdate is a short version of the command. HAProxy's retries hide
// refused connections; even they must not hide the article's losses.
//
// Where no request may be lost, a slow machine must not lose any either. So
// there are fewer requests, and HAProxy does not remove replicas that are
// merely slow to answer a check. (A replica that quits says at once that it is
// not ready.) The Delay and the linger are long, in case HAProxy itself is slow
// to notice, or to use a connection once more. So the test detects a shutdown
// that regularly loses requests; the command's figures show one that loses a
// request now and then. Where losses are expected, many requests are in flight.
// In both cases, requests are sent until the last replica is replaced, however
// long that takes.
func TestRollingUpdate(t *testing.T) {
	needHAProxy(t)
	programs := t.TempDir()
	if err := build(t.Context(), programs); err != nil {
		t.Fatal(err)
	}
	const check = 10 * time.Second
	withDelay, withoutDelay := variants[0], variants[1]
	withDelay.command = []string{"server", "-admin=", "-delay=5s", "-timeout=2m"}
	withoutDelay.command = []string{"server", "-admin=", "-linger=3s", "-timeout=2m"}
	long := plan{requests: 4_800, rate: 200, rounds: 1, every: 6 * time.Second, check: check}
	short := plan{requests: 6_000, rate: 1000, rounds: 1,
		every: 1500 * time.Millisecond, check: check}
	for _, test := range []struct {
		variant variant
		plan    plan
		retries int
		lossy   bool
		status  string
	}{
		{withDelay, long, 0, false, "0"},
		{withoutDelay, long, 3, false, "0"},
		{withoutDelay, short, 0, true, "0"},
		{variants[2], short, 0, true, "0"},
		{variants[3], short, 3, true, "1"},
	} {
		t.Run(fmt.Sprintf("%s, retries %d", test.variant.name, test.retries), func(t *testing.T) {
			res, err := test.plan.run(t.Context(), programs, test.variant, test.retries)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d replacements, lost %s; %s",
				test.plan.replacements(), res.losses(), res.times())
			if lossy := len(res.lost) > 0; lossy != test.lossy {
				t.Errorf("lost %s, want some lost: %v", res.losses(), test.lossy)
			}
			if !test.variant.kept(test.retries, res.lost) {
				t.Errorf("lost %s, which it must not", res.losses())
			}
			if got, want := res.statuses[test.status], test.plan.replacements(); got != want ||
				len(res.statuses) > 1 {
				t.Errorf("exit statuses %v, want %d × %s", res.statuses, want, test.status)
			}
		})
	}
}

// TestInterrupt checks that Ctrl-C ends the command and every process it has
// started.
func TestInterrupt(t *testing.T) {
	needHAProxy(t)
	cmd := process.Command(t, "-requests=1000000")
	tmp := t.TempDir()
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	p := process.StartCommand(t, cmd)
	p.AwaitStderr("retries 3\n")
	p.Signal(os.Interrupt)
	p.WantExit(130)
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-no-such"}, {"stray"}, {"-requests=10"},
		{"-rate=0"}, {"-rounds=0"}, {"-every=0s"}, {"-away=-1s"}} {
		p := process.Start(t, args...)
		p.WantExit(2)
		if got := p.Stderr(); !strings.HasPrefix(got, "rolling: ") ||
			strings.Count(got, "\n") != 1 {
			t.Errorf("%q: stderr is %q, want one line", args, got)
		}
	}
}

// TestDelay checks that delay and linger are longer than HAProxy takes with the
// times in haproxy.cfg, with a margin.
func TestDelay(t *testing.T) {
	cfg, err := os.ReadFile("haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	number := func(pattern string) int {
		match := regexp.MustCompile(`(?m)^\t[^#\n]*` + pattern).FindSubmatch(cfg)
		if match == nil {
			t.Fatalf("haproxy.cfg has no %s", pattern)
		}
		n, err := strconv.Atoi(string(match[1]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if !regexp.MustCompile(`(?m)^\ttimeout check "\$\{CHECK\}"$`).Match(cfg) {
		t.Error("haproxy.cfg does not take its timeout check from CHECK")
	}
	const margin = 500 * time.Millisecond
	fall, inter := time.Duration(number(`\bfall (\d+)`)),
		time.Duration(number(`\binter (\d+)ms`))*time.Millisecond
	if want := fall*(inter+check) + margin; delay < want {
		t.Errorf("delay = %v, want %v or more", delay, want)
	}
	if want := fall*inter + margin; linger < want { // a refused check fails at once
		t.Errorf("linger = %v, want %v or more", linger, want)
	}
}

// TestLoadIsOpen checks that requests are sent before others are answered:
// here, none is answered before all have arrived.
func TestLoadIsOpen(t *testing.T) {
	const n = 50
	var arrived sync.WaitGroup
	arrived.Add(n)
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived.Done()
		arrived.Wait()
		fmt.Fprintln(w, "worked for", r.FormValue("d"))
	})
	answers := send(t, addr, n, 1000)
	if got := tally(answers).losses(); got != "0" {
		t.Errorf("lost %s, want 0", got)
	}
	// The last request was due 49 ms after the first, so the first has waited
	// at least that long.
	if first := answers[0].latency; first < 49*time.Millisecond {
		t.Errorf("latency of the first = %v, want 49ms or more", first)
	}
}

// TestLoadCountsLosses checks that each way to lose a request is counted once,
// and that no request is sent twice.
func TestLoadCountsLosses(t *testing.T) {
	const n = 40 // a quarter of which asks for 1ms
	var mu sync.Mutex
	requests := 0
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests++
		switch requests % 4 {
		case 0:
			w.WriteHeader(http.StatusBadGateway)
		case 1:
			fmt.Fprintln(w, "worked for nothing")
		case 2:
			panic(http.ErrAbortHandler)
		case 3:
			fmt.Fprintln(w, "worked for", r.FormValue("d"))
		}
	})
	answers := send(t, addr, n, 500)
	if got, want := tally(answers).losses(),
		"30: 10 × 502, 10 × connection closed, 10 × wrong answer"; got != want {
		t.Errorf("lost %s, want %s", got, want)
	}
	if requests != n {
		t.Errorf("%d requests, want %d", requests, n)
	}
}

func TestLoadWhereNobodyListens(t *testing.T) {
	p, err := holdPort()
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(p.fd)
	if got, want := tally(send(t, fmt.Sprint("127.0.0.1:", p.number), 3, 1000)).losses(),
		"3: 3 × connection closed"; got != want {
		t.Errorf("lost %s, want %s", got, want)
	}
}

// TestLoadOfTruncatedAnswer checks that half an answer counts as none.
func TestLoadOfTruncatedAnswer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			http.ReadRequest(bufio.NewReader(conn))
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nworked for")
			conn.Close()
		}
	}()
	if got, want := tally(send(t, ln.Addr().String(), 1, 1000)).losses(),
		"1: 1 × connection closed"; got != want {
		t.Errorf("lost %s, want %s", got, want)
	}
}

// send sends n requests and no more.
func send(t *testing.T, addr string, n, rate int) []*answer {
	t.Helper()
	enough := make(chan struct{})
	close(enough)
	return load(t.Context(), enough, addr, n, rate)
}

// serve returns the address of a server that ends with the test.
func serve(t *testing.T, handler http.HandlerFunc) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler}
	go srv.Serve(ln) // until Close
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String()
}

func TestRounds(t *testing.T) {
	first := tally([]*answer{{time.Second, ""}, {0, "503"}, {0, "timeout"}})
	first.statuses = map[string]int{"0": 2}
	second := tally([]*answer{{3 * time.Second, ""}, {time.Second, ""}, {0, "503"}})
	second.statuses = map[string]int{"0": 1, "1": 1}
	second.add(first)
	if got, want := second.losses(), "3 (1 to 2 in a round): 2 × 503, 1 × timeout"; got != want {
		t.Errorf("losses() = %s, want %s", got, want)
	}
	if got, want := second.times(), "3000 ms, 3000 ms"; got != want {
		t.Errorf("times() = %s, want %s", got, want)
	}
	if got := second.statuses; got["0"] != 3 || got["1"] != 1 {
		t.Errorf("statuses = %v, want 3 × 0 and 1 × 1", got)
	}
}

func TestUpdateFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "README.md")
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, readme, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time, the text of the first is replaced
		if err := updateFile(name, "new figures\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(readme), "<!-- figures")
	_, after, _ := strings.Cut(rest, "<!-- end")
	want := before + "<!-- figures: written by go run . -update -->\n\nnew figures\n\n<!-- end" +
		after
	if string(got) != want {
		t.Errorf("the file is %q, want %q", got, want)
	}
	if err := os.WriteFile(name, []byte("no markers"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := updateFile(name, "new figures\n"); err == nil {
		t.Error("updateFile() = nil for a file without markers")
	}
}
