//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// If this variable is set, the program cannot write a file longer than fullAt
// bytes, as if the disk were full.
const (
	smallDisk = "EXAMPLE_SERVER_SMALL_DISK"
	fullAt    = 1005
)

func TestMain(m *testing.M) {
	process.Main(m, func() {
		if os.Getenv(smallDisk) != "" {
			limitFiles()
		}
		go answerProbes(os.Stdin, os.NewFile(3, "probe"))
		main()
	})
}

func limitFiles() {
	signal.Ignore(syscall.SIGXFSZ) // a write then fails with EFBIG
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit)
	limit.Cur = fullAt
	if err := errors.Join(err, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)); err != nil {
		panic(err)
	}
}

// answerProbes answers each line with the number of requests in progress, since
// a client cannot tell when the server has read its request.
func answerProbes(in io.Reader, out io.Writer) {
	stacks := make([]byte, 16<<20)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		n := runtime.Stack(stacks, true)
		fmt.Fprintln(out, bytes.Count(stacks[:n], []byte("examples/server.work(")))
	}
}

// command returns the program with args, as a user would run it. But it has no
// admin port unless args name one, since many run at once.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return process.Command(t, append([]string{"-admin="}, args...)...)
}

// server is the program running, ready to serve.
type server struct {
	*process.Process
	t       *testing.T
	url     string
	journal string // path
	probe   io.Writer
	inWork  *bufio.Reader
}

// start starts the program with a port and a journal of its own.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	return startCommand(t, command(t,
		append([]string{"-addr=127.0.0.1:0", "-journal=" + path}, args...)...))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *server {
	t.Helper()
	probe, err := cmd.StdinPipe()
	must(t, err)
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { r.Close() })
	cmd.ExtraFiles = append([]*os.File{w}, cmd.ExtraFiles...) // it is number 3
	s := &server{t: t, Process: process.StartCommand(t, cmd), probe: probe,
		inWork: bufio.NewReader(r)}
	w.Close()
	s.url = s.Line("listening on ")
	s.journal = s.Line("journal: ")
	return s
}

// wantEnd waits for the end of the process, and returns the lines of the
// journal. It checks that there are as many as the program says.
func (s *server) wantEnd(status int) []string {
	s.t.Helper()
	s.WantExit(status)
	content, err := os.ReadFile(s.journal)
	must(s.t, err)
	lines := strings.Split(string(content), "\n")
	lines = lines[:len(lines)-1] // text after the last newline is not a line
	s.wantJournalled(len(lines))
	return lines
}

// wantExit is like wantEnd, for a journal that cannot be read.
func (s *server) wantExit(status, journalled int) {
	s.t.Helper()
	s.WantExit(status)
	s.wantJournalled(journalled)
}

func (s *server) wantJournalled(jobs int) {
	s.t.Helper()
	timeline, rest, _ := strings.Cut(s.Stdout(), "journalled ")
	if want := fmt.Sprintf("%d jobs\n", jobs); rest != want {
		s.t.Errorf("stdout ends with %q, want %q after %q", rest, want, "journalled ")
	}
	for _, want := range []string{"quit: stopped after", "*http.Server", "queue",
		"drain", "journal"} {
		if !strings.Contains(timeline, want) {
			s.t.Errorf("the timeline does not have %q:\n%s", want, timeline)
		}
	}
}

func (s *server) waitInWork(n int) {
	s.t.Helper()
	s.waitUntil(fmt.Sprint(n, " requests are in work"), func() bool {
		fmt.Fprintln(s.probe)
		answer, err := s.inWork.ReadString('\n')
		must(s.t, err)
		return answer == fmt.Sprintln(n)
	})
}

func (s *server) waitUntil(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("waited too long until %s", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newClient returns a client with connections of its own.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{ExpectContinueTimeout: 3 * time.Minute}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 3 * time.Minute}
}

// post posts a job, and returns the status of the answer.
func post(c *http.Client, url, job string) (int, error) {
	resp, err := c.Post(url+"/jobs", "text/plain", strings.NewReader(job))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

// get returns the status, the body and the header of the answer.
func get(c *http.Client, url string) (int, string, http.Header, error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), resp.Header, err
}

