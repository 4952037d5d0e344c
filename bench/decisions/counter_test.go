package decisions

import (
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/gracefulgo/graceful/quit"
)

// stripe is one atomic count on cache lines of its own, as in quit.
type stripe struct {
	n atomic.Int64
	_ [128 - 8]byte
}

// stripes counts like the counter of quit before the first wait, with several
// ways to pick a stripe.
type stripes struct {
	all  []stripe
	pool sync.Pool // of *stripe
	next atomic.Uint32
}

func newStripes() *stripes {
	s := &stripes{all: make([]stripe, 1<<bits.Len(uint(8*runtime.GOMAXPROCS(0)-1)))}
	s.pool.New = func() any { return &s.all[s.next.Add(1)&uint32(len(s.all)-1)] }
	return s
}

func (s *stripes) sum() (sum int64) {
	for i := range s.all {
		sum += s.all[i].n.Load()
	}
	return sum
}

func (s *stripes) addByHash(n int64) {
	var here byte
	const golden = 0x9E3779B9
	h := uint32(uintptr(unsafe.Pointer(&here))>>11) * golden
	s.all[h>>16&uint32(len(s.all)-1)].n.Add(n)
}

func (s *stripes) addByRand(n int64) {
	s.all[rand.Uint32()&uint32(len(s.all)-1)].n.Add(n)
}

func (s *stripes) addByPool(n int64) {
	one := s.pool.Get().(*stripe)
	one.n.Add(n)
	s.pool.Put(one)
}

// counters are the ways to count a goroutine in and out.
var counters = []struct {
	name string
	make func() (add func(), done func(), sum func() int64)
}{
	{"quit", func() (add, done func(), sum func() int64) {
		q := quit.NewQuitEvent()
		return q.AddGoroutine, q.DoneGoroutine, func() int64 { return int64(q.Report().Goroutines) }
	}},
	{"hash", func() (add, done func(), sum func() int64) {
		s := newStripes()
		return func() { s.addByHash(1) }, func() { s.addByHash(-1) }, s.sum
	}},
	{"rand", func() (add, done func(), sum func() int64) {
		s := newStripes()
		return func() { s.addByRand(1) }, func() { s.addByRand(-1) }, s.sum
	}},
	{"pool", func() (add, done func(), sum func() int64) {
		s := newStripes()
		return func() { s.addByPool(1) }, func() { s.addByPool(-1) }, s.sum
	}},
	{"WaitGroup", func() (add, done func(), sum func() int64) {
		var wg sync.WaitGroup
		return func() { wg.Add(1) }, wg.Done, func() int64 { wg.Wait(); return 0 }
	}},
}

// BenchmarkCount counts a goroutine in and out, on one goroutine and on one for
// each core.
func BenchmarkCount(b *testing.B) {
	for _, c := range counters {
		b.Run("way="+c.name+"/goroutines=one", func(b *testing.B) {
			add, done, _ := c.make()
			for b.Loop() {
				add()
				done()
			}
		})
		b.Run("way="+c.name+"/goroutines=all", func(b *testing.B) {
			add, done, _ := c.make()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					add()
					done()
				}
			})
		})
	}
}

// TestCount wants every way to count exactly.
func TestCount(t *testing.T) {
	for _, c := range counters {
		add, done, sum := c.make()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 1000 {
					add()
					done()
				}
			})
		}
		wg.Wait()
		if got := sum(); got != 0 {
			t.Errorf("%s: count = %d, want 0", c.name, got)
		}
		if add(); c.name != "WaitGroup" && sum() != 1 {
			t.Errorf("%s: count = %d after one more, want 1", c.name, sum())
		}
	}
}
