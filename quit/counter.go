package quit

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// counter counts goroutines: exact under any concurrency, and cheap on many
// cores because each core mostly has a stripe of its own.
//
// The count is central + the sum of all open stripes. A stripe may hold a
// negative number, since a goroutine may be counted on one stripe and
// discounted on another. The first wait closes all stripes: each gives up its
// value to central in one atomic swap, which leaves a mark that every later
// operation on the stripe finds in the result of its own atomic add; it then
// goes to central. Linux's percpu_ref is the model.
//
// Why a wait neither ends early nor misses the last one: an operation hits its
// stripe either before the swap, and then the swap carries it to central, or
// after it, and then it blocks on mu until all stripes have been carried over.
// A Done follows its Add, so whenever mu is free and the stripes are closed,
// central is at least the number of goroutines that are counted and have not
// begun their Done; it is exactly that once operations under way have ended.
//
// Why Done happens before the end of a wait: Done is an atomic add whose effect
// the swap observes, or one whose stripe was closed and which then changed
// central under mu. Either is synchronized before the wait that reads central.
//
// Stripes are not reopened: after the first wait the counter stays central,
// one mutex for all. That is the shutdown's case, where nothing is hot.
type counter struct {
	stripes atomic.Pointer[[]stripe] // nil until the first add

	mu      sync.Mutex    // guards the fields below
	used    bool          // something was counted
	closed  bool          // all stripes are closed and none will be opened
	central int64         // the count, less what open stripes hold
	zero    chan struct{} // closed, and nil again, when central falls to zero; nil while nobody waits
}

// stripe is one atomic count on a cache line of its own: 128 bytes, since some
// processors fetch lines in pairs or have lines that long.
type stripe struct {
	n atomic.Int64
	_ [128 - 8]byte
}

// A closed stripe holds closedMark plus the stray adds that hit it since. What
// is below closedBelow is closed: 2^61 adds on either side would be needed to
// take one for the other.
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
// them; a stack that moves, or a call from another depth, may change the
// stripe, which costs a cache miss and nothing else.
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
		// Eight a core make it rare that two running goroutines meet on one.
		s := make([]stripe, 1<<bits.Len(uint(8*runtime.GOMAXPROCS(0)-1)))
		c.stripes.Store(&s)
	}
	c.used = true // the first one comes here, since there are no stripes yet
	c.central += n
	if c.central <= 0 && c.zero != nil {
		close(c.zero)
		c.zero = nil
	}
}

// wait waits until the count is zero, or below by misuse, or until giveUp is
// closed, and returns the count. A nil giveUp waits for as long as it takes.
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

// closeStripes carries all stripes over to central, and returns the count and,
// if it is above zero, the channel that is closed when it falls to zero.
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

// count returns the count without closing the stripes. It is exact when no
// operation runs at the same time, or once the stripes are closed.
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