func wantPost(t *testing.T, s *server, job string) {
	t.Helper()
	if status, err := post(newClient(t), s.url, job); status != http.StatusAccepted || err != nil {
		t.Errorf("POST %q: status %d, %v, want 202", job, status, err)
	}
}

// loader is a client that posts one job after another until it is refused.
type loader struct {
	name     string
	client   *http.Client
	accepted func()         // called for each accepted job
	answers  map[string]int // the status, by job
	broken   error          // the connection ended without an answer: no more was posted
	gap      time.Duration  // from the last request on the connection until it was to be used again
}

// run posts each job exactly once: net/http does not retry a request whose body
// it cannot get again.
func (l *loader) run(url string) {
	var sent atomic.Int64 // when, counted from the start
	start := time.Now()
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) {
		sent.Store(int64(time.Since(start)))
	}}
	ctx := httptrace.WithClientTrace(context.Background(), trace)
	for n := 0; ; n++ {
		last := sent.Load()
		job := fmt.Sprintf("%s, job %d", l.name, n)
		body := struct{ io.Reader }{strings.NewReader(job)}
		req, err := http.NewRequestWithContext(ctx, "POST", url+"/jobs", body)
		if err != nil {
			panic(err)
		}
		res, err := l.client.Do(req)
		if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
			return // refused: nothing was sent
		}
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		if err != nil {
			came := sent.Load()
			if came == last { // its connection had ended before it came back
				came = int64(time.Since(start))
			}
			l.broken, l.gap = fmt.Errorf("%s: %w", job, err), time.Duration(came-last)
			return
		}
		l.answers[job] = res.StatusCode
		if res.StatusCode == http.StatusAccepted {
			l.accepted()
		}
	}
}

// TestStopUnderLoad stops the program while 32 clients post jobs without a
// pause. It does so once a number of jobs has been accepted. No connection is
// broken: each client gets answers until it is refused. The journal has exactly
// the jobs that were answered with 202, each once.
//
// The test does not run in parallel with others. A client must use its
// connection again within 250 ms, the time that the shutdown waits for it. If a
// slow machine takes longer, the server is not at fault. Only Linux can refuse
// connections before the port is closed: on other systems, a connection made
// just then is broken.
func TestStopUnderLoad(t *testing.T) {
	for _, test := range []struct {
		name  string
		sig   os.Signal
		after int64 // jobs
		new   bool  // a connection for each job, instead of one that is kept alive
		delay time.Duration
	}{
		{name: "at once", sig: syscall.SIGTERM},
		{name: "first job", sig: syscall.SIGTERM, after: 1},
		{name: "interrupt after 100 jobs", sig: os.Interrupt, after: 100},
		{name: "500 jobs", sig: syscall.SIGTERM, after: 500},
		{name: "interrupt after 1000 jobs", sig: os.Interrupt, after: 1000},
		{name: "2000 jobs", sig: syscall.SIGTERM, after: 2000},
		{name: "interrupt after 3000 jobs", sig: os.Interrupt, after: 3000},
		{name: "5000 jobs", sig: syscall.SIGTERM, after: 5000},
		{name: "new connections", sig: syscall.SIGTERM, after: 1000, new: true},
		{name: "interrupt, new connections", sig: os.Interrupt, after: 1500, new: true},
		{name: "delay", sig: syscall.SIGTERM, after: 300, delay: 300 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, "-delay="+test.delay.String())
			if test.after == 0 {
				s.Signal(test.sig)
			}
			var accepted atomic.Int64
			var clients sync.WaitGroup
			loaders := make([]*loader, 32)
			for i := range loaders {
				l := &loader{name: fmt.Sprint("client ", i), client: newClient(t),
					answers: make(map[string]int)}
				l.client.Transport.(*http.Transport).DisableKeepAlives = test.new
				l.accepted = func() {
					if accepted.Add(1) == test.after {
						s.Signal(test.sig)
					}
				}
				loaders[i] = l
				clients.Go(func() { l.run(s.url) })
			}
			clients.Wait()
			lines := s.wantEnd(0)

			answers := make(map[string]int)
			for _, l := range loaders {
				maps.Copy(answers, l.answers)
				switch {
				case l.broken != nil && runtime.GOOS != "linux":
					t.Log("broken:", l.broken)
				case l.broken != nil && l.gap < 250*time.Millisecond:
					t.Error("broken:", l.broken)
				case l.broken != nil:
					t.Logf("the client was %v late: %v", l.gap, l.broken)
				}
			}
			journalled := make(map[string]int)
			for _, line := range lines {
				journalled[line]++
				if status := answers[line]; status != http.StatusAccepted {
					t.Errorf("%q is in the journal, and the answer was %d", line, status)
				}
			}
			for job, status := range answers {
				switch {
				case status != http.StatusAccepted && status != http.StatusServiceUnavailable:
					t.Errorf("%q: status %d", job, status)
				case status == http.StatusAccepted && journalled[job] != 1:
					t.Errorf("%q was accepted and is %d times in the journal", job, journalled[job])
				}
			}
			if n := accepted.Load(); n < test.after {
				t.Errorf("%d jobs accepted, want %d at least", n, test.after)
			}
		})
	}
}

