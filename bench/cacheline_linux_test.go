package bench_test

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// line is a count with a cache line of its own.
type line struct {
	n atomic.Int64
	_ [128 - 8]byte
}

// pinned runs f on a thread that stays on the core, and returns when f does.
func pinned(b *testing.B, core int, f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// The thread ends with this goroutine, since it stays locked to it.
		runtime.LockOSThread()
		var set unix.CPUSet
		set.Set(core)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			b.Error(err)
			return
		}
		f()
	}()
	<-ended
}

// BenchmarkCacheLine measures an atomic add in three cases: the cache line is
// the core's own, another core has changed it since, and both cores add to it
// all the time. The figures of docs/scaling.md are computed from it.
func BenchmarkCacheLine(b *testing.B) {
	var cores unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cores); err != nil {
		b.Fatal(err)
	}
	var two []int
	for core := 0; core < 1024 && len(two) < 2; core++ {
		if cores.IsSet(core) {
			two = append(two, core)
		}
	}
	if len(two) < 2 {
		b.Skip("there is one core only")
	}

	// In a random order, so that no prefetcher moves lines ahead of time; few
	// enough for a core's own cache.
	lines := make([]line, 2048)
	order := rand.New(rand.NewPCG(1, 2)).Perm(len(lines))
	walk := func() time.Duration {
		start := time.Now()
		for _, i := range order {
			lines[i].n.Add(1)
		}
		return time.Since(start)
	}
	walks := func(b *testing.B, first, second int) {
		var sum time.Duration
		for range b.N {
			pinned(b, first, func() { walk() })
			pinned(b, second, func() { sum += walk() })
		}
		b.ReportMetric(float64(sum.Nanoseconds())/float64(b.N*len(lines)), "ns/op")
	}
	b.Run("case=own", func(b *testing.B) { walks(b, two[0], two[0]) })
	b.Run("case=moved", func(b *testing.B) { walks(b, two[0], two[1]) })

	b.Run("case=contended", func(b *testing.B) {
		var shared line
		var ready atomic.Int32
		var ended sync.WaitGroup
		took := make([]time.Duration, len(two))
		for i, core := range two {
			ended.Go(func() {
				pinned(b, core, func() {
					for ready.Add(1); ready.Load() < 2; { // for less than a time slice
					}
					start := time.Now()
					for range b.N {
						shared.n.Add(1)
					}
					took[i] = time.Since(start)
				})
			})
		}
		ended.Wait()
		b.ReportMetric(float64(max(took[0], took[1]).Nanoseconds())/float64(2*b.N), "ns/op")
	})
}
