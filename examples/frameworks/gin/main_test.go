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
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// otherJob is an environment variable. With the value "stuck", the program has
// a job that never ends; with "stdin", one that fails at the end of stdin. With
// "request", a request lasts until the end of stdin. With "early signal", a
// signal arrives before the program serves.
const otherJob = "EXAMPLE_GIN_JOB"

var jobs = map[string]job{
	"stuck": func(context.Context) error {
		fmt.Println("the job runs")
		select {}
	},
	"stdin": func(context.Context) error {
		io.Copy(io.Discard, os.Stdin)
		return errors.New("the job failed")
	},
	"early signal": nil,
	"request":      newJob(0),
}

func TestMain(m *testing.M) {
	process.Main(m, func() {
		job, ok := jobs[os.Getenv(otherJob)]
		if !ok {
			main()
			return
		}
		if job == nil {
			quit.GetQuitEvent().Fail(&quit.SignalError{Signal: syscall.SIGTERM})
			job = newJob(0)
		}
		run := withQuit
		if os.Args[1] == "errgroup" {
			run = withErrgroup
		}
		timeout, err := time.ParseDuration(os.Args[2])
		if err != nil {
			exit(2, err)
		}
		handler := newHandler()
		if os.Getenv(otherJob) == "request" {
			handler = http.HandlerFunc(untilEOF)
		}
		if err := run(&http.Server{Addr: "127.0.0.1:0", Handler: handler},
			job, timeout); err != nil {
			exit(1, err)
		}
	})
}

// untilEOF answers like /hello, but at the end of stdin.
func untilEOF(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, "Hello,")
	http.NewResponseController(w).Flush()
	io.Copy(io.Discard, os.Stdin)
	fmt.Fprint(w, " world!\n")
}

// startJob starts the program with one of the jobs and a time for the shutdown;
// end closes its stdin.
func startJob(
	t *testing.T, with, job, timeout string,
) (p *process.Process, url string, end func()) {
	t.Helper()
	cmd := process.Command(t, with, timeout)
	cmd.Env = append(cmd.Env, otherJob+"="+job)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p = process.StartCommand(t, cmd)
	return p, p.Line("listening on "), func() { stdin.Close() }
}

// both runs test with each version.
func both(t *testing.T, test func(t *testing.T, with string)) {
	t.Parallel()
	for _, with := range []string{"quit", "errgroup"} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			test(t, with)
		})
	}
}

func start(t *testing.T, with string, args ...string) (p *process.Process, url string) {
	t.Helper()
	p = process.Start(t, append([]string{"-with=" + with, "-addr=127.0.0.1:0", "-timeout=2m"},
		args...)...)
	return p, p.Line("listening on ")
}

// get returns once the handler has written its first word.
func get(t *testing.T, url string) *http.Response {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := (&http.Client{Transport: transport, Timeout: 3 * time.Minute}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func wantBody(t *testing.T, resp *http.Response, want string) {
	t.Helper()
	if body, err := io.ReadAll(resp.Body); string(body) != want || err != nil {
		t.Errorf("GET %v = %q, %v, want %q", resp.Request.URL, body, err, want)
	}
}

// wantLastLine checks that the last line on stderr is the program's own
// message.
func wantLastLine(t *testing.T, p *process.Process, want string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(p.Stderr(), "\n"), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "gin: ") ||
		!strings.Contains(last, want) {
		t.Errorf("last line of stderr = %q, want gin: … %q", last, want)
	}
}

func TestSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			both(t, func(t *testing.T, with string) {
				p, url := start(t, with)
				wantBody(t, get(t, url+"/hello"), "Hello, world!\n")
				p.Signal(sig)
				p.WantExit(0)
			})
		})
	}
}

func TestInFlight(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		p, url := start(t, with)
		resp := get(t, url+"/hello?d=2s")
		p.Signal(syscall.SIGTERM)
		p.AwaitPortClosed(strings.TrimPrefix(url, "http://"))
		wantBody(t, resp, "Hello, world!\n")
		p.WantExit(0)
	})
}

