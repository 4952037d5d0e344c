package quit_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

var lineNumber = regexp.MustCompile(`_test\.go:\d+`)

func TestNilIsIgnored(t *testing.T) {
	q, logged := loggedEvent()
	for i, unregister := range []func() bool{
		q.RegisterCloser(nil),
		q.RegisterQuitCloser(nil),
		q.RegisterQuitCloser(quit.ShutdownFunc(nil)),
		q.RegisterQuitCloser(quit.Graceful(nil, nil)),
		q.RegisterStopFunc(nil),
	} {
		if unregister() {
			t.Errorf("%d: unregister of nil = true, want false", i)
		}
	}
	if q.Go(nil) {
		t.Error("Go(nil) = true, want false")
	}
	if n := strings.Count(logged(), `level=WARN msg="quit: nil ignored"`); n != 6 {
		t.Errorf("%d warnings, want 6", n)
	}
	if n := strings.Count(logged(), "site=quit/closer_test.go:"); n != 6 {
		t.Errorf("%d warnings name the call site, want 6:\n%s", n, logged())
	}
	if err := q.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTypedNil(t *testing.T) {
	q := quietEvent()
	q.RegisterCloser((*net.TCPListener)(nil))    // its Close returns an error
	q.RegisterQuitCloser((*http.Server)(nil))    // its Shutdown panics
	q.RegisterQuitCloser((*quit.QuitEvent)(nil)) // so does its
	q.RegisterCloser(closerFunc(nil))
	err := q.Shutdown(t.Context())
	if err == nil {
		t.Fatal("Shutdown() = nil")
	}
	got := lineNumber.ReplaceAllString(err.Error(), "_test.go:LINE")
	for _, want := range []string{
		"quit: *net.TCPListener (quit/closer_test.go:LINE): " + syscall.EINVAL.Error(),
		"quit: *http.Server (quit/closer_test.go:LINE): " +
			"panic: runtime error: invalid memory address",
		"quit: *quit.QuitEvent (quit/closer_test.go:LINE): panic: ",
		"quit: quit_test.closerFunc (quit/closer_test.go:LINE): panic: ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("Shutdown() does not have %q:\n%s", want, got)
		}
	}
}

func TestRegisterCloserWithShutdown(t *testing.T) {
	q, logged := loggedEvent()
	var j journal
	q.RegisterCloser(&bothWays{
		shutdown: func(context.Context) error { j.add("Shutdown"); return nil },
		close:    func() error { j.add("Close"); return nil },
	})
	if !strings.Contains(logged(), "level=WARN") ||
		!strings.Contains(logged(), "closer=*quit_test.bothWays") ||
		!strings.Contains(logged(), "site=quit/closer_test.go:") {
		t.Errorf("no warning that Close is called where there is a Shutdown:\n%s", logged())
	}
	q.GracefulStop()
	j.want(t, "Close")
}

func TestOptions(t *testing.T) {
	q := quietEvent()
	failure := errors.New("failure")
	shared := quit.Ignore(failure)
	fail := closerFunc(func() error { return failure })
	q.RegisterCloser(fail, nil, quit.Name("first"), quit.Name("last"), nil)
	q.RegisterCloser(fail, shared, quit.Ignore(), quit.Name("ignored"))
	q.RegisterCloser(fail, quit.Ignore(context.Canceled), quit.Name(""), quit.Timeout(-1))
	err := q.Shutdown(t.Context())
	got := lineNumber.ReplaceAllString(err.Error(), "_test.go:LINE")
	want := "quit: quit_test.closerFunc (quit/closer_test.go:LINE): failure\n" +
		"quit: last (quit/closer_test.go:LINE): failure"
	if got != want {
		t.Errorf("Shutdown() =\n%s\nwant\n%s", got, want)
	}
}

type service struct{}

func (*service) Stop() {}
func stopAll()         {}

