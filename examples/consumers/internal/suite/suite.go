//go:build unix

// Package suite has the tests that all programs in this module share. They
// check the promises that the user of any broker relies on. The program runs as
// a process, and so does its broker.
package suite

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

var stops = flag.Int("stops", 10, "how often TestStops stops the program under load")

// A Broker is a server, with the functions that ask it and the program about
// orders.
type Broker struct {
	*Server
	Args []string // arguments of the program, to find the server

	// Send puts orders into the queue. The server has stored them when it
	// returns.
	Send func(t testing.TB, orders []string)

	// Left returns the number of orders on the server, delivered or not, that
	// are not acknowledged. If Left is nil, the tests rely on the output of the
	// program.
	Left func(t testing.TB) int

	// Expire makes the server give the orders of an ended program to another
	// one. It is nil if the server does that by itself, or after a time set in
	// Args.
	Expire func(t testing.TB)

	// InHand is the minimum number of orders in hand while the program works.
	InHand int

	// Membership is set if the program needs the server in order to leave it.
	// Without the server, the program cannot leave, and says so.
	Membership bool

	// AckUnseen is set if the program does not learn whether an order is
	// acknowledged. So it cannot name an order that is not.
	AckUnseen bool

	// AckLost is set if an acknowledgment cannot be sent any more once the
	// connection of its order has ended.
	AckLost bool
}

// history records the fate of the orders of a test.
type history struct {
	t      testing.TB
	b      *Broker
	mu     sync.Mutex // guards the two fields below
	sent   []string
	runs   []*process.Process
	forced map[string]bool // orders that processes had in hand at a forced end
}

func newHistory(t testing.TB, b *Broker) *history {
	return &history{t: t, b: b, forced: make(map[string]bool)}
}

func (h *history) send(n int) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var orders []string
	for range n {
		orders = append(orders, fmt.Sprint("order ", len(h.sent)+len(orders)+1))
	}
	h.b.Send(h.t, orders)
	h.sent = append(h.sent, orders...)
}

// start starts the program.
func (h *history) start(args ...string) *process.Process {
	h.t.Helper()
	p := process.Start(h.t, append(slices.Clone(h.b.Args), args...)...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs = append(h.runs, p)
	return p
}

func (h *history) left() int {
	h.t.Helper()
	if h.b.Left != nil {
		return h.b.Left(h.t)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	acknowledged := make(map[string]bool)
	for _, p := range h.runs {
		for _, order := range in(p, "acknowledged") {
			acknowledged[order] = true
		}
	}
	return len(h.sent) - len(acknowledged)
}

// stop stops the program, and checks that it ends with status 0 and nothing in
// hand.
func (h *history) stop(p *process.Process) {
	h.t.Helper()
	p.Signal(syscall.SIGTERM)
	h.wantEnd(p, 0)
	if left := h.inHand(p); len(left) > 0 {
		h.t.Errorf("the program ended with %v in hand", left)
	}
	if got := p.Stderr(); strings.Contains(got, "WARN") || strings.Contains(got, "ERROR") {
		h.t.Errorf("stderr = %s\nwant no warning and no error", got)
	}
}

// wantEnd checks that p ends with the status. The orders that it then has in
// hand may be done again.
func (h *history) wantEnd(p *process.Process, status int) {
	h.t.Helper()
	p.WantExit(status)
	h.force(p)
}

// force records that the orders that p had in hand at its end may be done
// again.
func (h *history) force(p *process.Process) {
	for _, order := range h.inHand(p) {
		h.forced[order] = true
	}
}

// rest runs the program until the server has no orders left, and then stops it.
func (h *history) rest() {
	h.t.Helper()
	p := h.start("-work=1ms")
	p.Line("waiting for orders")
	h.awaitNone()
	h.stop(p)
}

func (h *history) awaitNone() {
	h.t.Helper()
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		left := h.left()
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("%d orders are left, and nobody does them", left)
		}
	}
}

// in returns the orders in the lines that begin with verb, from the first line
// to the last.
func in(p *process.Process, verb string) []string {
	var orders []string
	for line := range strings.Lines(p.Stdout()) {
		if order, ok := strings.CutPrefix(strings.TrimSpace(line), verb+" "); ok {
			orders = append(orders, order)
		}
	}
	return orders
}

// inHand returns the orders that an ended program had taken and not
// acknowledged.
func (h *history) inHand(p *process.Process) []string {
	taken, acknowledged := in(p, "took"), in(p, "acknowledged")
	if h.b.AckUnseen {
		acknowledged = in(p, "finished")
		if !p.ProcessState.Success() { // the last order of each worker may be unacknowledged
			acknowledged = acknowledged[:max(0, len(acknowledged)-h.b.InHand)]
		}
	}
	for _, order := range acknowledged {
		if i := slices.Index(taken, order); i >= 0 {
			taken = slices.Delete(taken, i, i+1)
		} else {
			h.t.Errorf("%s was acknowledged, and not taken", order)
		}
	}
	return taken
}

