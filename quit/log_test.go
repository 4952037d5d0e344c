package quit_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		hang := make(chan struct{})
		defer close(hang)
		q.RegisterStopFunc(func() { <-hang }, quit.Name("hung"))
		q.RegisterStopFunc(func() { panic("boom") }, quit.Name("panicky"))
		q.Fail(errors.New("the reason"))
		q.GracefulStop()
		log := logged()
		for _, want := range []string{
			`level=INFO msg="quit: fired" cause="the reason"`,
			`level=ERROR msg="quit: step failed" step=panicky site=quit/log_test.go:`,
			`panic: boom`,
			`runtime/panic.go`,
			`level=DEBUG msg="quit: step begins" step=hung site=quit/log_test.go:`,
			`level=WARN msg="quit: step still running" step=hung site=quit/log_test.go:`,
			`for=5s left=16.6s`, `for=10s left=11.6s`, `for=20s left=1.6s`,
			`level=ERROR msg="quit: step abandoned" step=hung`,
			`level=DEBUG msg="quit: step ended" step=drain`,
			`level=INFO msg="quit: stopped" took=21.6s failures=3`,
		} {
			if !strings.Contains(log, want) {
				t.Errorf("the log does not have %q", want)
			}
		}
		if n := strings.Count(log, "still running"); n != 3 {
			t.Errorf("%d warnings of a step still running, want 3", n)
		}
		if t.Failed() {
			t.Log(log)
		}
	})
}

// TestLogDefault replaces the default logger while its handler is slow. Each
// record goes to the logger that was the default when the record was made.
func TestLogDefault(t *testing.T) {
	logger, out, flags := slog.Default(), log.Writer(), log.Flags()
	defer func() {
		slog.SetDefault(logger)
		log.SetOutput(out) // SetDefault has changed it
		log.SetFlags(flags)
	}()
	slow := make(chan struct{})
	var before, after strings.Builder
	slog.SetDefault(slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		<-slow
		return before.Write(p)
	}), nil)))
	q := quit.NewQuitEvent()
	q.Fail(errors.New("failure"))
	slog.SetDefault(slog.New(slog.NewTextHandler(&after, nil)))
	close(slow)
	q.GracefulStop()
	for name, got := range map[string][2]string{
		"failed":  {before.String(), after.String()},
		"fired":   {before.String(), after.String()},
		"stopped": {after.String(), before.String()},
	} {
		want := "quit: " + name
		if !strings.Contains(got[0], want) || strings.Contains(got[1], want) {
			t.Errorf("before the change the log has\n%s\nand after it\n%s", &before, &after)
		}
	}
}

// TestLogDelay uses a long Delay. A delay is meant to take its time, so there
// is no warning.
func TestLogDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		q.Delay = 12 * time.Second
		q.GracefulStop()
		want := `msg="quit: step ended" step=delay took=12s`
		if log := logged(); strings.Contains(log, "still running") || !strings.Contains(log, want) {
			t.Errorf("the log has a warning, or no %s:\n%s", want, log)
		}
	})
}

// TestLogOfInnermost gives the innermost of three nested events a slow log
// handler. No step waits for it, but the end of the outermost shutdown does.
func TestLogOfInnermost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child := quietEvent(), quietEvent()
		q.Timeout = 100 * time.Second
		var last time.Time
		stopped := false
		innermost := eventWith(func(r slog.Record) {
			time.Sleep(time.Second)
			last, stopped = time.Now(), r.Message == "quit: stopped"
		})
		child.RegisterQuitCloser(innermost)
		q.RegisterQuitCloser(child)
		start := time.Now()
		q.GracefulStop()
		if !stopped || !time.Now().Equal(last) {
			t.Errorf("the shutdown ended after %v, the last record was taken after %v",
				time.Since(start), last.Sub(start))
		}
		if took := q.Report().Ended.Sub(start); took != 0 {
			t.Errorf("the steps took %v, want none", took)
		}
	})
}

// callingHandler is a log handler that calls the event whose log it handles. It
// stops after 20 records, since its calls cause more records.
type callingHandler struct {
	slog.Handler
	calls *atomic.Int32
	call  func()
}

func (h callingHandler) Handle(context.Context, slog.Record) error {
	if h.calls.Add(1) <= 20 {
		h.call()
	}
	return nil
}

func (h callingHandler) Enabled(context.Context, slog.Level) bool { return true }

func TestLogHandlerMayCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quit.NewQuitEvent()
		h := callingHandler{Handler: slog.DiscardHandler, calls: new(atomic.Int32), call: func() {
			q.RegisterStopFunc(func() {})()
			q.TryAddGoroutine()
			q.DoneGoroutine()
			q.Cause()
			q.Fail(context.Canceled)
		}}
		q.Logger = slog.New(h)
		q.RegisterCloser(nil)
		q.RegisterStopFunc(func() { panic("boom") })
		q.GracefulStop()
		if h.calls.Load() < 5 {
			t.Errorf("the handler was called %d times", h.calls.Load())
		}
	})
}

// TestLogHandlerMayShutDown makes a log handler shut the event down at every
// record. The call must not wait for a step that waits for the handler.
func TestLogHandlerMayShutDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quit.NewQuitEvent()
		h := callingHandler{
			Handler: slog.DiscardHandler,
			calls:   new(atomic.Int32),
			call:    q.GracefulStop,
		}
		q.Logger = slog.New(h)
		hang := make(chan struct{})
		defer close(hang)
		called := false
		q.RegisterStopFunc(func() { called = true })
		q.RegisterStopFunc(func() { <-hang })
		q.Go(func(ctx context.Context) error { <-ctx.Done(); panic("boom") })
		start := time.Now()
		q.GracefulStop()
		if took := time.Since(start); took != 21600*time.Millisecond || !called {
			t.Errorf("the shutdown took %v, want 21.6s; the last closer was called: %v",
				took, called)
		}
	})
}

