package quit

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// counter counts goroutines. It is exact under any concurrency. It is cheap on
// many cores, because each core mostly has a stripe of its own.
//
// The count is central plus the sum of all open stripes. A stripe may hold a
// negative number, since AddGoroutine and DoneGoroutine may hit different
// stripes. The first wait closes all stripes: one atomic swap takes the value
// of a stripe, which is added to central, and leaves a mark. Every later
// operation on the stripe finds the mark in the result of its own atomic add,
// and then goes to central. Linux's percpu_ref is the model.
//
// A wait neither ends early nor misses the last Done. An operation that hits
// its stripe before the swap is carried to central by the swap. One that hits
// it after the swap blocks on mu until all stripes have been carried over. A
// Done follows its Add. So whenever mu is free and the stripes are closed,
// central is at least the number of counted goroutines that have not begun
// their Done. It is exactly that number once the operations under way have
// ended.
//
// Done is synchronized before the end of a wait. It is either an atomic add
// that the swap observes, or it finds its stripe closed and changes central
// under mu. Both are synchronized before the wait that reads central.
//
// Stripes are not reopened. After the first wait the counter is central, with
// one mutex for all. That is the case in a shutdown, where counting is not hot.
type counter struct {
	stripes atomic.Pointer[[]stripe] // nil until the first add

	mu      sync.Mutex    // guards the fields below
	used    bool          // something was counted
	closed  bool          // all stripes are closed, and none will be opened
	central int64         // the count, less that of the open stripes
	zero    chan struct{} // closed and set to nil when central falls to zero; nil if nobody waits
}

// stripe is an atomic count on its own cache line. It is 128 bytes long, since
// some processors fetch lines in pairs or have lines of that length.
type stripe struct {
	n atomic.Int64
	_ [128 - 8]byte
}

// A closed stripe holds closedMark plus the stray adds that have hit it since.
// A stripe below closedBelow is closed. It would take 2^61 adds to confuse an
// open stripe with a closed one.
const (
	closedMark  = -1 << 62
	closedBelow = -1 << 61
)

// add adds n, which is 1 or -1.
func (c *counter) add(n int64) {
	if s := c.stripes.Load(); s == nil || pick(*s).Add(n) < closedBelow {
		c.addCentral(n)
	}
}

// pick returns the stripe of the calling goroutine. Goroutines that run at the
// same time have different stacks, so a hash of the stack's address spreads
// them over the stripes. The stripe of a goroutine may change if its stack
// moves or if it calls from another depth. This costs a cache miss, and nothing
// else.
func pick(s []stripe) *atomic.Int64 {
	var here byte
	const golden = 0x9E3779B9 // 2^32 / the golden ratio: Fibonacci hashing
	h := uint32(uintptr(unsafe.Pointer(&here))>>11) * golden
	return &s[h>>16&uint32(len(s)-1)].n
}

func (c *counter) addCentral(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && c.stripes.Load() == nil {
		// With eight stripes a core, two running goroutines rarely share one.
		s := make([]stripe, 1<<bits.Len(uint(8*runtime.GOMAXPROCS(0)-1)))
		c.stripes.Store(&s)
	}
	c.used = true // the first add comes here, since there are no stripes yet
	c.central += n
	if c.central <= 0 && c.zero != nil {
		close(c.zero)
		c.zero = nil
	}
}

// wait waits until the count is zero, or less by misuse, or until giveUp is
// closed. It returns the count. If giveUp is nil, there is no limit.
func (c *counter) wait(giveUp <-chan struct{}) int64 {
	for {
		left, zero := c.closeStripes()
		if left <= 0 {
			return left
		}
		select {
		case <-zero: // look again: another may have been counted since
		case <-giveUp:
			return c.count()
		}
	}
}

// closeStripes carries all stripes over to central. It returns the count and,
// if that is above zero, the channel that is closed when it falls to zero.
func (c *counter) closeStripes() (int64, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.stripes.Load(); s != nil && !c.closed {
		for i := range *s {
			c.central += (*s)[i].n.Swap(closedMark)
		}
	}
	c.closed = true
	if c.central > 0 && c.zero == nil {
		c.zero = make(chan struct{})
	}
	return c.central, c.zero
}

// count returns the count without closing the stripes. It is exact if the
// stripes are closed, or if no operation runs at the same time.
func (c *counter) count() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.central
	if s := c.stripes.Load(); s != nil && !c.closed {
		for i := range *s {
			n += (*s)[i].n.Load()
		}
	}
	return n
}

// everUsed reports whether anything was counted.
func (c *counter) everUsed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}