// heldBody is the body of a request with "Expect: 100-continue". The client
// reads it when the server's handler has asked for it. Read calls asked, and
// waits for release.
type heldBody struct {
	io.Reader
	asked   func()
	release <-chan struct{}
}

func (b *heldBody) Read(p []byte) (int, error) {
	b.asked()
	<-b.release
	return b.Reader.Read(p)
}

// TestInFlight stops the program while some handlers wait for the bodies of
// their jobs, and others work. The server has certainly read all of these
// requests, so all must be answered, long after the port was closed.
func TestInFlight(t *testing.T) {
	t.Parallel()
	const jobs, works = 8, 8
	s := start(t)
	var clients, asked sync.WaitGroup
	release := make(chan struct{})
	asked.Add(jobs)
	for i := range jobs {
		c := newClient(t)
		clients.Go(func() {
			body := &heldBody{strings.NewReader(fmt.Sprintln("job", i)),
				sync.OnceFunc(asked.Done), release}
			req, err := http.NewRequest("POST", s.url+"/jobs", body)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Expect", "100-continue")
			resp, err := c.Do(req)
			if err != nil {
				t.Errorf("job %d was not answered: %v", i, err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusAccepted {
				t.Errorf("job %d: status %d, want 202", i, resp.StatusCode)
			}
		})
	}
	for range works {
		c := newClient(t)
		clients.Go(func() {
			if status, body, _, err := get(c, s.url+"/work?d=5s"); status != http.StatusOK ||
				err != nil {
				t.Errorf("work was not answered with 200: %d, %q, %v", status, body, err)
			}
		})
	}
	asked.Wait()
	s.waitInWork(works)
	s.Signal(syscall.SIGTERM)
	s.AwaitPortClosed(strings.TrimPrefix(s.url, "http://"))
	close(release)
	clients.Wait()
	if lines := s.wantEnd(0); len(lines) != jobs {
		t.Errorf("journal = %q, want %d lines", lines, jobs)
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	s := start(t, "-delay=8s")
	c := newClient(t)
	ready := func(want int) bool {
		t.Helper()
		status, body, header, err := get(c, s.url+"/readyz")
		must(t, err)
		if got := header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("readyz %d: Cache-Control = %q, want no-store", status, got)
		}
		return status == want && body != ""
	}
	if !ready(http.StatusOK) {
		t.Error("readyz is not 200 before the signal")
	}
	s.Signal(syscall.SIGTERM)
	s.waitUntil("readyz is 503", func() bool { return ready(http.StatusServiceUnavailable) })
	wantPost(t, s, "in the delay")
	if lines := s.wantEnd(0); len(lines) != 1 || lines[0] != "in the delay" {
		t.Errorf("journal = %q, want the job of the delay", lines)
	}
}

// TestOutOfTime uses a request that takes longer than the shutdown may.
func TestOutOfTime(t *testing.T) {
	t.Parallel()
	want := regexp.MustCompile(`(?m)^server: .*\*http\.Server.* context deadline exceeded\n`)
	// A part of the timeout is left for the journal.
	process.Patiently(t, 3*time.Second, func(timeout time.Duration) bool {
		s := start(t, fmt.Sprint("-timeout=", timeout))
		wantPost(t, s, "job")
		go get(newClient(t), s.url+"/work?d=1m")
		s.waitInWork(1)
		s.Signal(syscall.SIGTERM)
		if lines := s.wantEnd(1); len(lines) != 1 {
			t.Errorf("journal = %q, want one job", lines)
		}
		got := s.Stderr()
		where := want.FindStringIndex(got)
		if where == nil {
			t.Errorf("stderr = %q, want %v", got, want)
		}
		return where == nil || where[1] == len(got) // and that alone
	})
}

func TestClientNeverReads(t *testing.T) {
	t.Parallel()
	s := start(t, "-timeout=3s")
	process.NeverRead(t, strings.TrimPrefix(s.url, "http://"),
		"GET /work?d=0s HTTP/1.1\r\nHost: x\r\n\r\n")
	s.Signal(syscall.SIGTERM)
	s.wantEnd(1)
	if got := s.Stderr(); !strings.Contains(got, "\nserver: quit: *http.Server (server/main.go:") {
		t.Errorf("stderr = %q, want it to name the server", got)
	}
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	s := start(t)
	go get(newClient(t), s.url+"/work?d=1m")
	s.waitInWork(1)
	s.Signal(os.Interrupt)
	s.AwaitFired()
	s.InterruptAgain()
	s.WantExit(130)
	if got := s.Stderr(); !strings.Contains(got, "*http.Server") {
		t.Errorf("stderr = %q, want it to name what still ran", got)
	}
}

// TestClientGone checks that the work ends when nobody waits for it any more.
func TestClientGone(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.url+"/work?d=1m", nil)
	must(t, err)
	go newClient(t).Do(req)
	s.waitInWork(1)
	cancel()
	s.waitInWork(0)
	s.Signal(syscall.SIGTERM)
	s.wantEnd(0)
}

// TestJournalFull makes a write fail in the middle of a line, after others have
// succeeded.
func TestJournalFull(t *testing.T) {
	t.Parallel()
	const job, fit = "some job.", fullAt / len("some job.\n")
	path := filepath.Join(t.TempDir(), "journal")
	cmd := command(t, "-addr=127.0.0.1:0", "-journal="+path)
	cmd.Env = append(cmd.Env, smallDisk+"=1")
	s := startCommand(t, cmd)
	var accepted atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		c := newClient(t)
		clients.Go(func() {
			for range 5000 {
				status, err := post(c, s.url, job)
				if err != nil {
					return // the program has ended
				}
				if status == http.StatusAccepted {
					accepted.Add(1)
				}
			}
		})
	}
	lines := s.wantEnd(1)
	clients.Wait()
	lost := int(accepted.Load()) - len(lines)
	if len(lines) != fit || lost < 1 {
		t.Errorf("%d lines in the journal, want %d; %d jobs lost, want some", len(lines), fit, lost)
	}
	want := regexp.MustCompile(`(?m)^server: .*worker: write ` + regexp.QuoteMeta(path) +
		`: file too large\n` +
		strconv.Itoa(lost) + ` jobs were accepted and could not be journalled\n\z`)
	if got := s.Stderr(); !want.MatchString(got) {
		t.Errorf("stderr = %q, want %v", got, want)
	}
}