// funcHandler is a log handler made of funcs.
type funcHandler struct {
	enabled func() bool // nil: of all levels
	handle  func(r slog.Record)
}

func (h *funcHandler) Enabled(context.Context, slog.Level) bool {
	return h.enabled == nil || h.enabled()
}
func (h *funcHandler) Handle(_ context.Context, r slog.Record) error {
	h.handle(r)
	return nil
}
func (h *funcHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *funcHandler) WithGroup(string) slog.Handler      { return h }

// eventWith returns a new event with the func as its log handler.
func eventWith(handle func(r slog.Record)) *quit.QuitEvent {
	return &quit.QuitEvent{Logger: slog.New(&funcHandler{handle: handle})}
}

// attr returns an attribute of a record as a text, or "".
func attr(r slog.Record, key string) (text string) {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == key {
			text = a.Value.String()
		}
		return true
	})
	return text
}

// TestLogHandlerMisbehaves uses handlers that panic or end their goroutine. The
// shutdown is the same as without a log.
func TestLogHandlerMisbehaves(t *testing.T) {
	for _, test := range []struct {
		name    string
		enabled func() bool
		handle  func()
		unseen  bool // the handler is never called
	}{
		{name: "not at all", handle: func() {}},
		{name: "panics", handle: func() { panic("in the handler") }},
		{name: "panics with nil", handle: func() { panic(error(nil)) }},
		{name: "ends its goroutine", handle: runtime.Goexit},
		{name: "Enabled panics", enabled: func() bool { panic("in Enabled") }, unseen: true},
		{
			name:    "Enabled ends its goroutine",
			enabled: func() bool { runtime.Goexit(); return true },
			unseen:  true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen, called journal
				handle := func(r slog.Record) {
					seen.add(strings.TrimSpace(r.Message + " " + attr(r, "step")))
					test.handle()
				}
				q := &quit.QuitEvent{
					Logger: slog.New(&funcHandler{enabled: test.enabled, handle: handle}),
				}
				q.RegisterStopFunc(func() { called.add("after"); panic("boom") },
					quit.AfterDrain(), quit.Name("after"))
				q.RegisterStopFunc(func() { time.Sleep(time.Second); called.add("slow") },
					quit.Name("slow"))
				fails := func() error { called.add("fails"); return errors.New("failed") }
				q.RegisterCloser(closerFunc(fails), quit.Name("fails"))
				q.Go(func(context.Context) error { return errors.New("lost") },
					quit.Name("worker"))
				q.WaitGoroutines()
				start := time.Now()
				err := q.Shutdown(context.Background())
				if took := time.Since(start); took != time.Second {
					t.Errorf("the shutdown took %v, want 1s", took)
				}
				if n := len(strings.Split(fmt.Sprint(err), "\n")); n != 3 {
					t.Errorf("Shutdown() = %v, want 3 failures", err)
				}
				called.want(t, "fails", "slow", "after")
				synctest.Wait()
				if test.unseen {
					seen.want(t)
					return
				}
				seen.want(t, "quit: goroutine failed", "quit: fired",
					"quit: step begins fails", "quit: step failed fails",
					"quit: step begins slow", "quit: step ended slow",
					"quit: step begins drain", "quit: step ended drain",
					"quit: step begins after", "quit: step failed after", "quit: stopped")
			})
		})
	}
}

// TestLogHandlerBlocks uses a handler that never returns. Each closer has as
// much time as without a log. Only the end comes later.
func TestLogHandlerBlocks(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	for _, test := range []struct {
		timeout   time.Duration
		took      time.Duration
		deadlines []time.Duration // of the closers; 0: none
	}{
		{
			timeout:   10 * s,
			took:      9950 * ms,
			deadlines: []time.Duration{7200 * ms, 7400 * ms, 7600 * ms, 7800 * ms},
		},
		{timeout: -1, took: 4 * s, deadlines: make([]time.Duration, 4)}, // a second after its end
	} {
		t.Run(test.timeout.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				q := eventWith(func(slog.Record) { <-hang })
				q.Timeout = test.timeout
				start := time.Now()
				var got []time.Duration
				look := func(ctx context.Context) error {
					if want := time.Duration(len(got)) * s; time.Since(start) != want {
						t.Errorf("closer %d was called after %v, want %v",
							len(got), time.Since(start), want)
					}
					end, ok := ctx.Deadline()
					if !ok {
						end = start
					}
					got = append(got, end.Sub(start))
					if len(got) < len(test.deadlines) {
						time.Sleep(s)
					}
					return errors.New("failed")
				}
				q.RegisterQuitCloser(quit.ShutdownFunc(look), quit.AfterDrain())
				for range 3 {
					q.RegisterQuitCloser(quit.ShutdownFunc(look))
				}
				q.Fail(errors.New("before")) // does not wait for the handler either
				err := q.Shutdown(context.Background())
				if took := time.Since(start); took != test.took {
					t.Errorf("the shutdown took %v, want %v", took, test.took)
				}
				if n := len(strings.Split(fmt.Sprint(err), "\n")); n != 5 {
					t.Errorf("Shutdown() = %v, want 5 failures", err)
				}
				if !slices.Equal(got, test.deadlines) {
					t.Errorf("the deadlines of the closers = %v, want %v", got, test.deadlines)
				}
				close(hang)
			})
		})
	}
}

