package quit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func TestOrder(t *testing.T) {
	q := quietEvent()
	var j journal
	say := func(s string) func() { return func() { j.add(s) } }
	q.RegisterStopFunc(say("1 stop"))
	q.RegisterCloser(closerFunc(func() error { j.add("2 closer"); return nil }))
	q.RegisterStopFunc(say("a1"), quit.AfterDrain())
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
		j.add("3 quit")
		return nil
	}))
	q.RegisterStopFunc(say("4 stop"))
	q.RegisterCloser(closerFunc(func() error { j.add("a2"); return nil }), quit.AfterDrain())
	q.AddGoroutine()
	go func() {
		defer q.DoneGoroutine()
		<-q.Done()
		for len(j.all()) < 4 {
			runtime.Gosched() // the drain comes after all closers
		}
		j.add("goroutine")
	}()
	if err := q.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	j.want(t, "4 stop", "3 quit", "2 closer", "1 stop", "goroutine", "a2", "a1")
}

// TestNextAfterReturn checks in each closer that no other one runs.
func TestNextAfterReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		running := 0 // a race, if two of them ever run at once
		for range 20 {
			q.RegisterStopFunc(func() {
				running++
				time.Sleep(time.Millisecond)
				if running != 1 {
					t.Errorf("%d closers run at once", running)
				}
				running--
			})
		}
		q.GracefulStop()
	})
}

func TestUnregister(t *testing.T) {
	q := quietEvent()
	var j journal
	var unregister []func() bool
	for i := range 6 {
		unregister = append(unregister, q.RegisterStopFunc(func() { j.add(fmt.Sprint(i)) }))
	}
	for _, i := range []int{5, 0, 2} { // the last, the first, one in the middle
		if !unregister[i]() {
			t.Errorf("unregister %d = false, want true", i)
		}
		if unregister[i]() {
			t.Errorf("unregister %d = true the second time, want false", i)
		}
	}
	q.RegisterStopFunc(func() {
		if unregister[4]() != true {
			t.Error("unregister in a closer, of one yet to be called, = false, want true")
		}
	})
	q.GracefulStop()
	j.want(t, "3", "1")
	if unregister[1]() {
		t.Error("unregister after the call = true, want false")
	}
}

// TestUnregisterRace makes unregister and the shutdown compete for each closer.
// Exactly one of them gets it.
func TestUnregisterRace(t *testing.T) {
	for range 100 {
		q := quietEvent()
		const n = 50
		var called [n]atomic.Int32
		var taken [n]bool
		var unregister [n]func() bool
		for i := range n {
			unregister[i] = q.RegisterStopFunc(func() { called[i].Add(1) })
		}
		var wg sync.WaitGroup
		wg.Go(q.GracefulStop)
		wg.Go(func() {
			for i := range n {
				taken[i] = unregister[i]()
			}
		})
		wg.Wait()
		for i := range n {
			if c := called[i].Load(); c > 1 || (c == 1) == taken[i] {
				t.Fatalf("closer %d was called %d times, unregister reported %v", i, c, taken[i])
			}
		}
	}
}

// TestOnceEach shuts down from many goroutines. The closers misbehave in every
// way, and register others.
func TestOnceEach(t *testing.T) {
	for _, concurrent := range []bool{false, true} {
		t.Run(fmt.Sprintf("Concurrent=%v", concurrent), func(t *testing.T) {
			for range 20 {
				q := quietEvent()
				q.Concurrent = concurrent
				hang := make(chan struct{})
				var calls sync.Map // int to *atomic.Int32
				var n, called atomic.Int32
				var register func(depth int)
				register = func(depth int) {
					c := new(atomic.Int32)
					calls.Store(n.Add(1), c)
					behave := rand.IntN(6)
					var opts []quit.Option
					if rand.IntN(2) == 0 {
						opts = append(opts, quit.AfterDrain())
					}
					if behave == 0 {
						opts = append(opts, quit.Timeout(time.Millisecond))
					}
					q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
						c.Add(1)
						called.Add(1)
						if depth > 0 {
							register(depth - 1)
						}
						switch behave {
						case 0:
							<-hang
						case 1:
							panic("panic")
						case 2:
							runtime.Goexit()
						case 3:
							return errors.New("failed")
						case 4:
							q.GracefulStop()
						}
						return nil
					}), opts...)
				}
				for range 20 {
					register(2)
				}
				var wg sync.WaitGroup
				results := make([]error, 50)
				for i := range results {
					wg.Go(func() {
						if i%10 == 0 {
							register(1)
						}
						results[i] = q.Shutdown(context.Background())
						if i%10 == 1 {
							register(1) // called at once, after the end
						}
					})
				}
				wg.Wait()
				for i, err := range results {
					if err != results[0] {
						t.Fatalf("caller %d got %v, caller 0 got %v", i, err, results[0])
					}
				}
				// A closer that was abandoned may not have counted itself yet,
				// or may still register another one. Wait for all calls, and
				// then look for an extra one.
				const all = 20*3 + 10*2
				end := time.Now().Add(time.Minute)
				for called.Load() < all && time.Now().Before(end) {
					runtime.Gosched()
				}
				if got := called.Load(); got != all {
					t.Errorf("%d calls, want %d", got, all)
				}
				calls.Range(func(id, c any) bool {
					if got := c.(*atomic.Int32).Load(); got != 1 {
						t.Errorf("closer %d was called %d times, want 1", id, got)
					}
					return true
				})
				close(hang)
				if t.Failed() {
					return
				}
			}
		})
	}
}

