package bench_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2"
	"github.com/samber/do/v2"
	"github.com/thejerf/suture/v4"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/proc"
	"go.uber.org/fx"

	"github.com/gracefulgo/graceful/quit"
)

// nopCloser counts its calls, and does nothing else.
type nopCloser struct{ calls atomic.Int64 }

func (c *nopCloser) Close() error {
	c.calls.Add(1)
	return nil
}

// doService is a closer as do calls it.
type doService struct{ *nopCloser }

func (s doService) Shutdown() error { return s.Close() }

// closers is the list that a program has by hand: closed in reverse order, one
// by one.
type closers []io.Closer

func (cs closers) Close() error {
	var errs []error
	for i := len(cs) - 1; i >= 0; i-- {
		errs = append(errs, cs[i].Close())
	}
	return errors.Join(errs...)
}

// bounded is closers, except that a closer that hangs or panics does not block
// the others.
type bounded struct {
	closers
	each time.Duration
}

func (cs bounded) Close() error {
	var errs []error
	for i := len(cs.closers) - 1; i >= 0; i-- {
		errs = append(errs, cs.close(cs.closers[i]))
	}
	return errors.Join(errs...)
}

func (cs bounded) close(c io.Closer) error {
	ctx, cancel := context.WithTimeout(context.Background(), cs.each)
	defer cancel()
	closed := make(chan error, 1)
	go func() { // ends when c does
		defer func() {
			if v := recover(); v != nil {
				closed <- fmt.Errorf("panic: %v", v)
			}
		}()
		closed <- c.Close()
	}()
	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

const register, perOp = "register-ns/op", "ns/op"

func BenchmarkShutdown(b *testing.B) {
	// Each way registers all closers, and returns a function that shuts down.
	shutdown := func(
		prepare func(b *testing.B, cs []nopCloser, registered func()) (stop func() error),
	) func(b *testing.B, n int) {
		return func(b *testing.B, n int) {
			repeated(b, n, func(figure func(string, time.Duration)) {
				cs := make([]nopCloser, n)
				collect(n)
				start := time.Now()
				stop := prepare(b, cs, func() { figure(register, time.Since(start)) })
				collect(n)
				start = time.Now()
				err := stop()
				figure(perOp, time.Since(start))
				if err != nil {
					b.Fatal(err)
				}
				for i := range cs {
					if calls := cs[i].calls.Load(); calls != 1 {
						b.Fatalf("closer %d was called %d times", i, calls)
					}
				}
			})
		}
	}
	withQuit := func(concurrent bool) func(b *testing.B, n int) {
		return shutdown(func(_ *testing.B, cs []nopCloser, registered func()) func() error {
			q := newEvent()
			q.Concurrent = concurrent
			for i := range cs {
				q.RegisterCloser(&cs[i])
			}
			registered()
			return func() error { return q.Shutdown(context.Background()) }
		})
	}
	compare(b, sizes(10, 1_000_000),
		way[int]{peer: "quit", run: withQuit(false)},
		way[int]{peer: "quit.Concurrent", largest: 100_000, run: withQuit(true)},
		way[int]{peer: "hand", run: shutdown(func(
			_ *testing.B, cs []nopCloser, registered func(),
		) func() error {
			var all closers
			for i := range cs {
				all = append(all, &cs[i])
			}
			registered()
			return all.Close
		})},
		way[int]{peer: "hand.bounded", run: shutdown(func(
			_ *testing.B, cs []nopCloser, registered func(),
		) func() error {
			all := bounded{each: time.Hour}
			for i := range cs {
				all.closers = append(all.closers, &cs[i])
			}
			registered()
			return all.Close
		})},
		way[int]{peer: "fx", largest: 10_000, run: shutdown(func(
			b *testing.B, cs []nopCloser, registered func(),
		) func() error {
			app := fx.New(fx.NopLogger, fx.StartTimeout(time.Hour), fx.StopTimeout(time.Hour),
				fx.Invoke(func(lc fx.Lifecycle) {
					for i := range cs {
						lc.Append(fx.StopHook(cs[i].Close))
					}
					registered()
				}))
			if err := app.Start(context.Background()); err != nil {
				b.Fatal(err)
			}
			return func() error { return app.Stop(context.Background()) }
		})},
		way[int]{peer: "kratos", run: shutdown(func(
			b *testing.B, cs []nopCloser, registered func(),
		) func() error {
			started, ended := make(chan struct{}), make(chan error, 1)
			var opts []kratos.Option
			for i := range cs {
				opts = append(opts, kratos.AfterStop(func(context.Context) error {
					return cs[i].Close()
				}))
			}
			app := kratos.New(append(opts, kratos.AfterStart(func(context.Context) error {
				close(started)
				return nil
			}))...)
			registered()
			go func() { ended <- app.Run() }()
			<-started
			return func() error { return errors.Join(app.Stop(), <-ended) }
		})},
		way[int]{peer: "go-zero", run: shutdown(func(
			_ *testing.B, cs []nopCloser, registered func(),
		) func() error {
			logx.Disable()
			for i := range cs {
				proc.AddShutdownListener(func() { cs[i].Close() })
			}
			registered()
			return func() error {
				proc.Shutdown()
				return nil
			}
		})},
		way[int]{peer: "samber-do", largest: 100_000,
			run: shutdown(func(_ *testing.B, cs []nopCloser, registered func()) func() error {
				i := do.New()
				for n := range cs {
					do.ProvideNamedValue(i, strconv.Itoa(n), doService{&cs[n]})
				}
				registered()
				return func() error {
					if report := i.Shutdown(); !report.Succeed {
						return report
					}
					return nil
				}
			})},
	)
}

// nest returns the outermost and the innermost of n events, each a closer of
// the one before. Each has c, too.
func nest(n int, c io.Closer) (outermost, innermost *quit.QuitEvent) {
	outermost = newEvent()
	innermost = outermost
	innermost.RegisterCloser(c)
	for range n - 1 {
		q := newEvent()
		q.RegisterCloser(c)
		innermost.RegisterQuitCloser(q)
		innermost = q
	}
	return outermost, innermost
}

// scopes is nest for do.
func scopes(n int, c *nopCloser) (outermost *do.RootScope, innermost do.Injector) {
	outermost = do.New()
	innermost = outermost
	for range n - 1 {
		do.ProvideNamedValue(innermost, "closer", doService{c})
		innermost = innermost.Scope("scope")
	}
	do.ProvideNamedValue(innermost, "closer", doService{c})
	return outermost, innermost
}

// supervisors is nest for suture. They run, and ended gets the error of the
// outermost.
func supervisors(
	n int, c io.Closer,
) (cancel func(), ended <-chan error, innermost *suture.Supervisor) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Add(n)
	s := suture.New("bench", suture.Spec{Timeout: time.Hour})
	outermost := s
	for range n - 1 {
		s.Add(closing{c, &running})
		next := suture.New("bench", suture.Spec{Timeout: time.Hour})
		s.Add(next)
		s = next
	}
	s.Add(closing{c, &running})
	ended = outermost.ServeBackground(ctx)
	running.Wait()
	return cancel, ended, s
}