// TestLogHandlerIsSlow uses a handler that takes 300 ms for each record. No
// step is delayed by it. The records are in order and have the times at which
// they were made. Shutdown returns when the handler has them all.
func TestLogHandlerIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perRecord, perCloser = 300 * time.Millisecond, 10 * time.Millisecond
		start := time.Now()
		var seen journal
		q := eventWith(func(r slog.Record) {
			seen.add(fmt.Sprintf("%v %s %s%s",
				r.Time.Sub(start), r.Message, attr(r, "step"), attr(r, "share")))
			time.Sleep(perRecord)
		})
		q.Timeout = 100 * time.Second
		want := []string{"0s quit: fired "}
		for i := range 10 {
			name := fmt.Sprint("step", i)
			q.RegisterStopFunc(func() { time.Sleep(perCloser) },
				quit.Name(fmt.Sprint("step", 9-i)))
			begins := time.Duration(i) * perCloser
			share := (99*time.Second - begins) / 5 * 4
			want = append(want, fmt.Sprintf("%v quit: step begins %s%v", begins, name, share),
				fmt.Sprintf("%v quit: step ended %s", begins+perCloser, name))
		}
		want = append(want,
			"100ms quit: step begins drain1m19.12s",
			"100ms quit: step ended drain",
			"100ms quit: stopped ",
		)
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		seen.want(t, want...)
		if took := time.Since(start); took != time.Duration(len(want))*perRecord {
			t.Errorf("Shutdown took %v, want %v for each of %d records",
				took, perRecord, len(want))
		}
	})
}

// TestLogHandlerFails uses a handler that calls Fail for each failure that is
// logged, before and after the end.
func TestLogHandlerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q *quit.QuitEvent
		records, fails := 0, 0
		q = eventWith(func(r slog.Record) {
			records++
			if r.Level >= slog.LevelError {
				fails++
				q.Fail(fmt.Errorf("log %d", fails))
			}
		})
		q.RegisterStopFunc(func() { time.Sleep(time.Second) })
		q.RegisterCloser(closerFunc(func() error { return errors.New("failed") }),
			quit.Name("closer"))
		q.RegisterStopFunc(func() { time.Sleep(time.Second) })
		q.Go(func(context.Context) error { return errors.New("lost") }, quit.Name("worker"))
		<-q.Done()
		err := q.Shutdown(context.Background())
		want := "quit: goroutine worker: lost\nlog 1\n" +
			"quit: closer (quit/log_test.go:LINE): failed\nlog 2"
		if got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE"); got != want {
			t.Errorf("Shutdown() = %q, want %q", got, want)
		}
		before := records
		q.Fail(errors.New("late"))
		q.RegisterStopFunc(func() { panic("late") })
		synctest.Wait()
		if n := records - before; n != 3 || fails != 4 { // late, begins, panic
			t.Errorf("after the end: %d records, want 3; %d failures of the handler, want 4",
				n, fails)
		}
		if again := q.Shutdown(context.Background()); again != err {
			t.Errorf("Shutdown() = %v after the end, want the same as before", again)
		}
	})
}

// TestLogHandlerMisuses uses a handler that makes a mistake at each record.
// That must not go on for ever, before the fire or after it.
func TestLogHandlerMisuses(t *testing.T) {
	for name, mistake := range map[string]func(q *quit.QuitEvent){
		"no closer": func(q *quit.QuitEvent) { q.RegisterCloser(nil) },
		"done": func(q *quit.QuitEvent) {
			done, cancel := context.WithCancel(context.Background())
			cancel()
			q.Shutdown(done)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var q *quit.QuitEvent
				records := 0
				q = eventWith(func(slog.Record) {
					if records++; records < 100 {
						mistake(q)
					}
				})
				q.RegisterCloser(nil)
				synctest.Wait()
				q.GracefulStop()
				q.RegisterCloser(nil)
				if records > 10 {
					t.Errorf("%d records, want a few", records)
				}
			})
		})
	}
}

// TestMistakeOfCloser makes a closer call another event by mistake before that
// has fired, and then shut its own event down. That call does not wait.
func TestMistakeOfCloser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, other := quietEvent(), quietEvent()
		q.RegisterStopFunc(func() {
			other.RegisterCloser(nil)
			q.GracefulStop()
		})
		if err := q.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v", err)
		}
		other.GracefulStop()
	})
}

// TestLogHandlerShutsDown makes the handlers of an event and its child shut
// down either of them at each record. All closers are called in order, and
// nothing waits.
func TestLogHandlerShutsDown(t *testing.T) {
	type call = func(q *quit.QuitEvent)
	for name, stop := range map[string]call{
		"Shutdown":     func(q *quit.QuitEvent) { _ = q.Shutdown(context.Background()) },
		"GracefulStop": (*quit.QuitEvent).GracefulStop,
	} {
		for start, begin := range map[string]func(parent, child *quit.QuitEvent){
			"parent":       func(parent, _ *quit.QuitEvent) { parent.GracefulStop() },
			"child":        func(_, child *quit.QuitEvent) { child.GracefulStop() },
			"child fails":  func(_, child *quit.QuitEvent) { child.Fail(errors.New("failed")) },
			"parent fires": func(parent, _ *quit.QuitEvent) { parent.Fire() },
		} {
			for _, who := range []string{"own", "parent", "child", "both"} {
				t.Run(name+"/"+start+"/"+who, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var parent, child *quit.QuitEvent
						handler := func(own **quit.QuitEvent) *quit.QuitEvent {
							return eventWith(func(slog.Record) {
								switch who {
								case "own":
									stop(*own)
								case "parent":
									stop(parent)
								case "child":
									stop(child)
								case "both":
									stop(child)
									stop(parent)
								}
							})
						}
						parent, child = handler(&parent), handler(&child)
						var j journal
						parent.RegisterStopFunc(func() { j.add("database") })
						parent.RegisterQuitCloser(child)
						child.RegisterStopFunc(func() { time.Sleep(time.Second); j.add("second") })
						child.RegisterStopFunc(func() { time.Sleep(time.Second); j.add("first") })
						began := time.Now()
						begin(parent, child)
						parent.GracefulStop()
						if took := time.Since(began); took != 2*time.Second {
							t.Errorf("the shutdown took %v, want 2s", took)
						}
						synctest.Wait()
						j.want(t, "first", "second", "database")
					})
				})
			}
		}
	}
}