// TestJournalOnFullDevice makes the first write fail. No job is promised after
// it, though the port stays open for a while.
func TestJournalOnFullDevice(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("there is no /dev/full")
	}
	s := startCommand(t, command(t, "-addr=127.0.0.1:0", "-journal=/dev/full", "-delay=8s"))
	wantPost(t, s, "job")
	s.AwaitFired()
	if status, err := post(
		newClient(t), s.url, "one more"); status != http.StatusServiceUnavailable || err != nil {
		t.Errorf("POST after the failure: status %d, %v, want 503", status, err)
	}
	s.wantExit(1, 0)
	want := regexp.MustCompile(`(?m)^server: .*worker: write /dev/full: no space left on device\n` +
		`1 jobs were accepted and could not be journalled\n\z`)
	if got := s.Stderr(); !want.MatchString(got) {
		t.Errorf("stderr = %q, want %v", got, want)
	}
}

// TestJournalLostDuringStop accepts a job after the signal, and makes the write
// of the job fail.
func TestJournalLostDuringStop(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("there is no /dev/full")
	}
	s := startCommand(t, command(t, "-addr=127.0.0.1:0", "-journal=/dev/full", "-delay=8s"))
	s.Signal(syscall.SIGTERM)
	s.AwaitFired()
	wantPost(t, s, "job")
	s.wantExit(1, 0)
	if got := s.Stderr(); !strings.HasSuffix(got,
		"write /dev/full: no space left on device\n"+
			"1 jobs were accepted and could not be journalled\n") {
		t.Errorf("stderr = %q, want it to say what was lost, and why", got)
	}
}