// TestUnderLoad stops the program while clients send requests without a pause,
// each until it is refused. Half of the clients keep a connection alive, and
// half make a new one for each request. With quit, each request that was sent
// is answered. withErrgroup makes no such promise.
//
// The test does not run in parallel with others. A client must use its
// connection again within 250 ms, the time that the shutdown waits for it. If a
// slow machine takes longer, the server is not at fault. Only Linux can refuse
// connections before the port is closed: on other systems, a connection made
// just then is broken.
func TestUnderLoad(t *testing.T) {
	p, url := start(t, "quit")
	var answers atomic.Int64
	var clients sync.WaitGroup
	for i := range 32 {
		transport := &http.Transport{DisableKeepAlives: i%2 == 1}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport, Timeout: 3 * time.Minute}
		clients.Go(func() {
			for before := time.Now(); ; { // when the last request was sent, or earlier
				begin := time.Now()
				body, err := ask(client, url+"/hello?d=5ms")
				if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
					return // refused: nothing was sent
				}
				if body != "Hello, world!\n" || err != nil {
					gap := time.Since(before)
					late := gap > 250*time.Millisecond && !transport.DisableKeepAlives
					if late || runtime.GOOS != "linux" {
						t.Logf("%v after the last request: %q, %v", gap, body, err)
					} else {
						t.Errorf("GET /hello = %q, %v, want an answer", body, err)
					}
					return
				}
				before = begin
				if answers.Add(1) == 2000 {
					p.Process.Signal(syscall.SIGTERM)
				}
			}
		})
	}
	clients.Wait()
	p.WantExit(0)
	if n := answers.Load(); n < 2000 {
		t.Errorf("%d answers, want 2000 at least", n)
	}
}

// ask sends one request, exactly once: net/http does not retry a request whose
// body it cannot get again.
func ask(client *http.Client, url string) (string, error) {
	req, err := http.NewRequest("GET", url, struct{ io.Reader }{strings.NewReader("once")})
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// TestTimeouts waits until a client that sends too slowly is cut off. The time
// limit for a request ends neither a handler nor an idle connection.
func TestTimeouts(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		_, url := start(t, with)
		addr := strings.TrimPrefix(url, "http://")
		dial := func(request string) (net.Conn, *bufio.Reader) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			conn.SetDeadline(time.Now().Add(3 * time.Minute))
			io.WriteString(conn, request)
			return conn, bufio.NewReader(conn)
		}
		const head = "HEAD /none HTTP/1.1\r\nHost: x\r\n\r\n"
		idle, answers := dial(head)
		wantAnswer := func() {
			resp, err := http.ReadResponse(answers, &http.Request{Method: "HEAD"})
			if err != nil || resp.StatusCode != http.StatusNotFound {
				t.Errorf("HEAD /none on the idle connection = %v, %v, want 404", resp, err)
			}
		}
		wantAnswer()
		busy := get(t, url+"/hello?d=12s") // longer than ReadTimeout
		_, slow := dial("GET /hello HTTP/1.1\r\nHost:")
		if _, err := io.ReadAll(slow); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the slow client has not been cut off")
		}
		io.WriteString(idle, head)
		wantAnswer()
		wantBody(t, busy, "Hello, world!\n")
	})
}

func TestFailAfter(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		p, url := start(t, with, "-fail-after=200ms")
		p.WantExit(1)
		wantLastLine(t, p, "the job failed after 200ms")
		p.AwaitPortClosed(strings.TrimPrefix(url, "http://"))
	})
}

func TestStopAtStart(t *testing.T) {
	t.Parallel()
	p, _, _ := startJob(t, "quit", "early signal", "2m")
	p.WantExit(0)
}

// TestJobFails makes the job fail with a request in flight, which is answered.
func TestJobFails(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		p, url, fail := startJob(t, with, "stdin", "2m")
		resp := get(t, url+"/hello?d=500ms")
		fail()
		wantBody(t, resp, "Hello, world!\n")
		p.WantExit(1)
		wantLastLine(t, p, "the job failed")
	})
}

// TestEndless uses a request that would never end, from a client that stops
// reading.
func TestEndless(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		// A tenth of the timeout is left to cut the request off.
		process.Patiently(t, time.Second, func(timeout time.Duration) bool {
			p, url := start(t, with, fmt.Sprint("-timeout=", timeout))
			resp := get(t, url+"/hello?d=1000h")
			p.Signal(syscall.SIGTERM)
			p.WantExit(1)
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("GET /hello = %q, want an error: that is half an answer", body)
			}
			if strings.Contains(p.Stderr(), "abandoned") {
				return false
			}
			wantLastLine(t, p, "context deadline exceeded")
			if with == "quit" {
				wantLastLine(t, p, "gin (") // the name, and the place of the registration
			}
			return true
		})
	})
}

// TestSlowToSend uses clients that never end their requests. With quit they do
// not delay the shutdown.
func TestSlowToSend(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		args := map[string][]string{"errgroup": {"-timeout=1s"}}[with]
		p, url := start(t, with, args...)
		begin := func() error {
			conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err == nil {
				t.Cleanup(func() { conn.Close() })
				fmt.Fprint(conn, "GET /hello HTTP/1.1\r\nHost:")
			}
			return err
		}
		if err := begin(); err != nil {
			t.Fatal(err)
		}
		wantBody(t, get(t, url+"/hello"), "Hello, world!\n") // accepted later than the other
		p.Signal(syscall.SIGTERM)
		// http.Server.Shutdown treats a connection as idle after five seconds
		// without a request. So the test keeps making new ones.
		for begin() == nil {
			time.Sleep(50 * time.Millisecond)
		}
		if with == "quit" {
			p.WantExit(0)
			return
		}
		p.WantExit(1)
		wantLastLine(t, p, "context deadline exceeded")
	})
}