// TestLogFlood makes more records than are kept for a handler that blocks. The
// last record has the number of lost records.
func TestLogFlood(t *testing.T) {
	for _, debug := range []bool{false, true} {
		t.Run(fmt.Sprintf("debug=%v", debug), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				var seen []slog.Record
				q := eventWith(func(r slog.Record) { <-hang; seen = append(seen, r) })
				const flood = 10_000
				records := 1 // fired
				if debug {
					for range flood / 2 {
						q.RegisterStopFunc(func() {})
					}
					q.GracefulStop() // takes until its deadline
					records += flood + 2 + 1
				} else {
					for range flood {
						q.Fail(errors.New("failed"))
					}
					records += flood
				}
				close(hang)
				synctest.Wait()
				last := seen[len(seen)-1]
				lost, _ := strconv.Atoi(attr(last, "records"))
				if last.Message != "quit: log records lost" || last.Level != slog.LevelWarn ||
					len(seen)-1+lost != records {
					t.Errorf("the last of %d records: %v %q, %d lost; want %d in all",
						len(seen), last.Level, last.Message, lost, records)
				}
				if len(seen) > 5000 {
					t.Errorf("%d records were kept", len(seen))
				}
				stopped := func(r slog.Record) bool { return r.Message == "quit: stopped" }
				if debug && !slices.ContainsFunc(seen, stopped) {
					t.Error("Debug records have taken the place of others")
				}
				q.GracefulStop()
			})
		})
	}
}

// TestLogNamesEvents checks the names of nested events in their records.
func TestLogNamesEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen journal
		event := func() *quit.QuitEvent {
			return eventWith(func(r slog.Record) {
				if r.Level >= slog.LevelInfo {
					seen.add(strings.TrimPrefix(r.Message, "quit: ") + " " + attr(r, "event"))
				}
			})
		}
		q, child, inner := event(), event(), event()
		q.RegisterQuitCloser(child, quit.Name("workers"))
		child.RegisterQuitCloser(inner, quit.Name("pool"))
		inner.RegisterStopFunc(func() { panic("boom") })
		inner.Go(func(context.Context) error { return errors.New("lost") })
		<-inner.Done()
		synctest.Wait()
		inner.RegisterCloser(nil)
		q.GracefulStop()
		synctest.Wait()
		// Each event hands over its own records in order.
		var of journal
		for _, event := range []string{"workers: pool", "workers", ""} {
			for _, line := range seen.all() {
				message, ok := strings.CutSuffix(line, " "+event)
				if ok && (event != "" || !strings.Contains(line, "workers")) &&
					!strings.HasSuffix(message, ":") {
					of.add(line)
				}
			}
		}
		of.want(t,
			"goroutine failed workers: pool", "fired workers: pool",
			"nil ignored workers: pool", "step failed workers: pool", "stopped workers: pool",
			"fired workers", "step failed workers", "stopped workers",
			"fired ", "step failed ", "stopped ")
	})
}

// TestLogNamesDeepEvents nests more events than a record names.
func TestLogNamesDeepEvents(t *testing.T) {
	q := quietEvent()
	want := ""
	for level := range 12 {
		inner, logged := loggedEvent()
		name := fmt.Sprint("e", level)
		q.RegisterQuitCloser(inner, quit.Name(name))
		inner.RegisterCloser(nil)
		switch {
		case level == 0:
			want = name
		case level < 8:
			want += ": " + name
		default: // the outermost is left out
			_, want, _ = strings.Cut(strings.TrimPrefix(want, "…: "), ": ")
			want = "…: " + want + ": " + name
		}
		quoted := fmt.Sprintf("event=%q\n", want)
		log := logged()
		if !strings.Contains(log, quoted) && !strings.Contains(log, "event="+want+"\n") {
			t.Errorf("%d events deep: the log does not have %q:\n%s", level+1, want, log)
		}
		q = inner
	}
}

// TestLogFailureAtOnce makes a step and a goroutine fail while the shutdown
// goes on. Both failures are logged at once.
func TestLogFailureAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var seen journal
		q := eventWith(func(r slog.Record) {
			if r.Level == slog.LevelError {
				of := attr(r, "goroutine") + attr(r, "step")
				seen.add(fmt.Sprint(
					time.Since(start), " ", r.Message, " ", of, " ", attr(r, "err")))
			}
		})
		q.Go(func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(2 * time.Second)
			return errors.New("lost")
		}, quit.Name("worker"))
		q.RegisterStopFunc(func() { time.Sleep(10 * time.Second) })
		q.RegisterQuitCloser(&bothWays{
			shutdown: func(ctx context.Context) error {
				<-ctx.Done()
				return errors.New("not in time")
			},
			close: func() error { time.Sleep(100 * time.Millisecond); return nil },
		}, quit.Name("server"), quit.Timeout(time.Second))
		go q.GracefulStop()
		time.Sleep(3 * time.Second)
		seen.want(t,
			"1s quit: step failed server not in time",
			"2s quit: goroutine failed worker lost")
		q.GracefulStop()
	})
}

func TestLogGoAfterFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		q.GracefulStop()
		named := func(context.Context) error { return nil }
		for range 3 {
			q.Go(named, quit.Name("named"))
			q.Go(func(context.Context) error { return nil })
		}
		synctest.Wait()
		var lines []string
		for line := range strings.Lines(logged()) {
			const message = `level=WARN msg="quit: goroutine not started, the event has fired" `
			if _, warning, ok := strings.Cut(line, message); ok {
				warning = strings.TrimSpace(warning)
				lines = append(lines, lineNumber.ReplaceAllString(warning, "_test.go:LINE"))
			}
		}
		want := []string{
			"goroutine=named site=quit/log_test.go:LINE",
			"goroutine=quit_test.TestLogGoAfterFire.func1.2 site=quit/log_test.go:LINE",
		}
		if !slices.Equal(lines, want) {
			t.Errorf("the warnings = %q, want %q", lines, want)
		}
	})
}

// TestWarningsAfterFire makes mistakes after the fire, with a log handler that
// blocks. It must not keep main from its end.
func TestWarningsAfterFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		q := eventWith(func(slog.Record) { <-release })
		q.Fire()
		begun := time.Now()
		q.Go(func(context.Context) error { return nil })
		q.Go(nil)
		q.RegisterCloser(nil)
		q.RegisterCloser(new(kept))
		if took := time.Since(begun); took != 0 {
			t.Errorf("the mistakes took %v, want none", took)
		}
		done, cancel := context.WithCancel(t.Context())
		cancel()
		// At the second call, the steps are over. The end waits for the log.
		for range 2 {
			start := time.Now()
			err := q.Shutdown(done)
			if took := time.Since(start); err != context.Canceled || took > time.Second {
				t.Errorf("Shutdown() = %v after %v", err, took)
			}
			synctest.Wait()
		}
		close(release)
	})
}

// TestDoneContext gives Shutdown contexts that are done, and contexts that the
// fire cancels.
func TestDoneContext(t *testing.T) {
	for _, test := range []struct {
		name string
		ctx  func(q *quit.QuitEvent) (context.Context, context.CancelFunc)
		want error
	}{
		{
			name: "cancelled",
			ctx: func(*quit.QuitEvent) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				cancel()
				return ctx, cancel
			},
			want: context.Canceled,
		},
		{
			name: "by its own cause",
			ctx: func(*quit.QuitEvent) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(context.Background())
				cancel(errors.New("a cause"))
				return ctx, func() {}
			},
			want: context.Canceled,
		},
		{
			name: "passed",
			ctx: func(*quit.QuitEvent) (context.Context, context.CancelFunc) {
				return context.WithTimeout(context.Background(), -time.Second)
			},
			want: context.DeadlineExceeded,
		},
		{
			name: "the event's own",
			ctx: func(q *quit.QuitEvent) (context.Context, context.CancelFunc) {
				return q.Context(), func() {}
			},
			want: context.Canceled,
		},
		{
			name: "the event's own, fired before",
			ctx: func(q *quit.QuitEvent) (context.Context, context.CancelFunc) {
				q.Fire()
				return q.Context(), func() {}
			},
			want: context.Canceled,
		},
		{
			name: "of the event's own, shorter",
			ctx: func(q *quit.QuitEvent) (context.Context, context.CancelFunc) {
				return context.WithTimeout(q.Context(), time.Second)
			},
			want: context.Canceled,
		},
		{
			name: "of the event's own, longer",
			ctx: func(q *quit.QuitEvent) (context.Context, context.CancelFunc) {
				return context.WithTimeout(q.Context(), time.Hour)
			},
			want: context.Canceled,
		},
	} {
		for _, timeout := range []time.Duration{10 * time.Second, 0, -1} {
			t.Run(fmt.Sprint(test.name, "/", timeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					q, logged := loggedEvent()
					q.Timeout = timeout
					start := time.Now()
					var closer context.Context
					var value any
					q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
						closer, value = ctx, ctx.Value(key{})
						time.Sleep(time.Second)
						return ctx.Err()
					}))
					ctx, cancel := test.ctx(q)
					defer cancel()
					err := q.Shutdown(context.WithValue(ctx, key{}, "kept"))
					if took := time.Since(start); err != test.want || took != 0 {
						t.Errorf("Shutdown(ctx) = %v after %v, want %v at once",
							err, took, test.want)
					}
					warning := `level=WARN msg="quit: Shutdown was called with ` +
						`a context that is done"` +
						fmt.Sprintf(` err="%v" site=quit/log_test.go:`, test.want)
					if log := logged(); strings.Count(log, warning) != 1 {
						t.Errorf("the log does not have %q once:\n%s", warning, log)
					}
					if err := q.Shutdown(context.Background()); err != nil {
						t.Errorf("Shutdown() = %v, want nil: the closer had its time", err)
					}
					want := 7200 * time.Millisecond
					if timeout == 0 {
						want = 19200 * time.Millisecond
					}
					end, ok := closer.Deadline()
					if ok != (timeout >= 0) || ok && end.Sub(start) != want {
						t.Errorf("the closer's deadline: %v, after %v, want %v",
							ok, end.Sub(start), want)
					}
					if value != "kept" {
						t.Errorf("the closer's context has the value %v", value)
					}
				})
			})
		}
	}
}

// TestDoneContextOfCloser makes a closer shut another event down with its own
// context, which is done. The log of that event blocks, and takes none of the
// closer's time.
func TestDoneContextOfCloser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		q, other := quietEvent(), eventWith(func(slog.Record) { <-release })
		other.Timeout = time.Second
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			<-ctx.Done()
			start := time.Now()
			err := other.Shutdown(ctx)
			if took := time.Since(start); err != ctx.Err() || took != 0 {
				t.Errorf("Shutdown(ctx) = %v after %v, want %v at once", err, took, ctx.Err())
			}
			return nil
		}))
		if err := q.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
	})
}