// TestSlowJournal stops the program while the journal is so far behind that the
// queue is full. The journal is a pipe that nobody reads before the drain. It
// must not be closed until then.
func TestSlowJournal(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it is not known that /dev/fd opens a pipe anew")
	}
	cmd := command(t, "-addr=127.0.0.1:0", "-admin=127.0.0.1:0", "-journal=/dev/fd/4")
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	s := startCommand(t, cmd)
	w.Close()
	page := s.Line("admin: ")

	job := strings.Repeat("x", 8<<10)
	accepted, c := 0, newClient(t)
	for status := 0; status != http.StatusServiceUnavailable; accepted++ {
		if accepted > 2*maxQueue {
			t.Fatalf("%d jobs accepted, and the queue is not full", accepted)
		}
		status, err = post(c, s.url, job)
		must(t, err)
	}
	accepted-- // the last one was not
	if accepted < maxQueue {
		t.Errorf("%d jobs accepted until the queue was full, want %d at least", accepted, maxQueue)
	}
	s.Signal(syscall.SIGTERM)
	s.waitUntil("the drain has begun", func() bool { return hasBegun(t, page, "drain") })
	lines := 0
	for content := bufio.NewReader(r); lines < accepted; lines++ {
		line, err := content.ReadString('\n')
		if err != nil || line != job+"\n" {
			t.Errorf("line %d of the journal has %d bytes, %v", lines, len(line), err)
			break
		}
	}
	s.wantExit(0, accepted)
}

// hasBegun reports whether the named step has begun, according to the status
// page.
func hasBegun(t *testing.T, page, name string) bool {
	t.Helper()
	req, err := http.NewRequest("GET", page, nil)
	must(t, err)
	req.Header.Set("Accept", "application/json")
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer res.Body.Close()
	var report struct {
		Steps []struct {
			Name  string
			Start time.Time
		}
	}
	must(t, json.NewDecoder(res.Body).Decode(&report))
	for _, step := range report.Steps {
		if step.Name == name {
			return !step.Start.IsZero()
		}
	}
	t.Fatalf("there is no step %q", name)
	return false
}

// TestBadStart checks that a start that fails prints the reason in one line,
// and leaves nothing behind.
func TestBadStart(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "journal")
	for _, test := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"-addr=" + taken}, 1, "address already in use"},
		{[]string{"-addr=" + taken, "-journal=" + path}, 1, "address already in use"},
		{[]string{"-addr=127.0.0.1", "-journal=" + path}, 1, "missing port"},
		{[]string{"-addr=127.0.0.1:0", "-admin=" + taken, "-journal=" + path}, 1,
			"admin: quit: listen tcp"},
		{[]string{"-addr=127.0.0.1:0", "-journal=" + filepath.Join(dir, "none", "journal")}, 1,
			"no such file"},
		{[]string{"-addr=127.0.0.1:0", "-journal=" + dir}, 1, "is a directory"},
		{[]string{"-timeout=fast", "-journal=" + path}, 2, `invalid value "fast"`},
		{[]string{"-delay", "-journal=" + path}, 2, "invalid value"},
		{[]string{"-journal"}, 2, "needs an argument"},
		{[]string{"-port=80"}, 2, "not defined: -port"},
		{[]string{"-journal=" + path, "serve"}, 2, `unexpected argument "serve"`},
	} {
		cmd := command(t, test.args...)
		cmd.Env = append(cmd.Env, "TMPDIR="+dir)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != test.status {
			t.Errorf("%q: exit status %d, want %d", test.args, got, test.status)
		}
		if stdout.Len() > 0 {
			t.Errorf("%q: stdout = %q, want none", test.args, stdout.String())
		}
		got := stderr.String()
		if !strings.HasPrefix(got, "server: ") || !strings.Contains(got, test.stderr) ||
			strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
			t.Errorf("%q: stderr = %q, want one line with %q", test.args, got, test.stderr)
		}
	}
	left, err := os.ReadDir(dir)
	if len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestAdmin asks the admin server, even while the others stop: it is closed
