package decisions

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A closer is called with the context of its step.
type closer func(ctx context.Context)

// Each step of the two models does the same: a closer gets a context with a
// deadline, and a timer abandons it if it does not return. A model returns when
// all closers have been called, and have returned or were abandoned.

// bySupervisor has a goroutine that owns the shutdown. It hands each closer to
// a worker, and waits for the worker or for the timer. A worker that hangs is
// replaced.
func bySupervisor(closers []closer, share time.Duration) {
	type job struct {
		call     closer
		returned chan struct{}
	}
	worker := func(jobs <-chan job) {
		for j := range jobs {
			ctx, cancel := context.WithTimeout(context.Background(), share)
			j.call(ctx)
			cancel()
			close(j.returned)
		}
	}
	ended := make(chan struct{})
	go func() { // the supervisor
		defer close(ended)
		jobs := make(chan job)
		go worker(jobs)
		for i := len(closers) - 1; i >= 0; i-- {
			j := job{closers[i], make(chan struct{})}
			jobs <- j
			abandon := time.NewTimer(share)
			select {
			case <-j.returned:
			case <-abandon.C:
				close(jobs)
				jobs = make(chan job)
				go worker(jobs)
			}
			abandon.Stop()
		}
		close(jobs)
	}()
	<-ended
}

// baton is the shutdown as quit has it: its state is under a mutex, and
// the goroutine that ends a step takes the next one.
type baton struct {
	mu      sync.Mutex
	waiting []closer
	running bool
	share   time.Duration
	ended   chan struct{}
}

func (s *baton) next() (call closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return nil
	}
	n := len(s.waiting)
	if n == 0 {
		close(s.ended)
		s.running = true // so that nobody ends it again
		return nil
	}
	call, s.waiting = s.waiting[n-1], s.waiting[:n-1]
	s.running = true
	return call
}

// finish reports whether this call ended the step.
func (s *baton) finish(over *bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *over {
		return false
	}
	*over, s.running = true, false
	return true
}

func (s *baton) loop() {
	for call := s.next(); call != nil; call = s.next() {
		over := new(bool)
		abandon := time.AfterFunc(s.share, func() {
			if s.finish(over) {
				go s.loop()
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), s.share)
		call(ctx)
		cancel()
		if !s.finish(over) {
			return // another goroutine has the baton
		}
		abandon.Stop()
	}
}

func byBaton(closers []closer, share time.Duration) {
	s := &baton{waiting: slices.Clone(closers), share: share, ended: make(chan struct{})}
	go s.loop()
	<-s.ended
}

var designs = []struct {
	name string
	run  func(closers []closer, share time.Duration)
}{
	{"baton", byBaton},
	{"supervisor", bySupervisor},
}

// BenchmarkShutdown is a shutdown of n closers that do nothing.
func BenchmarkShutdown(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		closers := make([]closer, n)
		var calls atomic.Int64
		for i := range closers {
			closers[i] = func(context.Context) { calls.Add(1) }
		}
		for _, d := range designs {
			b.Run(fmt.Sprintf("design=%s/closers=%d", d.name, n), func(b *testing.B) {
				calls.Store(0)
				for b.Loop() {
					d.run(closers, 20*time.Second)
				}
				total := float64(b.N) * float64(n)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/total, "ns/closer")
				if got := calls.Load(); got != int64(total) {
					b.Errorf("%d closers were called, want %v", got, total)
				}
			})
		}
	}
}

// TestDesigns has the models call closers in reverse order, one of which hangs.
func TestDesigns(t *testing.T) {
	for _, d := range designs {
		var mu sync.Mutex
		var order []int
		release := make(chan struct{})
		var closers []closer
		for i := range 5 {
			closers = append(closers, func(context.Context) {
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				if i == 3 {
					<-release
				}
			})
		}
		d.run(closers, 20*time.Millisecond)
		close(release)
		mu.Lock()
		if got, want := fmt.Sprint(order), "[4 3 2 1 0]"; got != want {
			t.Errorf("%s: called %v, want %v", d.name, got, want)
		}
		mu.Unlock()
	}
}