// wantAllDone checks that each order was done, and that it was done or taken
// twice only if a process had it in hand at a forced end. It returns how many
// were done twice.
func (h *history) wantAllDone() (twice int) {
	h.t.Helper()
	taken, done := make(map[string]int), make(map[string]int)
	for _, p := range h.runs {
		for _, order := range in(p, "took") {
			taken[order]++
		}
		for _, order := range in(p, "finished") {
			done[order]++
		}
	}
	sum := func(m map[string]int) (n int) {
		for n1 := range maps.Values(m) {
			n += n1
		}
		return n
	}
	lost := 0
	for _, order := range h.sent {
		if done[order] == 0 {
			h.t.Errorf("%s is lost", order)
			lost++
		}
		if done[order] > 1 {
			twice++
		}
		if taken[order] > 1 && !h.forced[order] {
			h.t.Errorf("%s was taken %d times and done %d times; no forced end had it in hand",
				order, taken[order], done[order])
		}
		delete(taken, order)
	}
	for order := range taken {
		h.t.Errorf("%q was taken, and never sent", order)
	}
	h.t.Logf("%d runs: %d orders sent, %d done, in hand at a forced end %d, lost %d, done twice %d",
		len(h.runs), len(h.sent), sum(done), len(h.forced), lost, twice)
	return twice
}

// took waits until p has taken n orders.
func took(p *process.Process, n int) {
	for range n {
		p.Line("took ")
	}
}

const mayBeDoneAgain = " was finished, but not acknowledged; it may be done again: "

// named reports whether the last lines of p have each of the orders, followed
// by the given text.
func named(p *process.Process, what string, orders []string) bool {
	_, result, _ := strings.Cut(p.Stderr(), "quit: stopped")
	for _, order := range orders {
		if !strings.Contains(result, order+what) {
			return false
		}
	}
	return len(orders) > 0
}

// wantNamed checks that p has named the orders that it had finished and could
// not acknowledge, and that it did not fail if that was before the shutdown.
func (h *history) wantNamed(p *process.Process) {
	h.t.Helper()
	_, result, _ := strings.Cut(p.Stderr(), "quit: stopped")
	if failed := strings.Contains(result, "not acknowledged"); failed == p.ProcessState.Success() {
		h.t.Errorf("%v, want status 1 only if an order is named", p.ProcessState)
	}
	for _, order := range h.inHand(p) {
		if !strings.Contains(p.Stderr(), order+mayBeDoneAgain) {
			h.t.Errorf("%s was in hand, and is not named", order)
		}
	}
}

// TestStops stops the program with SIGTERM, again and again, while orders keep
// coming in.
func TestStops(t *testing.T, b *Broker) {
	h := newHistory(t, b)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	end := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
				if h.left() < 100 {
					h.send(10)
				}
			}
		}
	})
	stopLoad := sync.OnceFunc(func() {
		close(end)
		load.Wait()
	})
	defer stopLoad()

	for range *stops {
		p := h.start(fmt.Sprint("-work=", random.IntN(5), "ms"))
		took(p, 1+random.IntN(40))
		time.Sleep(time.Duration(random.IntN(5000)) * time.Microsecond) // any moment will do
		h.stop(p)
	}
	stopLoad()
	h.rest()
	h.wantAllDone()
}

// TestForcedEnd sends a second Ctrl-C while orders are in hand. They come back.
func TestForcedEnd(t *testing.T, b *Broker) {
	h := newHistory(t, b)
	h.send(3 * b.InHand)
	p := h.start("-work=10h")
	took(p, b.InHand)
	p.Signal(os.Interrupt)
	p.AwaitFired()
	p.InterruptAgain()
	h.wantEnd(p, 130)
	if got := p.Stderr(); !strings.Contains(got, "ending at once") {
		t.Errorf("stderr = %s\nwant it to say that it ends at once", got)
	}
	if b.Expire != nil {
		b.Expire(t)
	}
	h.rest()
	if twice := h.wantAllDone(); twice > 0 || len(h.forced) < b.InHand {
		t.Errorf("%d orders were in hand and %d done twice, want %d at least and 0",
			len(h.forced), twice, b.InHand)
	}
}

// TestForcedEndAfterWork sends a second Ctrl-C when orders are finished and the
// server does not answer. These orders, and no others, are done twice.
func TestForcedEndAfterWork(t *testing.T, b *Broker) {
	h := newHistory(t, b)
	process.Patiently(t, 3*time.Second, func(work time.Duration) bool {
		h.send(3 * b.InHand)
		p := h.start(fmt.Sprint("-work=", work))
		took(p, b.InHand)
		b.Pause()
		for range b.InHand {
			p.Line("finished ")
		}
		p.Signal(os.Interrupt)
		p.AwaitFired()
		p.InterruptAgain()
		h.wantEnd(p, 130)
		b.Kill()
		b.Start()
		return len(in(p, "acknowledged")) == 0 // the server was stopped in time
	})
	if b.Expire != nil {
		b.Expire(t)
	}
	h.rest()
	if twice := h.wantAllDone(); twice < b.InHand {
		t.Errorf("%d orders were done twice, want %d that were not acknowledged", twice, b.InHand)
	}
}