// last.
func TestAdmin(t *testing.T) {
	t.Parallel()
	s := start(t, "-admin=127.0.0.1:0")
	page := s.Line("admin: ")
	ready := strings.TrimSuffix(page, "/debug/quit") + "/readyz"
	client := newClient(t)
	want := func(url string, status int, body string) {
		t.Helper()
		res, err := client.Get(url)
		must(t, err)
		defer res.Body.Close()
		got, err := io.ReadAll(res.Body)
		must(t, err)
		if res.StatusCode != status || !strings.Contains(string(got), body) {
			t.Errorf("GET %s = %d, %q, want %d with %q", url, res.StatusCode, got, status, body)
		}
	}
	want(ready, http.StatusOK, "ready")
	want(page, http.StatusOK, "not shutting down")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.url+"/work?d=1m", nil)
	must(t, err)
	go newClient(t).Do(req) // it delays the shutdown until it is cancelled
	s.waitInWork(1)
	s.Signal(syscall.SIGTERM)
	s.AwaitFired()
	want(ready, http.StatusServiceUnavailable, "quitting")
	s.waitUntil("the page shows the stop", func() bool {
		status, body, _, err := get(client, page)
		must(t, err)
		return status == http.StatusOK && strings.Contains(body, "shutting down")
	})
	cancel()
	s.wantEnd(0)
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	cmd := command(t, "-h")
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil || stderr.Len() > 0 || !strings.HasPrefix(string(stdout), "usage: server") {
		t.Errorf("-h: %v, stdout %q, stderr %q", err, stdout, stderr.String())
	}
}

func TestDefaultJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := command(t, "-addr=127.0.0.1:0")
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	s := startCommand(t, cmd)
	if filepath.Dir(s.journal) != dir {
		t.Errorf("journal: %s, want it in %s", s.journal, dir)
	}
	s.Signal(syscall.SIGTERM)
	s.wantEnd(0)
}

// TestJournalGoesOn runs the program with an existing journal. A start that
// fails does not change it.
func TestJournalGoesOn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	must(t, os.WriteFile(path, []byte("earlier\n"), 0o600))
	process.StartCommand(t, command(t, "-addr="+process.TakenAddr(t), "-journal="+path)).WantExit(1)
	s := start(t, "-journal="+path)
	wantPost(t, s, "later")
	s.Signal(syscall.SIGTERM)
	s.wantExit(0, 1)
	content, err := os.ReadFile(path)
	if string(content) != "earlier\nlater\n" || err != nil {
		t.Errorf("journal = %q, %v", content, err)
	}
}

// TestJournalWithTornLine runs the program with a journal whose last line is
// incomplete. That line does not become part of a job.
func TestJournalWithTornLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	must(t, os.WriteFile(path, []byte("earlier\ntor"), 0o600))
	s := start(t, "-journal="+path)
	wantPost(t, s, "later")
	s.Signal(syscall.SIGTERM)
	s.wantExit(0, 1)
	content, err := os.ReadFile(path)
	if string(content) != "earlier\ntor\nlater\n" || err != nil {
		t.Errorf("journal = %q, %v", content, err)
	}
}