func TestDefaultNames(t *testing.T) {
	s := new(service)
	for _, test := range []struct {
		register func(q *quit.QuitEvent)
		want     string
	}{
		{
			register: func(q *quit.QuitEvent) { q.RegisterCloser(closerFunc(nil)) },
			want:     "quit_test.closerFunc",
		},
		{
			register: func(q *quit.QuitEvent) { q.RegisterQuitCloser((*http.Server)(nil)) },
			want:     "*http.Server",
		},
		{
			register: func(q *quit.QuitEvent) { q.RegisterStopFunc(func() { panic(1) }) },
			want:     "quit_test.TestDefaultNames.func3.1",
		},
		{register: func(q *quit.QuitEvent) { q.RegisterStopFunc(s.Stop, quit.Timeout(-1)) }},
		{
			register: func(q *quit.QuitEvent) {
				q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
					return errors.New("x")
				}))
			},
			want: "quit_test.TestDefaultNames.func5.1",
		},
		{
			register: func(q *quit.QuitEvent) {
				q.RegisterQuitCloser(quit.Graceful(func() { panic(1) }, stopAll))
			},
			want: "quit_test.TestDefaultNames.func6.1",
		},
	} {
		q := quietEvent()
		test.register(q)
		err := q.Shutdown(t.Context())
		if test.want == "" {
			continue
		}
		if err == nil ||
			!strings.HasPrefix(err.Error(), "quit: "+test.want+" (quit/closer_test.go:") {
			t.Errorf("Shutdown() = %v, want the name %q", err, test.want)
		}
	}
}

func TestShortSymbol(t *testing.T) {
	const pool = "(*Pool[go.shape.struct {}]).Close.func1"
	for symbol, want := range map[string]string{
		"main.main.func1": "main.main.func1",
		"google.golang.org/grpc.(*Server).GracefulStop-fm": "grpc.(*Server).GracefulStop",
		"github.com/redis/go-redis/v9.(*Client).Close-fm":  "go-redis/v9.(*Client).Close",
		"example.com/v2.Close":                             "example.com/v2.Close",
		"v2.Close":                                         "v2.Close",
		"example.com/v.Close":                              "v.Close",
		"example.com/12.Close":                             "12.Close",
		"gopkg.in/yaml%2ev3.Close":                         "yaml.v3.Close",
		"example.com/a/b.Stop[example.com/c/d.T]":          "b.Stop[example.com/c/d.T]",
		"example.com/a/b." + pool:                          "b." + pool,
		"":                                                 "",
	} {
		if got := quit.ShortSymbol(symbol); got != want {
			t.Errorf("shortSymbol(%q) = %q, want %q", symbol, got, want)
		}
	}
}

func TestSite(t *testing.T) {
	q, logged := loggedEvent()
	register := q.RegisterCloser // a method value may have a frame of its own
	register(nil)
	quit.SetQuitEvent(func() *quit.QuitEvent {
		old := quit.GetQuitEvent()
		t.Cleanup(func() { quit.SetQuitEvent(old) })
		return q
	}())
	quit.GetQuitEvent().RegisterStopFunc(nil)
	if n := strings.Count(logged(), "site=quit/closer_test.go:"); n != 2 {
		t.Errorf("%d of 2 sites are where Register was called:\n%s", n, logged())
	}
}

// TestManyClosers registers as many closers as the race detector can take.
// BenchmarkShutdown has a million.
func TestManyClosers(t *testing.T) {
	const many = 50_000
	q := quietEvent()
	q.Timeout = -1
	n := 0
	for range many {
		q.RegisterStopFunc(func() { n++ })
	}
	if err := q.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if n != many {
		t.Errorf("%d of %d closers were called", n, many)
	}
}

func TestCloserRunsUserCodeUnlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		// Each of these takes the event's lock.
		all := func() {
			q.RegisterStopFunc(func() {})()
			q.AddGoroutine()
			q.DoneGoroutine()
			q.TryAddGoroutine()
			q.Fail(context.Canceled)
			q.Cause()
			q.WaitGoroutines()
			q.GracefulStop()
		}
		q.RegisterStopFunc(all)
		q.RegisterStopFunc(all, quit.AfterDrain())
		q.GracefulStop()
	})
}

