package bench_test

import (
	"context"
	"errors"
	"log/slog"
	"runtime/pprof"
	"sync"
	"testing"

	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"
	"github.com/thejerf/suture/v4"
	"github.com/zeromicro/go-zero/core/threading"
	"golang.org/x/sync/errgroup"
	"gopkg.in/tomb.v2"

	"github.com/gracefulgo/graceful/quit"
)

// newEvent returns an event that does not log, and has no time limit.
func newEvent() *quit.QuitEvent {
	return &quit.QuitEvent{Logger: slog.New(slog.DiscardHandler), Timeout: -1}
}

func BenchmarkHasFired(b *testing.B) {
	// The loops are written out, since a call of a function costs as much as a
	// look.
	compare(b, procs(),
		way[int]{peer: "quit", run: func(b *testing.B, n int) {
			q := newEvent()
			q.Done()
			onProcs(b, n, func(pb *testing.PB) {
				for pb.Next() {
					for range 100 {
						if q.HasFired() {
							panic("fired")
						}
					}
				}
			})
		}},
		way[int]{peer: "hand", run: func(b *testing.B, n int) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ctx.Done()
			onProcs(b, n, func(pb *testing.PB) {
				for pb.Next() {
					for range 100 {
						if ctx.Err() != nil {
							panic("cancelled")
						}
					}
				}
			})
		}},
		way[int]{peer: "hand.select", run: func(b *testing.B, n int) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			onProcs(b, n, func(pb *testing.PB) {
				for pb.Next() {
					for range 100 {
						select {
						case <-ctx.Done():
							panic("cancelled")
						default:
						}
					}
				}
			})
		}},
		way[int]{peer: "tomb", run: func(b *testing.B, n int) {
			var t tomb.Tomb
			t.Dying()
			onProcs(b, n, func(pb *testing.PB) {
				for pb.Next() {
					for range 100 {
						if !t.Alive() {
							panic("dying")
						}
					}
				}
			})
		}},
	)
}

func BenchmarkAddDone(b *testing.B) {
	compare(b, procs(),
		way[int]{peer: "quit", run: func(b *testing.B, n int) {
			q := newEvent()
			onProcs(b, n, func(pb *testing.PB) {
				for pb.Next() {
					q.AddGoroutine()
					q.DoneGoroutine()
				}
			})
		}},
		way[int]{peer: "quit.TryAdd", run: func(b *testing.B, n int) {
			q := newEvent()
			onProcs(b, n, func(pb *testing.PB) {
				for pb.Next() {
					q.TryAddGoroutine()
					q.DoneGoroutine()
				}
			})
		}},
		way[int]{peer: "hand", run: func(b *testing.B, n int) {
			var wg sync.WaitGroup
			onProcs(b, n, func(pb *testing.PB) {
				for pb.Next() {
					wg.Add(1)
					wg.Done()
				}
			})
		}},
	)
}

// nothing is a service of suture that ends at once, and is not started again.
type nothing struct{}

func (nothing) String() string              { return "nothing" }
func (nothing) Serve(context.Context) error { return suture.ErrDoNotRestart }