// TestClientThatIsSlowToSend uses a client that never sends the body it has
// announced, on each of the two ports. It does not delay the shutdown until
// time runs out.
func TestClientThatIsSlowToSend(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"jobs": "/work?d=0s", "admin": "/readyz"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, "-admin=127.0.0.1:0")
			url := s.url
			if name == "admin" {
				url = strings.TrimSuffix(s.Line("admin: "), "/debug/quit")
			}
			wantAnswer := process.SlowToSend(t, strings.TrimPrefix(url, "http://"), path)
			s.Signal(syscall.SIGTERM)
			s.wantEnd(0)
			wantAnswer()
		})
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	jobs := &queue{c: make(chan string, 10)}
	h := newHandler(quit.NewQuitEvent(), jobs)
	for _, test := range []struct {
		method, target, body string
		want                 int
	}{
		{"POST", "/jobs", "job", 202},
		{"POST", "/jobs", "job\n", 202},
		{"POST", "/jobs", "job\r\n", 202},
		{"POST", "/jobs", strings.Repeat("x", maxJob-1) + "\n", 202},
		{"POST", "/jobs", strings.Repeat("x", maxJob+1), 413},
		{"POST", "/jobs", "", 400},
		{"POST", "/jobs", "\n", 400},
		{"POST", "/jobs", " \t", 400},
		{"POST", "/jobs", "job\n\n", 400},
		{"POST", "/jobs", "job 1\njob 2\n", 400},
		{"POST", "/jobs", "job 1\rjob 2", 400},
		{"GET", "/jobs", "", 405},
		{"GET", "/work?d=0s", "", 200},
		{"GET", "/work?d=1ms", "", 200},
		{"GET", "/work", "", 400},
		{"GET", "/work?d=soon", "", 400},
		{"GET", "/work?d=10", "", 400},
		{"GET", "/work?d=-1s", "", 400},
		{"GET", "/work?d=61s", "", 400},
		{"GET", "/work?d=9999999h", "", 400},
		{"POST", "/work?d=1s", "", 405},
		{"GET", "/readyz", "", 200},
		{"GET", "/", "", 404},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(test.method, test.target, strings.NewReader(test.body)))
		if w.Code != test.want {
			t.Errorf("%s %s %.20q: status %d, want %d",
				test.method, test.target, test.body, w.Code, test.want)
		}
		if w.Code >= 400 && (w.Body.Len() == 0 || strings.Count(w.Body.String(), "\n") != 1) {
			t.Errorf("%s %s %.20q: body %q, want a line",
				test.method, test.target, test.body, w.Body)
		}
	}
	jobs.close()
	for job := range jobs.c {
		if job != "job" && len(job) != maxJob-1 {
			t.Errorf("job %q in the queue", job)
		}
	}
}

// TestNoRoom checks that a job is promised only if it is in the queue.
func TestNoRoom(t *testing.T) {
	jobs := &queue{c: make(chan string, 1)}
	h := newHandler(quit.NewQuitEvent(), jobs)
	wantRefused := func() {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/jobs", strings.NewReader("one more")))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("status %d, header %v, want 503 with Retry-After", w.Code, w.Header())
		}
	}
	jobs.add("job")
	wantRefused()
	<-jobs.c
	jobs.close()
	jobs.close()
	wantRefused()
	if jobs.accepted != 1 {
		t.Errorf("%d jobs accepted, want 1", jobs.accepted)
	}
}

// TestAddWhileClosing uses handlers that add jobs while the queue is closed, as
// after a shutdown of the server that was abandoned.
func TestAddWhileClosing(t *testing.T) {
	for range 200 {
		jobs := &queue{c: make(chan string, 8)}
		var added, taken int64
		var handlers, worker sync.WaitGroup
		worker.Go(func() {
			for range jobs.c {
				taken++
			}
		})
		for range 4 {
			handlers.Go(func() {
				for range 50 {
					if jobs.add("job") {
						atomic.AddInt64(&added, 1)
					}
				}
			})
		}
		jobs.close()
		worker.Wait()
		if jobs.accepted != taken {
			t.Fatalf("%d jobs accepted, %d taken", jobs.accepted, taken)
		}
		handlers.Wait()
		if added != taken {
			t.Fatalf("%d jobs added, %d taken", added, taken)
		}
	}
}

func TestWorkOutOfTime(t *testing.T) {
	noTime := errors.New("no time left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(noTime)
	w := httptest.NewRecorder()
	work(w, httptest.NewRequestWithContext(ctx, "GET", "/work?d=1m", nil))
	if w.Code != http.StatusServiceUnavailable || w.Body.String() != noTime.Error()+"\n" {
		t.Errorf("status %d, body %q, want 503 with the cause", w.Code, w.Body)
	}
}
