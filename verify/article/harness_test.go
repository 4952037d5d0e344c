//go:build unix

package article

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/verify/article/work"
)

// inFlight is the number of requests or jobs in flight when a program is told
// to end.
const inFlight = 50

// patience is the time that a program may take to end. All limits of the
// programs that end are shorter.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "48") // the programs wait for most of the time
	process.Main(m, nil)
}

// build builds the programs in a folder, and returns their paths by name. With
// original, they import the package of the article instead of ours, with no
// other change.
func build(t *testing.T, names []string, race, original bool) map[string]string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"build", "-ldflags=-w", "-o", dir + "/"}
	if race {
		args = append(args, "-race")
	}
	if original {
		replace := make(map[string]string)
		for _, name := range names {
			file, err := filepath.Abs(filepath.Join(name, "main.go"))
			must(t, err)
			text, err := os.ReadFile(file)
			must(t, err)
			changed := strings.Replace(string(text), `"github.com/gracefulgo/graceful/quit"`,
				`"github.com/gracefulgo/graceful/verify/article/original"`, 1)
			if changed == string(text) {
				t.Fatalf("%s does not import quit", file)
			}
			replace[file] = filepath.Join(dir, name+".go")
			must(t, os.WriteFile(replace[file], []byte(changed), 0o644))
		}
		overlay, err := json.Marshal(map[string]any{"Replace": replace})
		must(t, err)
		file := filepath.Join(dir, "overlay.json")
		must(t, os.WriteFile(file, overlay, 0o644))
		args = append(args, "-overlay="+file)
	}
	programs := make(map[string]string)
	for _, name := range names {
		args = append(args, "./"+name)
		programs[name] = filepath.Join(dir, name)
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return programs
}

// kind is the kind of work that a program has in flight.
type kind int

const (
	requests kind = iota
	calls         // of gRPC
	jobs          // it begins them itself
	waiting       // one of its jobs runs, the others wait
	nothing
)

// stop is a way to tell a program to end.
type stop struct {
	program string
	kind    kind
	fault   string      // the value of work.Fault
	signals []os.Signal // one after the other; work.Fault "fail" begins with SIGUSR1
	fires   bool        // the shutdown begins at "quit: fired"; otherwise when its port closes
	// The work takes that long after the shutdown has begun; 0: it does not
	// end.
	hold  time.Duration
	until string // and not before stdout has this
}

// outcome is the outcome of a stop.
type outcome struct {
	lost   int
	end    string        // as in "exit status 1"; "" if it still ran after patience
	took   time.Duration // from the first signal to the end
	order  []string      // of the ends of poller, requests, cache, database
	warned bool          // by WaitSignal, that nothing was closed or awaited
}

// run runs the program, and stops it. A signal that arrives before the program
// handles it kills it: then run tries again, unless that is wanted.
func (s stop) run(t *testing.T, want string) (o outcome) {
	t.Helper()
	for range 10 {
		if o = s.try(t); o.end != "signal: terminated" || o.end == want {
			return o
		}
		t.Log("the signal came before it was handled")
	}
	return o
}

func (s stop) try(t *testing.T) (o outcome) {
	t.Helper()
	cmd := process.Other(t, s.program)
	cmd.Env = append(cmd.Env, work.Fault+"="+s.fault, "GOTRACEBACK=single",
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // by default each exit takes a second
	stdin, err := cmd.StdinPipe()
	must(t, err)
	p := process.StartCommand(t, cmd)

	addr := ""
	var answered atomic.Int64
	var clients sync.WaitGroup
	switch s.kind {
	case requests, calls, nothing:
		addr = p.Line("listening on ")
	}
	switch s.kind {
	case requests:
		get(t, addr, &clients, &answered)
	case calls:
		call(t, addr, &clients, &answered)
	}
	switch s.kind {
	case requests, calls, jobs:
		for range inFlight {
			p.Line("working")
		}
	case waiting:
		p.Line("working")
	}
	if s.fault == "fail" {
		p.AwaitStdout("poller can fail\n")
	}

	began := time.Now()
send:
	for i, sig := range s.signals {
		select {
		case <-p.Exited(): // like a program that was signalled too early
			break send
		default:
		}
		if i > 0 && sig == os.Interrupt {
			p.InterruptAgain()
		} else {
			p.Signal(sig)
		}
		if i == 0 && (s.hold > 0 || len(s.signals) > 1) {
			s.awaitBegun(t, p, addr)
		}
	}
	if s.hold > 0 {
		select {
		case <-p.Exited():
		case <-time.After(s.hold):
			if s.until != "" {
				p.AwaitStdout(s.until)
			}
		}
		stdin.Close()
	}
	select {
	case <-p.Exited():
		o.took = time.Since(began)
		o.end = p.ProcessState.String()
	case <-time.After(patience):
		p.Process.Kill()
		<-p.Exited()
	}
	clients.Wait()

	switch s.kind {
	case requests, calls:
		o.lost = inFlight - int(answered.Load())
	case jobs, waiting:
		o.lost = inFlight - strings.Count(p.Stdout(), "done\n")
	}
	o.order = order(p.Stdout())
	o.warned = strings.Contains(p.Stderr(), "quit: nothing was closed or awaited")
	return o
}

// awaitBegun waits until the shutdown has begun, or the program has ended.
func (s stop) awaitBegun(t *testing.T, p *process.Process, addr string) {
	t.Helper()
	limit := time.Now().Add(3 * time.Minute)
	for ; time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		select {
		case <-p.Exited():
			return
		default:
		}
		if s.fires {
			if strings.Contains(p.Stderr(), "quit: fired") {
				return
			}
			continue
		}
		conn, err := net.Dial("tcp", addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err == nil {
			conn.Close()
		}
	}
	t.Fatal("the stop does not begin")
}

// get sends the requests.
func get(t *testing.T, addr string, clients *sync.WaitGroup, answered *atomic.Int64) {
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: 3 * time.Minute}
	for range inFlight {
		clients.Go(func() {
			resp, err := client.Get("http://" + addr)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && resp.StatusCode == http.StatusOK && string(body) == "done\n" {
				answered.Add(1)
			}
		})
	}
}

// call is get for gRPC.
func call(t *testing.T, addr string, clients *sync.WaitGroup, answered *atomic.Int64) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	client := testpb.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	for range inFlight {
		clients.Go(func() {
			if _, err := client.EmptyCall(ctx, new(testpb.Empty)); err == nil {
				answered.Add(1)
			}
		})
	}
}

// order returns the parts that have ended, in that order. The requests have
// ended when the last one has.
func order(stdout string) []string {
	var list []string
	last := strings.LastIndex(stdout, "done\n")
	pos := 0
	for line := range strings.Lines(stdout) {
		switch line {
		case "poller ended\n", "cache closed\n", "database closed\n":
			name, _, _ := strings.Cut(line, " ")
			list = append(list, name)
		case "done\n":
			if pos == last {
				list = append(list, "requests")
			}
		}
		pos += len(line)
	}
	return list
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