// TestOutOfTime uses orders that take longer than the shutdown may. They are
// named and given back: nothing is lost, and nothing is done twice.
func TestOutOfTime(t *testing.T, b *Broker) {
	h := newHistory(t, b)
	h.send(3 * b.InHand)
	var p *process.Process
	// A tenth of the timeout is left for the workers to name their orders.
	process.Patiently(t, 3*time.Second, func(timeout time.Duration) bool {
		p = h.start("-work=10h", fmt.Sprint("-timeout=", timeout))
		took(p, b.InHand)
		p.Signal(syscall.SIGTERM)
		h.wantEnd(p, 1)
		return named(p, " was not finished: ", h.inHand(p))
	})
	h.rest()
	if twice := h.wantAllDone(); twice > 0 {
		t.Errorf("%d orders were done twice, want none", twice)
	}
}

// TestBackAgain stops the server while orders are in hand. It starts the server
// again before the signal, or during the shutdown.
func TestBackAgain(t *testing.T, start func(t testing.TB) *Broker) {
	for _, stopping := range []bool{false, true} {
		t.Run(fmt.Sprint("stopping=", stopping), func(t *testing.T) {
			t.Parallel()
			b := start(t)
			h := newHistory(t, b)
			h.send(10 * b.InHand)
			p := h.start("-work=100ms", "-timeout=1m")
			took(p, 2*b.InHand)
			b.Stop()
			if stopping {
				p.Signal(syscall.SIGTERM)
				p.AwaitFired()
			}
			b.Start()
			if !stopping {
				h.awaitNone()
				p.Signal(syscall.SIGTERM)
			}
			if b.AckLost {
				<-p.Exited()
				h.force(p)
				h.wantNamed(p)
			} else {
				h.wantEnd(p, 0)
			}
			h.rest()
			h.wantAllDone()
		})
	}
}

// TestLost stops the server while orders are in hand, and starts it again only
// after the program has ended. The program says so. Those orders, and no
// others, are done twice.
func TestLost(t *testing.T, b *Broker) {
	h := newHistory(t, b)
	h.send(3 * b.InHand)
	process.Patiently(t, 5*time.Second, func(timeout time.Duration) bool {
		p := h.start(fmt.Sprint("-work=", timeout/4), "-dial-timeout=1s",
			fmt.Sprint("-timeout=", timeout))
		took(p, b.InHand)
		if b.AckLost { // before the work is finished, or the program notices
			p.Signal(syscall.SIGTERM)
			p.AwaitFired()
			b.Kill()
		} else {
			b.Stop()
			p.Signal(syscall.SIGTERM)
		}
		<-p.Exited()
		h.force(p)
		b.Start()
		if p.ProcessState.ExitCode() != 1 {
			return false
		}
		if b.AckUnseen {
			return strings.Contains(p.Stderr(), "what was finished last may be done again: ")
		}
		return named(p, mayBeDoneAgain, h.inHand(p))
	})
	if b.Expire != nil {
		b.Expire(t)
	}
	h.rest()
	h.wantAllDone()
}

// TestIdleStop stops the program when there is nothing to do, with the server
// and without it.
func TestIdleStop(t *testing.T, b *Broker) {
	h := newHistory(t, b)
	p := h.start()
	p.Line("waiting for orders")
	h.stop(p)
	p = h.start("-dial-timeout=5s", "-work=0")
	h.send(1)
	p.Line("finished ")
	h.awaitNone()
	b.Stop()
	p.Signal(syscall.SIGTERM)
	if b.AckUnseen || b.Membership {
		p.WantExit(1)
	} else {
		p.WantExit(0)
	}
}

// TestDownAtStart starts the program when no server listens, and when the
// server does not answer. arg turns an address into an argument.
func TestDownAtStart(t *testing.T, arg func(addr string) string) {
	for name, addr := range map[string]string{"down": FreeAddr(t), "deaf": process.TakenAddr(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			process.WantBadStart(t, 1, addr, arg(addr), "-dial-timeout=1s")
		})
	}
}

// TestWrongUsage checks that invalid flags lead to one line and status 2.
func TestWrongUsage(t *testing.T) {
	for arg, why := range map[string]string{
		"-workers=0": "a worker",
		"-work=long": `"long"`,
		"-hours=1":   "-hours",
		"start":      `"start"`,
	} {
		process.WantBadStart(t, 2, why, arg)
	}
}
