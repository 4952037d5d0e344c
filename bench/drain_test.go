package bench_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/oklog/run"
	"github.com/sourcegraph/conc"
	"github.com/thejerf/suture/v4"
	"github.com/zeromicro/go-zero/core/threading"
	"golang.org/x/sync/errgroup"
	"gopkg.in/tomb.v2"
)

// crowd is a large number of goroutines that can be told to end.
type crowd struct {
	start func(f func(done <-chan struct{}))
	fire  func()
	wait  func() error

	interrupts bool // there is no fire that all can see, but a call for each
}

// service is a function as a service of suture.
type service func(done <-chan struct{})

func (service) String() string { return "service" }

func (s service) Serve(ctx context.Context) error {
	s(ctx.Done())
	return nil
}

// actors is a crowd of a run.Group, which starts all its actors at once.
func actors(n int) crowd {
	var g run.Group
	trigger, ended := make(chan struct{}), make(chan error, 1)
	errFired := errors.New("fired")
	g.Add(func() error {
		<-trigger
		return errFired
	}, func(error) {})
	started := 0
	return crowd{
		interrupts: true,
		start: func(f func(<-chan struct{})) {
			ctx, cancel := context.WithCancel(context.Background())
			g.Add(func() error {
				f(ctx.Done())
				return nil
			}, func(error) { cancel() })
			if started++; started == n {
				go func() { ended <- g.Run() }()
			}
		},
		fire: func() { close(trigger) },
		wait: func() error {
			if err := <-ended; err != errFired {
				return err
			}
			return nil
		},
	}
}

func BenchmarkDrain(b *testing.B) {
	drain := func(gather func(n int) crowd) func(b *testing.B, n int) {
		return func(b *testing.B, n int) {
			repeated(b, n, func(figure func(string, time.Duration)) {
				c := gather(n)
				var parked sync.WaitGroup
				parked.Add(n)
				for range n {
					c.start(func(done <-chan struct{}) {
						parked.Done()
						<-done
					})
				}
				parked.Wait()
				collect(n)
				start := time.Now()
				c.fire()
				if !c.interrupts {
					figure("fire-ns/op", time.Since(start))
				}
				err := c.wait()
				figure("ns/op", time.Since(start))
				if err != nil {
					b.Fatal(err)
				}
			})
		}
	}
	background := context.Background()
	compare(b, sizes(10, 1_000_000),
		way[int]{peer: "quit", run: drain(func(int) crowd {
			q := newEvent()
			return crowd{
				start: func(f func(<-chan struct{})) {
					q.Go(func(ctx context.Context) error {
						f(ctx.Done())
						return nil
					})
				},
				fire: func() { q.Fire() },
				wait: func() error { return q.Shutdown(background) },
			}
		})},
		way[int]{peer: "hand", run: drain(func(int) crowd {
			ctx, cancel := context.WithCancel(background)
			var wg sync.WaitGroup
			return crowd{
				start: func(f func(<-chan struct{})) { wg.Go(func() { f(ctx.Done()) }) },
				fire:  cancel,
				wait: func() error {
					wg.Wait()
					return nil
				},
			}
		})},
		way[int]{peer: "errgroup", run: drain(func(int) crowd {
			ctx, cancel := context.WithCancel(background)
			g, ctx := errgroup.WithContext(ctx)
			return crowd{
				start: func(f func(<-chan struct{})) {
					g.Go(func() error {
						f(ctx.Done())
						return nil
					})
				},
				fire: cancel,
				wait: g.Wait,
			}
		})},
		way[int]{peer: "conc", largest: 100_000, run: drain(func(int) crowd {
			ctx, cancel := context.WithCancel(background)
			var wg conc.WaitGroup
			return crowd{
				start: func(f func(<-chan struct{})) { wg.Go(func() { f(ctx.Done()) }) },
				fire:  cancel,
				wait: func() error {
					wg.Wait()
					return nil
				},
			}
		})},
		way[int]{peer: "tomb", run: drain(func(int) crowd {
			var t tomb.Tomb
			return crowd{
				start: func(f func(<-chan struct{})) {
					t.Go(func() error {
						f(t.Dying())
						return nil
					})
				},
				fire: func() { t.Kill(nil) },
				wait: t.Wait,
			}
		})},
		way[int]{peer: "go-zero", largest: 100_000, run: drain(func(int) crowd {
			ctx, cancel := context.WithCancel(background)
			g := threading.NewRoutineGroup()
			return crowd{
				start: func(f func(<-chan struct{})) { g.RunSafe(func() { f(ctx.Done()) }) },
				fire:  cancel,
				wait: func() error {
					g.Wait()
					return nil
				},
			}
		})},
		way[int]{peer: "oklog-run", run: drain(actors)},
		way[int]{peer: "suture", largest: 100_000, run: drain(func(int) crowd {
			ctx, cancel := context.WithCancel(background)
			s := suture.New("bench", suture.Spec{Timeout: time.Hour})
			ended := s.ServeBackground(ctx)
			return crowd{
				start: func(f func(<-chan struct{})) { s.Add(service(f)) },
				fire:  cancel,
				wait: func() error {
					if err := <-ended; !errors.Is(err, context.Canceled) {
						return err
					}
					return nil
				},
			}
		})},
	)
}
