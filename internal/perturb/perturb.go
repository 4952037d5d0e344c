// Package perturb delays goroutines at random, so that tests meet orders of
// events that are otherwise rare. The command verify/perturb inserts calls to
// it into a copy of a package. Nothing else uses it.
package perturb

import (
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"time"
)

// SeedVar is the environment variable with the seed, a number other than zero.
const SeedVar = "QUIT_PERTURB_SEED"

var seed, _ = strconv.ParseUint(os.Getenv(SeedVar), 10, 64)

// P is called at the n-th point of a package. Mostly it does nothing. Sometimes
// it yields, or keeps the processor busy for a few microseconds. Rarely, it
// stops its thread for up to two milliseconds. It shows the race detector no
// order between goroutines. The clock of a bubble of testing/synctest stands
// still meanwhile. It panics if there is no seed, since a test would then prove
// nothing.
func P(n int) {
	if seed == 0 {
		panic("perturb: no seed in " + SeedVar)
	}
	switch what, size := choose(seed, n, pass(n)); what {
	case yield:
		for range size {
			runtime.Gosched()
		}
	case spin:
		work(size)
	case sleep:
		pause(time.Duration(size) * time.Microsecond)
	}
}

// B is like P, for use in a condition. It returns true.
func B(n int) bool {
	P(n)
	return true
}

type action int

const (
	nothing action = iota
	yield          // size times
	spin           // size rounds, of about a nanosecond
	sleep          // size microseconds
)

// choose returns the kind and the length of the disturbance when the n-th point
// is passed. They depend only on the seed, the point, and the number of earlier
// passes. A seed makes some points hot. An order that needs delays of two
// goroutines at two particular points is rare, but some seed finds it.
func choose(seed uint64, n int, times uint32) (what action, size int) {
	point := mix(seed + mix(uint64(n)))
	one := 512 // one pass in this many is disturbed
	switch {
	case point%64 == 0:
		one = 2
	case point%8 == 1:
		one = 16
	}
	r := rand(mix(point + uint64(times)))
	if r.below(one) != 0 {
		return nothing, 0
	}
	switch k := r.below(8); {
	case k < 2 && r.below(1+int(times>>8)) == 0: // less and less often, for the sake of loops
		return sleep, 10 + r.below(1+r.below(1990)) // rather short
	case k < 5:
		return spin, 1 + r.below(10_000)
	}
	return yield, 1 + r.below(8)
}

// rand is a random number. Each of its digits is used once.
type rand uint64

// below returns a number from 0 to n-1, and leaves the rest of r for the next
// call.
func (r *rand) below(n int) int {
	hi, lo := bits.Mul64(uint64(*r), uint64(n))
	*r = rand(lo)
	return int(hi)
}

// mix returns a number whose every bit depends on every bit of x. It is the
// last part of the generator splitmix64.
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// passed counts the passes of each point. Several points may share a count.
var passed [1 << 13]uint32

// pass counts a pass of the n-th point and returns the number of earlier
// passes. It counts without atomics, since they would order the passing
// goroutines and hide their races from the detector. A lost count does no harm.
//
//go:norace
func pass(n int) uint32 {
	c := &passed[n%len(passed)]
	*c++
	return *c
}

// work keeps the processor busy.
//
//go:noinline
func work(rounds int) {
	x := uint64(1)
	for range rounds {
		x *= 0x5851F42D4C957F2D
	}
	runtime.KeepAlive(x)
}