func TestRegisterDuringShutdown(t *testing.T) {
	q := quietEvent()
	var j journal
	say := func(s string) func() { return func() { j.add(s) } }
	q.RegisterStopFunc(func() {
		j.add("a1")
		q.RegisterStopFunc(say("late for its phase"))
		q.RegisterStopFunc(say("a3"), quit.AfterDrain())
	}, quit.AfterDrain())
	q.RegisterStopFunc(say("a0, registered between"), quit.AfterDrain())
	q.RegisterStopFunc(say("1"))
	q.RegisterStopFunc(func() {
		j.add("2")
		q.RegisterStopFunc(say("3"))
		q.RegisterStopFunc(say("a2"), quit.AfterDrain())
	})
	q.GracefulStop()
	j.want(t, "2", "3", "1", "a2", "a0, registered between", "a1", "late for its phase", "a3")
}

func TestRegisterDuringDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		var j journal
		q.RegisterStopFunc(func() { j.add("a1") }, quit.AfterDrain())
		q.AddGoroutine()
		go q.GracefulStop()
		synctest.Wait()
		q.RegisterStopFunc(func() { j.add("late") })
		synctest.Wait()
		j.want(t) // the drain goes on
		q.DoneGoroutine()
		q.GracefulStop()
		j.want(t, "late", "a1")
	})
}

func TestRegisterAfterEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		q.Timeout = 10 * time.Second
		q.GracefulStop()
		time.Sleep(time.Minute) // past the event's own deadline
		var share time.Duration
		unregister := q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			end, _ := ctx.Deadline()
			share = time.Until(end)
			if err := q.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown() in a late closer = %v", err)
			}
			return errors.New("late failure")
		}))
		if share != 8*time.Second {
			t.Errorf("the share of a closer registered after the end = %v, want 8s", share)
		}
		if unregister() {
			t.Error("unregister = true, want false: it was called")
		}
		synctest.Wait()
		if !strings.Contains(logged(), "late failure") {
			t.Errorf("the late failure is not logged:\n%s", logged())
		}
		if err := q.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown() = %v after the end, want the nil it was", err)
		}
		q.Fail(errors.New("later failure"))
		synctest.Wait()
		const record = `msg="quit: failure after the shutdown" err="later failure"`
		if !strings.Contains(logged(), record) {
			t.Errorf("a failure after the end is not logged:\n%s", logged())
		}

		start := time.Now()
		hang := make(chan struct{})
		q.RegisterStopFunc(func() { <-hang })
		if took := time.Since(start); took != 9*time.Second {
			t.Errorf("a late closer that hangs held up Register for %v, want 9s", took)
		}
		close(hang)
	})
}

// kept is a closer of every kind that the test expects to be freed.
type kept struct{ _ [64]byte }

func (*kept) Close() error                   { return nil }
func (*kept) Shutdown(context.Context) error { return nil }
func (k *kept) stop()                        {}

