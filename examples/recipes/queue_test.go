//go:build unix

package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

const (
	queueSize = 256
	workers   = 4
	// This many jobs are done at once. The others begin, and wait for the
	// signal. So the queue is full by then, regardless of the speed of the
	// machine.
	doneAtOnce = 100
)

// jobServer takes jobs by POST, and prints each when it is done.
var jobServer = process.NewProgram("job server", func(args []string) {
	q := quit.GetQuitEvent()
	q.NotifySignal()
	var begun atomic.Int64
	do := func(ctx context.Context, job string) error {
		if begun.Add(1) > doneAtOnce {
			<-q.Done()
		}
		fmt.Println("done", job)
		return ctx.Err()
	}
	var add func(job string) bool
	if args[0] == "range" {
		add = recipes.StartQueue(q, queueSize, workers, do).Add
	} else {
		add = startSelecting(q, do)
	}
	addr, err := quithttp.ListenAndServe(q, &http.Server{
		Addr: "127.0.0.1:0",
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			job, err := io.ReadAll(r.Body)
			switch {
			case err != nil:
				w.WriteHeader(http.StatusBadRequest)
			case add(string(job)):
				w.WriteHeader(http.StatusAccepted)
			default:
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}),
	})
	exitIf(err)
	process.Say("%v", addr)
	exitIf(q.WaitSignal())
})

// startSelecting is StartQueue with a loop that is wrong for a queue.
func startSelecting(q *quit.QuitEvent,
	do func(context.Context, string) error) (add func(string) bool) {
	jobs := make(chan string, queueSize)
	for range workers {
		q.Go(func(ctx context.Context) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case job := <-jobs:
					if err := do(q.WorkContext(), job); err != nil {
						return err
					}
				}
			}
		})
	}
	return func(job string) bool {
		select {
		case jobs <- job:
			return true
		default:
			return false
		}
	}
}

// TestQueue stops a server under the load of 50 producers.
func TestQueue(t *testing.T) {
	for _, loop := range []string{"range", "select"} {
		t.Run(loop, func(t *testing.T) {
			t.Parallel()
			p := jobServer.Start(t, loop)
			url := "http://" + p.Next()

			var mu sync.Mutex
			accepted := make(map[string]bool)
			full := make(chan struct{})
			accept := func(job string) {
				mu.Lock()
				defer mu.Unlock()
				accepted[job] = true
				if len(accepted) == doneAtOnce+queueSize {
					close(full)
				}
			}
			var producers sync.WaitGroup
			for i := range 50 {
				producers.Go(func() { produce(t, url, fmt.Sprint("producer ", i), accept) })
			}
			<-full
			p.Signal(syscall.SIGTERM)
			producers.Wait()
			p.WantExit(0)

			lost := 0
			out := p.Stdout()
			for job := range accepted {
				switch strings.Count(out, "done "+job+"\n") {
				case 0:
					lost++
				case 1:
				default:
					t.Errorf("%s was done more than once", job)
				}
			}
			t.Logf("%d jobs accepted, %d lost", len(accepted), lost)
			if loop == "range" && lost > 0 {
				t.Errorf("%d of %d jobs were accepted and not done", lost, len(accepted))
			}
			// Some 250 jobs wait when the signal comes. A select would have to
			// choose a job 250 times before it chooses the end once.
			if loop == "select" && lost == 0 {
				t.Error(
					"the loop that selects on Done has lost no job: then the recipe is needless")
			}
		})
	}
}

// produce posts one job after another until the server is gone.
func produce(t *testing.T, url, name string, accept func(job string)) {
	client := &http.Client{Transport: new(http.Transport), Timeout: 3 * time.Minute}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		job := fmt.Sprintf("%s, job %d", name, n)
		res, err := client.Post(url, "text/plain", strings.NewReader(job))
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return
		case err != nil:
			t.Errorf("%s: %v", job, err)
			return
		}
		res.Body.Close()
		switch res.StatusCode {
		case http.StatusAccepted:
			accept(job)
		case http.StatusServiceUnavailable:
			time.Sleep(time.Millisecond) // lets the others have the processor
		default:
			t.Errorf("%s: status %d", job, res.StatusCode)
		}
	}
}

// TestQueueTimeUp checks that each job for which there was no time is a
// failure.
func TestQueueTimeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		queue := recipes.StartQueue(q, 8, 1, func(ctx context.Context, job string) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		add(t, queue, "a", "b", "c")
		wantFailures(t, q, `job "a" was not done: quit: no time left`,
			`job "b" was not done`, `job "c" was not done`, "drain: 1 goroutine left")
		if queue.Add("late") {
			t.Error("Add after the end = true, want false")
		}
	})
}

// TestQueueHangs uses a job that does not end when its time is over.
func TestQueueHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		queue := recipes.StartQueue(q, 8, 1, func(context.Context, string) error {
			time.Sleep(time.Hour)
			return nil
		})
		add(t, queue, "a", "b", "c")
		wantFailures(t, q, "drain: 1 goroutine left", "not done: 2")
		q.WaitGoroutines()
	})
}

// TestQueuePanics uses a job that panics, so that no worker is left.
func TestQueuePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		queue := recipes.StartQueue(q, 8, 1, func(ctx context.Context, job string) error {
			panic("bad job")
		})
		add(t, queue, "a", "b", "c")
		wantFailures(t, q, "panic: bad job", "not done: 2")
	})
}

// TestQueueFailure makes one job fail: the program ends, and the other jobs are
// done.
func TestQueueFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		var done []string
		queue := recipes.StartQueue(q, 8, 1, func(ctx context.Context, job string) error {
			if job == "bad" {
				return errors.New("disk full")
			}
			done = append(done, job)
			return nil
		})
		add(t, queue, "bad", "good", "better")
		<-q.Done()
		wantFailures(t, q, `job "bad" was not done: disk full`)
		if got := strings.Join(done, " "); got != "good better" {
			t.Errorf("done: %q, want the two good ones", got)
		}
	})
}

func add(t *testing.T, queue *recipes.Queue, jobs ...string) {
	t.Helper()
	for _, job := range jobs {
		if !queue.Add(job) {
			t.Errorf("Add(%q) = false, want true", job)
		}
	}
}

// wantFailures checks that the shutdown of q fails with these failures, one a
// line.
func wantFailures(t *testing.T, q *quit.QuitEvent, want ...string) {
	t.Helper()
	err := q.Shutdown(context.Background())
	lines := strings.Split(fmt.Sprint(err), "\n")
	if len(lines) != len(want) {
		t.Errorf("Shutdown() = %v, want %d failures", err, len(want))
	}
	for _, w := range want {
		if !slices.ContainsFunc(lines, func(line string) bool {
			return strings.Contains(line, w)
		}) {
			t.Errorf("Shutdown() = %v, want in it: %s", err, w)
		}
	}
}