// TestLogOfEndedEvent makes a closer call an event that has ended, whose log
// blocks. The log takes none of the closer's time.
func TestLogOfEndedEvent(t *testing.T) {
	for name, call := range map[string]func(ended *quit.QuitEvent){
		"Fail": func(ended *quit.QuitEvent) { ended.Fail(errors.New("late")) },
		"Go": func(ended *quit.QuitEvent) {
			ended.Go(func(context.Context) error { return nil })
		},
		"no closer": func(ended *quit.QuitEvent) { ended.RegisterCloser(nil) },
		"closer": func(ended *quit.QuitEvent) {
			ended.RegisterCloser(closerFunc(func() error { return errors.New("late") }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				var blocks atomic.Bool
				q, ended := quietEvent(), eventWith(func(slog.Record) {
					if blocks.Load() {
						<-release
					}
				})
				ended.GracefulStop()
				blocks.Store(true)
				q.RegisterStopFunc(func() {
					start := time.Now()
					call(ended)
					if took := time.Since(start); took != 0 {
						t.Errorf("it took %v, want none", took)
					}
				})
				q.GracefulStop()
			})
		})
	}
}

// TestLogOfEndedEventIsComplete makes closers call an event that has ended, and
// whose log is slow. The end of their shutdown waits for that log, since the
// process may end next.
func TestLogOfEndedEventIsComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 0
		q, child, ended := quietEvent(), quietEvent(), eventWith(func(r slog.Record) {
			time.Sleep(100 * time.Millisecond)
			if attr(r, "err") != "" {
				failures++
			}
		})
		ended.GracefulStop()
		fail := func() { ended.Fail(errors.New("late")) }
		child.RegisterStopFunc(fail)
		child.RegisterStopFunc(fail)
		q.RegisterQuitCloser(child)
		q.GracefulStop()
		if failures != 2 {
			t.Errorf("at the end, %d failures are logged, want 2", failures)
		}
		synctest.Wait()
	})
}

// TestLogOfEventWithHungChild makes a closer call an event that has ended, and
// whose nested event hangs. The shutdown of the closer does not wait for that.
func TestLogOfEventWithHungChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		q, ended, child := quietEvent(), eventWith(func(slog.Record) {
			time.Sleep(time.Millisecond)
		}), quietEvent()
		ended.Timeout, child.Timeout = time.Second, -1
		child.RegisterStopFunc(func() { <-hang })
		ended.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			return child.Shutdown(context.WithoutCancel(ctx))
		}))
		ended.GracefulStop()
		q.RegisterStopFunc(func() { ended.Fail(errors.New("late")) })
		start := time.Now()
		q.GracefulStop()
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("GracefulStop took %v, want a few milliseconds", took)
		}
		close(hang)
		child.GracefulStop()
		time.Sleep(time.Second) // for the log
	})
}

// TestLogOfRunningEvent makes a closer call the shutdown of another event with
// a context that is done. The shutdown of the closer does not wait for the
// other event.
func TestLogOfRunningEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, other := quietEvent(), eventWith(func(slog.Record) { time.Sleep(time.Millisecond) })
		other.RegisterStopFunc(func() { time.Sleep(10 * time.Second) })
		done, cancel := context.WithCancel(t.Context())
		cancel()
		q.RegisterStopFunc(func() { other.Shutdown(done) })
		start := time.Now()
		q.GracefulStop()
		if took := time.Since(start); took != 0 {
			t.Errorf("GracefulStop took %v, want none", took)
		}
		other.GracefulStop()
	})
}

// TestLogHandlersFailEachOther makes the log handlers of an event and its child
// call Fail on both for each failure that is logged. That must not go on for
// ever.
func TestLogHandlersFailEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1000
		var q, child *quit.QuitEvent
		var told atomic.Int32
		event := func() *quit.QuitEvent {
			return eventWith(func(r slog.Record) {
				if r.Level < slog.LevelError {
					return
				}
				if n := told.Add(1); n < most { // or a bug would never end
					q.Fail(fmt.Errorf("log %d", n))
					child.Fail(fmt.Errorf("log %d", n))
				}
			})
		}
		q, child = event(), event()
		q.RegisterQuitCloser(child)
		q.Fail(errors.New("failed"))
		synctest.Wait()
		if n := told.Load(); n != 1 {
			t.Errorf("the handlers were told of %d failures, want 1", n)
		}
		err := q.Shutdown(context.Background())
		synctest.Wait()
		child.Fail(errors.New("late"))
		synctest.Wait()
		if n := told.Load(); n != 3 { // the step of the child, and the late one
			t.Errorf("the handlers were told of %d failures in all, want 3: %v", n, err)
		}
	})
}

