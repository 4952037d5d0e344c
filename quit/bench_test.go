package quit_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// Each benchmark has a sub-benchmark that does the same work without the
// package: go test -run '^$' -bench . -count 10 ./quit

func BenchmarkHasFired(b *testing.B) {
	b.Run("quit", func(b *testing.B) {
		q := quit.NewQuitEvent()
		q.Done()
		b.ReportAllocs()
		for b.Loop() {
			for range 100 {
				if q.HasFired() {
					b.Fatal("fired")
				}
			}
		}
	})
	b.Run("baseline=ctx.Err", func(b *testing.B) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ctx.Done()
		b.ReportAllocs()
		for b.Loop() {
			for range 100 {
				if ctx.Err() != nil {
					b.Fatal("cancelled")
				}
			}
		}
	})
}

func BenchmarkAddDone(b *testing.B) {
	b.Run("quit", func(b *testing.B) {
		q := quit.NewQuitEvent()
		b.ReportAllocs()
		for b.Loop() {
			q.AddGoroutine()
			q.DoneGoroutine()
		}
	})
	b.Run("quit.TryAdd", func(b *testing.B) {
		q := quit.NewQuitEvent()
		b.ReportAllocs()
		for b.Loop() {
			q.TryAddGoroutine()
			q.DoneGoroutine()
		}
	})
	b.Run("baseline=WaitGroup", func(b *testing.B) {
		var wg sync.WaitGroup
		b.ReportAllocs()
		for b.Loop() {
			wg.Add(1)
			wg.Done()
		}
	})
}

func BenchmarkAddDoneParallel(b *testing.B) {
	b.Run("quit", func(b *testing.B) {
		q := quit.NewQuitEvent()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				q.AddGoroutine()
				q.DoneGoroutine()
			}
		})
	})
	b.Run("baseline=WaitGroup", func(b *testing.B) {
		var wg sync.WaitGroup
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				wg.Add(1)
				wg.Done()
			}
		})
	})
}

// group.Go does the same as the Go method of errgroup.Group, whose module the
// root module does not require.
type group struct {
	wg   sync.WaitGroup
	once sync.Once
	err  error
}

func (g *group) done() { g.wg.Done() }

func (g *group) Go(f func() error) {
	g.wg.Add(1)
	go func() {
		defer g.done()
		if err := f(); err != nil {
			g.once.Do(func() { g.err = err })
		}
	}()
}

func BenchmarkGo(b *testing.B) {
	b.Run("quit", func(b *testing.B) {
		q := quit.NewQuitEvent()
		f := func(context.Context) error { return nil }
		b.ReportAllocs()
		for b.Loop() {
			q.Go(f)
		}
		q.WaitGoroutines()
	})
	b.Run("quit.Name", func(b *testing.B) {
		q := quit.NewQuitEvent()
		f := func(context.Context) error { return nil }
		b.ReportAllocs()
		for b.Loop() {
			q.Go(f, quit.Name("worker"))
		}
		q.WaitGoroutines()
	})
	b.Run("baseline=group", func(b *testing.B) {
		var g group
		f := func() error { return nil }
		b.ReportAllocs()
		for b.Loop() {
			g.Go(f)
		}
		g.wg.Wait()
	})
}

type nopCloser struct{}

func (*nopCloser) Close() error { return nil }

func BenchmarkRegister(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{name: "0", n: 0}, {name: "1000000", n: 1_000_000}} {
		b.Run("quit/registered="+size.name, func(b *testing.B) {
			q := quit.NewQuitEvent()
			c := new(nopCloser)
			for range size.n {
				q.RegisterCloser(c)
			}
			b.ReportAllocs()
			for b.Loop() {
				q.RegisterCloser(c)()
			}
		})
		b.Run("baseline=AfterFunc/registered="+size.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(context.Background())
			_ = cancel // a million goroutines would start
			f := func() {}
			for range size.n {
				context.AfterFunc(ctx, f)
			}
			b.ReportAllocs()
			for b.Loop() {
				context.AfterFunc(ctx, f)()
			}
		})
	}
}

// BenchmarkResident measures the memory that a registered closer and its
// unregister func keep.
func BenchmarkResident(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		q := quit.NewQuitEvent()
		closers := make([]nopCloserWithState, n)
		unregister := make([]func() bool, n)
		before := heap()
		for i := range closers {
			unregister[i] = q.RegisterCloser(&closers[i])
		}
		b.ReportMetric(float64(heap()-before)/n, "B/closer")
		runtime.KeepAlive(q)
		runtime.KeepAlive(unregister)
	}
}

type nopCloserWithState struct{ closed bool }

func (c *nopCloserWithState) Close() error { c.closed = true; return nil }

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkFire(b *testing.B) {
	const n = 100_000
	park := func(b *testing.B, done <-chan struct{}, fire func()) {
		var parked, left sync.WaitGroup
		parked.Add(n)
		left.Add(n)
		for range n {
			go func() {
				parked.Done()
				<-done
				left.Done()
			}()
		}
		parked.Wait()
		runtime.GC() // not while the time is measured
		b.StartTimer()
		fire()
		b.StopTimer()
		left.Wait()
	}
	b.Run("quit", func(b *testing.B) {
		b.StopTimer()
		for range b.N {
			q := &quit.QuitEvent{Logger: slog.New(slog.DiscardHandler)}
			park(b, q.Done(), func() { q.Fire() })
		}
	})
	b.Run("baseline=cancel", func(b *testing.B) {
		b.StopTimer()
		for range b.N {
			ctx, cancel := context.WithCancel(context.Background())
			park(b, ctx.Done(), cancel)
		}
	})
}