func TestGraceful(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			var j journal
			q.RegisterQuitCloser(quit.Graceful(
				func() { j.add("stop") },
				func() { j.add("force") },
			))
			if err := q.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			j.want(t, "stop")
		})
	})
	t.Run("forced", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			var j journal
			forced := make(chan struct{})
			start := time.Now()
			q.RegisterQuitCloser(quit.Graceful(
				func() { <-forced; j.add("stopped") },
				func() { j.add(fmt.Sprint("force after ", time.Since(start))); close(forced) },
			))
			err := q.Shutdown(context.Background())
			if !errors.Is(err, context.DeadlineExceeded) ||
				!strings.Contains(err.Error(), "forced to stop") {
				t.Errorf("Shutdown() = %v", err)
			}
			j.want(t, "force after 19.2s", "stopped")
		})
	})
	t.Run("panics and Goexit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			forced := make(chan struct{})
			q.RegisterQuitCloser(quit.Graceful(
				func() { <-forced; panic("stop") },
				func() { close(forced); panic("force") }))
			var late bool
			q.RegisterQuitCloser(quit.Graceful(runtime.Goexit, func() { late = true }))
			slow := quit.Graceful(func() { time.Sleep(3 * time.Second) }, runtime.Goexit)
			q.RegisterQuitCloser(slow, quit.Timeout(2900*time.Millisecond))
			err := q.Shutdown(context.Background())
			for _, want := range []string{"panic: stop", "panic: force", "called runtime.Goexit"} {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("Shutdown() = %v, want it to have %q", err, want)
				}
			}
			synctest.Wait()
			if late {
				t.Error("force was called although stop had ended its goroutine in time")
			}
		})
	})
	t.Run("no force", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			stop := quit.Graceful(func() { time.Sleep(1050 * time.Millisecond) }, nil)
			q.RegisterQuitCloser(stop, quit.Timeout(time.Second)) // returns before it is abandoned
			if err := q.Shutdown(context.Background()); err != nil {
				t.Errorf("Shutdown() = %v, want nil", err)
			}
		})
	})
	t.Run("Goexit when forced", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
			q := quietEvent()
			forced := make(chan struct{})
			q.RegisterQuitCloser(quit.Graceful(
				func() { <-forced; runtime.Goexit() },
				func() { close(forced) },
			))
			err := q.Shutdown(context.Background())
			if err == nil || !strings.Contains(err.Error(), "called runtime.Goexit") {
				t.Errorf("Shutdown() = %v, want it to tell of the Goexit", err)
			}
		})
	})
	t.Run("nil", func(t *testing.T) {
		if c := quit.Graceful(nil, func() {}); c != nil {
			t.Errorf("Graceful(nil, force) = %v, want nil", c)
		}
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			q.RegisterQuitCloser(quit.Graceful(func() { time.Sleep(time.Second) }, nil))
			if err := q.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
		err := quit.Graceful(func() { panic("stop") }, nil).Shutdown(t.Context())
		if p, ok := err.(*quit.PanicError); !ok || p.Value != "stop" {
			t.Errorf("Shutdown() = %v, want a *PanicError", err)
		}
	})
}

// TestCloserFailsLate uses a Close that returns an error after its share, but
// before it is abandoned. It is not called again.
func TestCloserFailsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		failure := errors.New("failure")
		calls := 0
		q.RegisterCloser(closerFunc(func() error {
			calls++
			time.Sleep(1050 * time.Millisecond)
			return failure
		}), quit.Name("db"), quit.Timeout(time.Second))
		err := q.Shutdown(context.Background())
		if r := q.Report(); r.Steps[0].Err != failure || calls != 1 || !errors.Is(err, failure) {
			t.Errorf("Shutdown() = %v, the step failed with %v, Close was called %d times, "+
				"want %v and once",
				err, r.Steps[0].Err, calls, failure)
		}
	})
}