// TestLogAfterEnd makes failures and mistakes after the end. Only the log
// reports them. The handler has the record when the call returns, unless it
// takes more than a second or the call is its own.
func TestLogAfterEnd(t *testing.T) {
	for _, test := range []struct {
		name string
		fail func(q *quit.QuitEvent)
	}{
		{name: "closer", fail: func(q *quit.QuitEvent) {
			q.RegisterCloser(closerFunc(func() error { return errors.New("late") }))
		}},
		{name: "QuitCloser", fail: func(q *quit.QuitEvent) {
			fails := func(context.Context) error { return errors.New("late") }
			q.RegisterQuitCloser(quit.ShutdownFunc(fails))
		}},
		{name: "stop func", fail: func(q *quit.QuitEvent) {
			q.RegisterStopFunc(func() { panic("late") })
		}},
		{name: "Fail", fail: func(q *quit.QuitEvent) { q.Fail(errors.New("late")) }},
		{name: "a warning", fail: func(q *quit.QuitEvent) {
			q.Go(func(context.Context) error { return nil }, quit.Name("late"))
		}},
	} {
		for _, handler := range []struct {
			name  string
			takes time.Duration // for the record of the failure; negative: forever
			want  time.Duration // for the call
		}{
			{name: "quick"},
			{name: "slow", takes: 900 * time.Millisecond, want: 900 * time.Millisecond},
			{name: "blocks", takes: -1, want: time.Second},
		} {
			t.Run(test.name+"/"+handler.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					hang := make(chan struct{})
					defer close(hang)
					var seen journal
					q := eventWith(func(r slog.Record) {
						if r.Level < slog.LevelWarn {
							return
						}
						if handler.takes < 0 {
							<-hang
						}
						time.Sleep(handler.takes)
						seen.add(attr(r, "err") + attr(r, "goroutine"))
					})
					q.GracefulStop()
					start := time.Now()
					test.fail(q)
					if took := time.Since(start); took != handler.want {
						t.Errorf("the call took %v, want %v", took, handler.want)
					}
					got := strings.Join(seen.all(), ", ")
					if strings.Contains(got, "late") != (handler.takes >= 0) {
						t.Errorf("the handler has had %q when the call returned", got)
					}
				})
			})
		}
		t.Run(test.name+"/by the handler", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var q *quit.QuitEvent
				calls := 0
				q = eventWith(func(r slog.Record) {
					if attr(r, "err") != "first" {
						return
					}
					calls++
					start := time.Now()
					test.fail(q)
					if took := time.Since(start); took != 0 {
						t.Errorf("the call of the handler took %v, want none", took)
					}
				})
				q.GracefulStop()
				q.Fail(errors.New("first"))
				if calls != 1 {
					t.Errorf("the handler has called %d times, want once", calls)
				}
			})
		})
	}
}

// TestLogLevelIsRaised raises the level of the log to Debug between the fire
// and the shutdown. All steps are logged.
func TestLogLevelIsRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var level slog.LevelVar
		var b strings.Builder
		handler := slog.NewTextHandler(&b, &slog.HandlerOptions{Level: &level})
		q := &quit.QuitEvent{Logger: slog.New(handler)}
		for range 3 {
			q.RegisterStopFunc(func() { time.Sleep(time.Second) })
		}
		q.Fire()
		synctest.Wait() // for the log to ask for the level
		level.Set(slog.LevelDebug)
		q.GracefulStop()
		log := b.String()
		for _, message := range []string{`"quit: step begins"`, `"quit: step ended"`} {
			if n := strings.Count(log, message); n != 4 {
				t.Errorf("%s is logged %d times, want 4:\n%s", message, n, log)
			}
		}
	})
}

// TestEndWaitsForRecords uses a step that has ended, but whose record is not in
// the log yet. The shutdown does not conclude before the record is there.
func TestEndWaitsForRecords(t *testing.T) {
	for range 100 {
		q := quietEvent()
		release := q.HoldRecord()
		ended := make(chan struct{})
		go func() { q.GracefulStop(); close(ended) }()
		// All steps have ended once the drain has.
		for r := q.Report(); len(r.Steps) == 0 || r.Steps[0].End.IsZero(); r = q.Report() {
			<-r.Changed()
		}
		for range 100 {
			runtime.Gosched() // long enough to conclude
		}
		if !q.Report().Ended.IsZero() || isClosed(ended) {
			t.Error("the shutdown has ended before the record of a step was in the log")
		}
		release()
		<-ended
		if t.Failed() {
			return
		}
	}
}

// TestFiredComesFirst checks that the record of the fire is made before any
// goroutine can observe the fire and log a consequence of it.
func TestFiredComesFirst(t *testing.T) {
	records := make(chan slog.Record, 10)
	q := &quit.QuitEvent{Logger: slog.New(firstHandler{records})}
	release := q.HoldFire()
	go q.Fire() // returns after the release
	if r := <-records; r.Message != "quit: fired" {
		t.Errorf("the first record is %q", r.Message)
	}
	release()
	q.Shutdown(t.Context())
}

// firstHandler sends the records on a channel, while there is room.
type firstHandler struct{ records chan<- slog.Record }

func (firstHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h firstHandler) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h firstHandler) WithGroup(string) slog.Handler          { return h }
func (h firstHandler) Handle(_ context.Context, r slog.Record) error {
	select {
	case h.records <- r:
	default:
	}
	return nil
}

// TestLogBound uses a handler that blocks, and either as many records as are
// kept, or one more.
func TestLogBound(t *testing.T) {
	const kept = 4096
	for _, more := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			hang := make(chan struct{})
			var seen []slog.Record
			q := eventWith(func(r slog.Record) { <-hang; seen = append(seen, r) })
			q.Fire()
			synctest.Wait() // for the handler to take that record
			for range kept + more {
				q.Fail(errors.New("failed"))
			}
			close(hang)
			synctest.Wait()
			last := seen[len(seen)-1]
			if len(seen) != 1+kept+more ||
				more > 0 != (last.Message == "quit: log records lost") ||
				more > 0 && attr(last, "records") != "1" {
				t.Errorf("%d more than are kept: %d records, the last of them %q, records=%s",
					more, len(seen), last.Message, attr(last, "records"))
			}
			q.GracefulStop()
		})
	}
}