// BenchmarkShutdown reports the time of a shutdown, divided by its closers.
func BenchmarkShutdown(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{
		{name: "0", n: 0},
		{name: "1000", n: 1000},
		{name: "100000", n: 100_000},
		{name: "1000000", n: 1_000_000},
	} {
		b.Run("closers="+size.name, func(b *testing.B) {
			b.StopTimer()
			for range b.N {
				q := &quit.QuitEvent{Logger: slog.New(slog.DiscardHandler), Timeout: -1}
				for range size.n {
					q.RegisterCloser(new(nopCloser))
				}
				if size.n >= 100_000 {
					runtime.GC() // not while the time is measured
				}
				b.StartTimer()
				if err := q.Shutdown(context.Background()); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
			}
			b.ReportMetric(
				float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(max(size.n, 1)),
				"ns/closer",
			)
		})
	}
}

// BenchmarkHang measures the processor time of a shutdown with 3,000 closers
// that hang. The baselines are the same number of closers that return when
// their context ends, and the same number that return at once.
func BenchmarkHang(b *testing.B) {
	const n, timeout = 3000, time.Second
	run := func(b *testing.B, closer func(ctx context.Context, hang chan struct{})) {
		used := time.Duration(0)
		for b.Loop() {
			q := &quit.QuitEvent{Logger: slog.New(slog.DiscardHandler), Timeout: timeout}
			hang := make(chan struct{})
			var running sync.WaitGroup
			running.Add(n)
			for range n {
				q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
					defer running.Done()
					closer(ctx, hang)
					return nil
				}))
			}
			runtime.GC()
			before, _ := cpuTime()
			q.GracefulStop()
			after, ok := cpuTime()
			if used += after - before; !ok {
				b.Skip("the processor time is not known")
			}
			close(hang)
			running.Wait()
		}
		b.ReportMetric(float64(used.Microseconds())/1000/float64(b.N), "cpu-ms/op")
	}
	b.Run("quit", func(b *testing.B) {
		run(b, func(_ context.Context, hang chan struct{}) { <-hang })
	})
	b.Run("baseline=until ctx ends", func(b *testing.B) {
		run(b, func(ctx context.Context, _ chan struct{}) { <-ctx.Done() })
	})
	b.Run("baseline=return at once", func(b *testing.B) {
		run(b, func(context.Context, chan struct{}) {})
	})
}

// BenchmarkWait measures the wait of a closer in the innermost of n nested
// events. The closer shuts down its own event, which it holds up, so the call
// returns at once. Or it shuts down a new event.
func BenchmarkWait(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		run := func(b *testing.B, wait func(innermost *quit.QuitEvent, ctx context.Context)) {
			qs := make([]*quit.QuitEvent, n)
			for i := range qs {
				qs[i] = &quit.QuitEvent{Logger: slog.New(slog.DiscardHandler), Timeout: -1}
				if i > 0 {
					qs[i-1].RegisterQuitCloser(qs[i])
				}
			}
			innermost := qs[n-1]
			innermost.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
				b.ReportAllocs()
				for b.Loop() {
					wait(innermost, ctx)
				}
				return nil
			}))
			qs[0].GracefulStop()
		}
		b.Run(fmt.Sprint("own/events=", n), func(b *testing.B) {
			run(b, func(q *quit.QuitEvent, ctx context.Context) { q.Shutdown(ctx) })
		})
		b.Run(fmt.Sprint("fresh/events=", n), func(b *testing.B) {
			logger := slog.New(slog.DiscardHandler)
			run(b, func(_ *quit.QuitEvent, ctx context.Context) {
				q := &quit.QuitEvent{Logger: logger, Timeout: -1}
				q.Shutdown(ctx)
			})
		})
	}
}

// BenchmarkSignal measures the time from the signal to the end of the shutdown.
// The baseline is a receive from a channel given to signal.Notify.
func BenchmarkSignal(b *testing.B) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	if runtime.GOOS == "windows" {
		b.Skip("no signal can be sent on Windows")
	}
	b.Run("quit", func(b *testing.B) {
		b.StopTimer()
		for range b.N {
			q := &quit.QuitEvent{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
			stop := q.NotifySignal(syscall.SIGTERM)
			returned := make(chan struct{})
			go func() {
				<-q.Done()
				q.GracefulStop()
				close(returned)
			}()
			b.StartTimer()
			if err := self.Signal(syscall.SIGTERM); err != nil {
				b.Fatal(err)
			}
			<-returned
			b.StopTimer()
			stop()
		}
	})
	b.Run("baseline=Notify", func(b *testing.B) {
		b.StopTimer()
		for range b.N {
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGTERM)
			b.StartTimer()
			if err := self.Signal(syscall.SIGTERM); err != nil {
				b.Fatal(err)
			}
			<-c
			b.StopTimer()
			signal.Stop(c)
		}
	})
}