func BenchmarkGo(b *testing.B) {
	start := func(b *testing.B, n int, start func(), wait func()) {
		onProcs(b, n, func(pb *testing.PB) {
			for pb.Next() {
				start()
			}
		})
		b.StopTimer()
		wait()
	}
	f := func() error { return nil }

	// The runtime keeps the memory of ended goroutines, and the first peer must
	// not be the one that pays for it.
	var warm sync.WaitGroup
	end := make(chan struct{})
	for range 100_000 {
		warm.Go(func() { <-end })
	}
	close(end)
	warm.Wait()

	compare(b, fewProcs(),
		way[int]{peer: "quit", run: func(b *testing.B, n int) {
			q := newEvent()
			f := func(context.Context) error { return nil }
			start(b, n, func() { q.Go(f) }, q.WaitGoroutines)
		}},
		way[int]{peer: "quit.Name", run: func(b *testing.B, n int) {
			q := newEvent()
			f := func(context.Context) error { return nil }
			start(b, n, func() { q.Go(f, quit.Name("worker")) }, q.WaitGoroutines)
		}},
		way[int]{peer: "errgroup", run: func(b *testing.B, n int) {
			var g errgroup.Group
			start(b, n, func() { g.Go(f) }, func() { g.Wait() })
		}},
		way[int]{peer: "hand", run: func(b *testing.B, n int) {
			var wg sync.WaitGroup
			start(b, n, func() { wg.Go(func() { f() }) }, wg.Wait)
		}},
		way[int]{peer: "hand.labels", run: func(b *testing.B, n int) {
			var wg sync.WaitGroup
			ctx, labels := context.Background(), pprof.Labels("worker", "worker")
			start(b, n, func() {
				wg.Go(func() {
					pprof.Do(ctx, labels, func(context.Context) { f() })
				})
			}, wg.Wait)
		}},
		way[int]{peer: "conc", run: func(b *testing.B, n int) {
			var wg conc.WaitGroup
			start(b, n, func() { wg.Go(func() { f() }) }, wg.Wait)
		}},
		way[int]{peer: "conc.pool", run: func(b *testing.B, n int) {
			p := pool.New().WithErrors()
			start(b, n, func() { p.Go(f) }, func() { p.Wait() })
		}},
		way[int]{peer: "tomb", run: func(b *testing.B, n int) {
			var t tomb.Tomb
			t.Go(func() error { // while it is alive, others can be started
				<-t.Dying()
				return nil
			})
			start(b, n, func() { t.Go(f) }, func() {
				t.Kill(nil)
				t.Wait()
			})
		}},
		way[int]{peer: "go-zero", run: func(b *testing.B, n int) {
			g := threading.NewRoutineGroup()
			start(b, n, func() { g.RunSafe(func() { f() }) }, g.Wait)
		}},
		way[int]{peer: "suture", run: func(b *testing.B, n int) {
			ctx, cancel := context.WithCancel(context.Background())
			s := suture.NewSimple("bench")
			ended := s.ServeBackground(ctx)
			start(b, n, func() { s.Add(nothing{}) }, func() {
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					b.Error(err)
				}
			})
		}},
	)
}

// registry is the registry that a program has by hand for closers that come and
// go.
type registry struct {
	mu      sync.Mutex // guards the fields below
	closers map[int]*nopCloser
	next    int
}

func (r *registry) register(c *nopCloser) (unregister func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.next
	r.next++
	r.closers[id] = c
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.closers, id)
	}
}

// parked is a service of suture that waits to be told to stop.
type parked struct{}

func (parked) String() string { return "parked" }

func (parked) Serve(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func BenchmarkRegister(b *testing.B) {
	c := new(nopCloser)
	compare(b, sizes(10, 1_000_000),
		way[int]{peer: "quit", run: func(b *testing.B, n int) {
			q := newEvent()
			for range n {
				q.RegisterCloser(c)
			}
			b.ReportAllocs()
			for b.Loop() {
				q.RegisterCloser(c)()
			}
		}},
		way[int]{peer: "context", run: func(b *testing.B, n int) {
			ctx, cancel := context.WithCancel(context.Background())
			_ = cancel // it would start n goroutines
			f := func() { c.Close() }
			for range n {
				context.AfterFunc(ctx, f)
			}
			b.ReportAllocs()
			for b.Loop() {
				context.AfterFunc(ctx, f)()
			}
		}},
		way[int]{peer: "hand", run: func(b *testing.B, n int) {
			r := registry{closers: make(map[int]*nopCloser)}
			for range n {
				r.register(c)
			}
			b.ReportAllocs()
			for b.Loop() {
				r.register(c)()
			}
		}},
		way[int]{peer: "suture", largest: 10_000, run: func(b *testing.B, n int) {
			ctx, cancel := context.WithCancel(context.Background())
			s := suture.NewSimple("bench")
			for range n {
				s.Add(parked{})
			}
			ended := s.ServeBackground(ctx)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Remove(s.Add(parked{})); err != nil {
					b.Fatal(err)
				}
			}
			cancel()
			<-ended
		}},
	)
}