// TestClosersAreFreed keeps an event and the unregister funcs. They do not keep
// a closer that was called or unregistered. A closer that waits is kept by its
// event, and by nothing else.
func TestClosersAreFreed(t *testing.T) {
	type register = func(q *quit.QuitEvent, k *kept, opts ...quit.Option) (unregister func() bool)
	kinds := map[string]register{
		"Closer": func(q *quit.QuitEvent, k *kept, opts ...quit.Option) func() bool {
			return q.RegisterCloser(k, opts...)
		},
		"QuitCloser": func(q *quit.QuitEvent, k *kept, opts ...quit.Option) func() bool {
			return q.RegisterQuitCloser(k, opts...)
		},
		"StopFunc": func(q *quit.QuitEvent, k *kept, opts ...quit.Option) func() bool {
			return q.RegisterStopFunc(k.stop, opts...)
		},
	}
	type ending = func(q *quit.QuitEvent, unregister func() bool) (keep any)
	ends := map[string]ending{
		"called": func(q *quit.QuitEvent, unregister func() bool) any {
			q.GracefulStop()
			if unregister() {
				t.Error("unregister = true after the call")
			}
			return []any{q, unregister}
		},
		"taken out": func(q *quit.QuitEvent, unregister func() bool) any {
			if !unregister() {
				t.Error("unregister = false")
			}
			return []any{q, unregister}
		},
		"taken out and ended": func(q *quit.QuitEvent, unregister func() bool) any {
			unregister()
			q.GracefulStop()
			return []any{q, unregister}
		},
		"never called": func(*quit.QuitEvent, func() bool) any { return nil },
	}
	for kind, register := range kinds {
		for end, does := range ends {
			for name, opts := range map[string][]quit.Option{
				"closers":     nil,
				"after drain": {quit.AfterDrain()},
			} {
				t.Run(kind+"/"+end+"/"+name, func(t *testing.T) {
					freed := make(chan struct{})
					q := quietEvent()
					q.RegisterStopFunc(func() {}) // a neighbour on either side
					unregister := func() func() bool {
						k := new(kept)
						runtime.AddCleanup(k, func(c chan struct{}) { close(c) }, freed)
						// The option uses k, too.
						own := quit.IgnoreFunc(func(err error) bool { return k == nil })
						return register(q, k, append(opts, own)...)
					}()
					q.RegisterStopFunc(func() {})
					keep := does(q, unregister)
					if end == "never called" {
						runtime.GC()
						if isClosed(freed) {
							t.Error("a closer that waits is gone")
						}
						runtime.KeepAlive(q)
					}
					q, unregister = nil, nil
					waitFor(t, freed)
					runtime.KeepAlive(keep)
				})
			}
		}
	}
	t.Run("registered after the end", func(t *testing.T) {
		for kind, register := range kinds {
			q := quietEvent()
			q.GracefulStop()
			freed := make(chan struct{})
			unregister := func() func() bool {
				k := new(kept)
				runtime.AddCleanup(k, func(c chan struct{}) { close(c) }, freed)
				return register(q, k)
			}()
			t.Log(kind)
			waitFor(t, freed)
			runtime.KeepAlive(unregister)
			runtime.KeepAlive(q)
		}
	})
}

// TestEventsAreFreed keeps a child and its unregister func. They do not keep
// the event that it was registered with.
func TestEventsAreFreed(t *testing.T) {
	child := quietEvent()
	freed := make(chan struct{})
	unregister := func() func() bool {
		q := quietEvent()
		runtime.AddCleanup(q, func(c chan struct{}) { close(c) }, freed)
		return q.RegisterQuitCloser(child)
	}()
	unregister()
	unregister = nil
	waitFor(t, freed)
	runtime.KeepAlive(child)
}

// waitFor collects garbage until freed is closed.
func waitFor(t *testing.T, freed <-chan struct{}) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !isClosed(freed); runtime.Gosched() {
		if runtime.GC(); time.Now().After(end) {
			t.Fatal("it is still in memory")
		}
	}
}

// TestLateWithoutLimit registers a closer after the end of an event without a
// limit. The closer has none either.
func TestLateWithoutLimit(t *testing.T) {
	q := quietEvent()
	q.Timeout = -1
	q.GracefulStop()
	called := false
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		called = true
		if end, ok := ctx.Deadline(); ok || ctx.Err() != nil {
			t.Errorf("the context of the closer ends at %v, %v, want no end", end, ctx.Err())
		}
		return nil
	}))
	if !called {
		t.Error("the closer was not called before Register returned")
	}
}