// closing is a service of suture that closes its closer when it is stopped.
type closing struct {
	io.Closer
	running *sync.WaitGroup
}

func (closing) String() string { return "closing" }

func (s closing) Serve(ctx context.Context) error {
	s.running.Done()
	<-ctx.Done()
	return s.Close()
}

func BenchmarkNested(b *testing.B) {
	run := func(prepare func(n int, c *nopCloser) (stop func() error)) func(b *testing.B, n int) {
		return func(b *testing.B, n int) {
			repeated(b, n, func(figure func(string, time.Duration)) {
				c := new(nopCloser)
				stop := prepare(n, c)
				collect(n)
				start := time.Now()
				err := stop()
				figure(perOp, time.Since(start))
				if err != nil {
					b.Fatal(err)
				}
				if calls := c.calls.Load(); calls != int64(n) {
					b.Fatalf("%d closers were called, want %d", calls, n)
				}
			})
		}
	}
	compare(b, sizes(1, 100_000),
		way[int]{peer: "quit", run: run(func(n int, c *nopCloser) func() error {
			q, _ := nest(n, c)
			return func() error { return q.Shutdown(context.Background()) }
		})},
		way[int]{peer: "hand", run: run(func(n int, c *nopCloser) func() error {
			all := closers{c}
			for range n - 1 {
				all = closers{c, all}
			}
			return all.Close
		})},
		way[int]{peer: "samber-do", largest: 1000, run: run(func(n int, c *nopCloser) func() error {
			i, _ := scopes(n, c)
			return func() error {
				if report := i.Shutdown(); !report.Succeed {
					return report
				}
				return nil
			}
		})},
		way[int]{peer: "suture", largest: 1000, run: run(func(n int, c *nopCloser) func() error {
			cancel, ended, _ := supervisors(n, c)
			return func() error {
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					return fmt.Errorf("the supervisor ended with %v", err)
				}
				return nil
			}
		})},
	)
}

func BenchmarkWait(b *testing.B) {
	compare(b, sizes(1, 100_000),
		way[int]{peer: "quit", run: func(b *testing.B, n int) {
			outermost, innermost := nest(n, new(nopCloser))
			innermost.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
				b.ReportAllocs()
				for b.Loop() {
					if err := newEvent().Shutdown(ctx); err != nil {
						b.Fatal(err)
					}
				}
				return nil
			}))
			if err := outermost.Shutdown(context.Background()); err != nil {
				b.Fatal(err)
			}
		}},
		way[int]{peer: "hand", run: func(b *testing.B, n int) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			for range n - 1 {
				ctx, cancel = context.WithCancel(ctx) //nolint:govet // the first cancel ends all
				_ = cancel
			}
			b.ReportAllocs()
			for b.Loop() {
				ctx, cancel := context.WithCancel(ctx)
				ended := make(chan struct{})
				go func() {
					<-ctx.Done()
					close(ended)
				}()
				cancel()
				<-ended
			}
		}},
		way[int]{peer: "samber-do", largest: 10_000, run: func(b *testing.B, n int) {
			_, innermost := scopes(n, new(nopCloser))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if report := innermost.Scope(strconv.Itoa(i)).Shutdown(); !report.Succeed {
					b.Fatal(report)
				}
			}
		}},
		way[int]{peer: "suture", largest: 1000, run: func(b *testing.B, n int) {
			cancel, ended, innermost := supervisors(n, new(nopCloser))
			b.ReportAllocs()
			for b.Loop() {
				token := innermost.Add(suture.NewSimple("fresh"))
				if err := innermost.RemoveAndWait(token, 0); err != nil {
					b.Fatal(err)
				}
			}
			cancel()
			<-ended
		}},
	)
}