// TestLogNamesOfSharedEvent registers an event with two others. The event has
// no name until one of them shuts it down. Then it has the name under which it
// is registered there.
func TestLogNamesOfSharedEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen journal
		child := eventWith(func(r slog.Record) {
			seen.add(strings.TrimPrefix(r.Message, "quit: ") + " " + attr(r, "event"))
		})
		one, two := quietEvent(), quietEvent()
		one.RegisterQuitCloser(child, quit.Name("one"))
		two.RegisterQuitCloser(child, quit.Name("two"))
		child.RegisterCloser(nil)
		two.GracefulStop()
		child.RegisterCloser(nil)
		synctest.Wait()
		lines := seen.all()
		if len(lines) < 3 || lines[0] != "nil ignored " ||
			lines[len(lines)-1] != "nil ignored two" || !slices.Contains(lines, "stopped two") {
			t.Errorf("the log of the child = %q, want the name two from its stop on", lines)
		}
		one.GracefulStop()

		unnamed := quietEvent()
		only, logged := loggedEvent()
		unnamed.RegisterQuitCloser(only)
		only.RegisterCloser(nil)
		if log := logged(); !strings.Contains(log, "event=*quit.QuitEvent\n") {
			t.Errorf("the log of an event that has no name does not have its type:\n%s", log)
		}
	})
}

// TestLogWithoutLimit checks the log of steps without a limit.
func TestLogWithoutLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen journal
		q := eventWith(func(r slog.Record) {
			if share := attr(r, "share"); share != "" {
				seen.add(attr(r, "step") + " " + share)
			}
			if left := attr(r, "left"); left != "" {
				seen.add(attr(r, "step") + " for " + attr(r, "for") + ", left: " + left)
			}
		})
		q.Timeout = -1
		q.RegisterStopFunc(func() { time.Sleep(6 * time.Second) }, quit.Name("web"))
		q.GracefulStop()
		seen.want(t, "web 0s", "web for 5s, left: no limit", "drain 0s")
	})
}

// TestLogLevels uses a handler that is enabled for errors alone. It must get no
// other records. The source of a record is in this package.
func TestLogLevels(t *testing.T) {
	var seen journal
	handler := &funcHandler{handle: func(r slog.Record) {
		frame, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
		seen.add(path.Base(frame.File) + " " + r.Message)
	}}
	q := &quit.QuitEvent{Logger: slog.New(errorsOnly{handler})}
	q.RegisterStopFunc(func() { panic("boom") })
	q.RegisterStopFunc(nil)
	q.GracefulStop()
	seen.want(t, "log.go quit: step failed")
}

// TestLogOfParentAnytime registers an event with another one again and again
// while it logs.
func TestLogOfParentAnytime(t *testing.T) {
	q := eventWith(func(r slog.Record) {
		if name := attr(r, "event"); name != "" && name != "child" {
			t.Errorf("the attribute event is %q", name)
		}
	})
	parent := quietEvent()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 200 {
				parent.RegisterQuitCloser(q, quit.Name("child"))()
			}
		})
	}
	for range 200 {
		q.RegisterStopFunc(nil) // logs a warning
	}
	wg.Wait()
}

// errorsOnly is a handler that is enabled for errors alone.
type errorsOnly struct{ *funcHandler }

func (errorsOnly) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

// TestLogRounds checks that times are rounded to microseconds in the log, but
// the time left of a step, and times in an error, to milliseconds.
func TestLogRounds(t *testing.T) {
	const us = time.Microsecond
	synctest.Test(t, func(t *testing.T) {
		var seen journal
		q := eventWith(func(r slog.Record) {
			if took := attr(r, "took"); took != "" {
				seen.add(strings.TrimPrefix(r.Message, "quit: ") +
					" " + attr(r, "step") + " " + took)
			}
		})
		hang := make(chan struct{})
		defer close(hang)
		q.RegisterStopFunc(func() { time.Sleep(time.Second + 1300*time.Nanosecond) },
			quit.Name("web"))
		q.GracefulStop()
		seen.want(t, "step ended web 1.000001s", "step ended drain 0s", "stopped  1.000001s")

		var left journal
		q = eventWith(func(r slog.Record) {
			if r.Message == "quit: step still running" {
				left.add(attr(r, "left"))
			}
		})
		q.RegisterStopFunc(func() { time.Sleep(5200 * ms) }, quit.Timeout(5_446_489*us))
		q.GracefulStop()
		left.want(t, "1.127s") // 9/8 of the limit are 6.127300125 s

		for _, test := range []struct {
			name    string
			timeout time.Duration
			fails   func(q *quit.QuitEvent)
			want    string
		}{
			{
				name: "closer", // 9/8 of its limit are 1.127300625 s
				fails: func(q *quit.QuitEvent) {
					q.RegisterStopFunc(func() { <-hang }, quit.Timeout(1_002_045*us))
				},
				want: "): abandoned after 1.127s: ",
			},
			{
				name:    "drain", // its share is 1.1273004 s
				timeout: 1_565_695 * us,
				fails:   (*quit.QuitEvent).AddGoroutine,
				want:    "1 goroutine left after 1.127s: ",
			},
		} {
			q := quietEvent()
			q.Timeout = test.timeout
			test.fails(q)
			err := q.Shutdown(context.Background())
			if !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("%s: Shutdown() = %v, want %q", test.name, err, test.want)
			}
		}
	})
}

// TestDebugIsNotWanted uses a handler without Debug records. It is asked for
// the first of them, and the others are not made.
func TestDebugIsNotWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		q := &quit.QuitEvent{Logger: slog.New(noDebug{slog.DiscardHandler, &asked})}
		for range 100 {
			q.RegisterStopFunc(func() { time.Sleep(ms) }) // meanwhile the log is handed over
		}
		q.GracefulStop()
		if n := asked.Load(); n > 10 {
			t.Errorf("the handler was asked for Debug records %d times, want 10 at most", n)
		}
	})
}

// noDebug is a handler that wants no Debug records, and counts the questions.
type noDebug struct {
	slog.Handler
	asked *atomic.Int32
}

func (h noDebug) Enabled(_ context.Context, l slog.Level) bool {
	if l < slog.LevelInfo {
		h.asked.Add(1)
	}
	return l >= slog.LevelInfo
}