func TestClientNeverReads(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		p, url := start(t, with, "-timeout=3s")
		process.NeverRead(t, strings.TrimPrefix(url, "http://"),
			"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
		p.Signal(syscall.SIGTERM)
		p.WantExit(1)
		wantLastLine(t, p, "context deadline exceeded")
	})
}

func TestSlowClient(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		p, url := start(t, with)
		wantAnswer := process.SlowToSend(t, strings.TrimPrefix(url, "http://"), "/hello")
		p.Signal(syscall.SIGTERM)
		p.WantExit(0)
		wantAnswer()
	})
}

// TestBothFail checks that the version that promises it returns both failures.
func TestBothFail(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		p, url, fail := startJob(t, with, "stdin", "2s")
		get(t, url+"/hello?d=1000h")
		fail()
		p.WantExit(1)
		_, after, _ := strings.Cut(p.Stderr(), "gin: ")
		if !strings.Contains(after, "the job failed") {
			t.Errorf("error = %q, want the job's", after)
		}
		if got, want := strings.Contains(after, "deadline exceeded"), with == "quit"; got != want {
			t.Errorf("error = %q has the server's too: %v, want %v", after, got, want)
		}
	})
}

func TestStuckJob(t *testing.T) {
	t.Parallel()
	p, _, _ := startJob(t, "quit", "stuck", "3s")
	p.Line("the job runs")
	p.Signal(syscall.SIGTERM)
	p.WantExit(1)
	wantLastLine(t, p, "1 goroutine left")
	if got := p.Stderr(); !strings.Contains(got, "goroutine of job") {
		t.Errorf("stderr = %q, want it to name the job", got)
	}
}

func TestSecondInterrupt(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		p, url := start(t, with)
		get(t, url+"/hello?d=1000h")
		p.Signal(os.Interrupt)
		p.AwaitPortClosed(strings.TrimPrefix(url, "http://"))
		p.InterruptAgain()
		if with == "errgroup" {
			p.WantEnd("signal: interrupt")
			if got := p.Stderr(); got != "" {
				t.Errorf("stderr = %q, want none", got)
			}
			return
		}
		p.WantExit(130)
		if got := p.Stderr(); !strings.Contains(got, "gin/quit.go") ||
			!strings.Contains(got, "ending at once") {
			t.Errorf("stderr = %q, want it to name what still ran", got)
		}
	})
}

func TestSecondTerm(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		p, url, end := startJob(t, with, "request", "2m")
		resp := get(t, url+"/hello")
		p.Signal(syscall.SIGTERM)
		p.AwaitPortClosed(strings.TrimPrefix(url, "http://"))
		p.Signal(syscall.SIGTERM)
		if with == "errgroup" {
			p.WantEnd("signal: terminated")
			return
		}
		time.Sleep(100 * time.Millisecond) // time for a program that would be affected
		end()
		wantBody(t, resp, "Hello, world!\n")
		p.WantExit(0)
	})
}

func TestBadStart(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	for _, test := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"-with=quit", "-addr=" + taken}, 1, "address already in use"},
		{[]string{"-with=errgroup", "-addr=" + taken}, 1, "address already in use"},
		{[]string{"-with=luck"}, 2, `not "luck"`},
		{[]string{"-timeout=fast"}, 2, "invalid value"},
		{[]string{"-timeout=0s"}, 2, "-timeout=0s"},
		{[]string{"-fail-after=-1s"}, 2, "-fail-after=-1s"},
		{[]string{"-with=errgroup", "-timeout=-1s"}, 2, "-timeout=-1s"},
		{[]string{"-port=80"}, 2, "not defined: -port"},
		{[]string{"serve"}, 2, `unexpected argument "serve"`},
	} {
		process.WantBadStart(t, test.status, test.stderr, test.args...)
	}
}

// TestLines checks the counts in the doc comment.
func TestLines(t *testing.T) {
	t.Parallel()
	with, without := codeLines(t, "quit.go", "withQuit"),
		codeLines(t, "errgroup.go", "withErrgroup")
	if with >= without {
		t.Errorf("withQuit has %d lines of code, withErrgroup %d, want fewer", with, without)
	}
	main, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("withErrgroup is %d lines of code, withQuit is %d",
		without, with); !strings.Contains(string(main), want) {
		t.Errorf("the doc comment of main.go does not have %q", want)
	}
}

// codeLines counts the lines of a function, without empty lines and comments.
func codeLines(t *testing.T, file, name string) (n int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	body := regexp.MustCompile(`(?ms)^func ` + name + `\(.*?^}$`).FindString(string(text))
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			n++
		}
	}
	if n == 0 {
		t.Fatalf("%s has no func %s", file, name)
	}
	return n
}
