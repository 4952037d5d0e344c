package bench_test

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/bench/internal/rows"
)

var small = flag.Bool("small", false,
	"run the benchmarks with few and small sizes, to see that they work")

// way is the way in which a peer performs a measured operation. V is the type
// of the operation's key.
type way[V any] struct {
	peer string
	run  func(b *testing.B, value V)

	// largest is the largest n, if it is not 0. Beyond it, the peer would take
	// minutes, or the machine's memory.
	largest int
}

// compare runs all ways for each value, so that a way and its baseline run
// close together. A way without its baseline is a failure, even if the -bench
// flag leaves the baseline out.
func compare[V any](b *testing.B, values []V, ways ...way[V]) {
	operation, ok := rows.Find(strings.TrimPrefix(b.Name(), "Benchmark"))
	if !ok {
		b.Fatalf("%s is not among rows.Operations", b.Name())
	}
	for _, value := range values {
		ran, baseline := "", false
		for _, w := range ways {
			if n, is := any(value).(int); is && w.largest != 0 && n > w.largest {
				continue
			}
			name := "peer=" + w.peer
			if operation.Key != "" {
				name += fmt.Sprintf("/%s=%v", operation.Key, value)
			}
			b.Run(name, func(b *testing.B) {
				if ran = b.Name(); w.peer == operation.Baseline {
					baseline = true
				}
				w.run(b, value)
			})
		}
		if ran != "" && !baseline {
			b.Fatalf("%s has run without its baseline, peer=%s", ran, operation.Baseline)
		}
	}
}

// once is the only value of an operation without a key.
var once = []struct{}{{}}

// sizes returns the powers of ten from one to the other.
func sizes(from, to int) []int {
	if *small {
		to = min(to, 100)
	}
	var all []int
	for n := from; n <= to; n *= 10 {
		all = append(all, n)
	}
	return all
}

// procs are the values of GOMAXPROCS: one, all, and more than there are cores.
func procs() []int {
	all := []int{1}
	for n := 2; n <= 16; n *= 2 {
		all = append(all, n)
	}
	return all
}

// fewProcs is procs for operations that take longer.
func fewProcs() []int { return []int{1, 2, 16} }

// onProcs runs f with GOMAXPROCS = n.
func onProcs(b *testing.B, n int, f func(pb *testing.PB)) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
	b.ReportAllocs()
	b.RunParallel(f)
}

// repeated calls f several times for each of b.N, if n is small, since a single
// call would be too short to measure. The figures that f adds to, such as
// "ns/op", are reported for each call of f.
func repeated(b *testing.B, n int, f func(figure func(unit string, d time.Duration))) {
	times := b.N
	if !*small {
		times *= max(1, 10_000/n)
	}
	sum := make(map[string]time.Duration)
	for range times {
		f(func(unit string, d time.Duration) { sum[unit] += d })
	}
	for unit, d := range sum {
		b.ReportMetric(float64(d.Nanoseconds())/float64(times), unit)
	}
}

// collect collects garbage, so that earlier garbage is not collected during the
// measurement. For small n that would take more time than the rest.
func collect(n int) {
	if n >= 10_000 {
		runtime.GC()
	}
}
