package quit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// model is what a QuitEvent should do, in plain sequential code: two stacks, of
// which the shutdown pops until both are empty.
type model struct {
	closers, after []int // ids, in the order of registration
	called         []int // in the order of the calls
	failures       int
}

func (m *model) register(id int, after bool) {
	if after {
		m.after = append(m.after, id)
	} else {
		m.closers = append(m.closers, id)
	}
}

func (m *model) unregister(id int) bool {
	for _, stack := range []*[]int{&m.closers, &m.after} {
		if i := slices.Index(*stack, id); i >= 0 {
			*stack = slices.Delete(*stack, i, i+1)
			return true
		}
	}
	return false
}

// shutdown calls all closers; call says what one does in turn.
func (m *model) shutdown(call func(id int)) {
	for len(m.closers)+len(m.after) > 0 {
		stack := &m.closers
		if len(*stack) == 0 {
			stack = &m.after
		}
		id := (*stack)[len(*stack)-1]
		*stack = (*stack)[:len(*stack)-1]
		m.called = append(m.called, id)
		call(id)
	}
}

// behaviour is what the closer of one id does when it is called.
type behaviour struct {
	act        byte  // how it ends
	registers  []int // closers that it registers first, with their phase
	after      []bool
	unregister int // an id that it takes out, or -1
}

const (
	returns = iota
	fails
	panics
	exits
	hangs
	reenters
	actions
)

// FuzzAgainstModel runs a random program of registrations, before and during the
// shutdown, and of closers of every behaviour, and compares what was called in
// which order with the model. The seed is the input: a failure prints it.
func FuzzAgainstModel(f *testing.F) {
	for seed := range uint64(100) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) { againstModel(t, seed) })
	})
}

func againstModel(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	var program []behaviour // by id
	var plan func(depth int) int
	plan = func(depth int) int {
		id := len(program)
		program = append(program, behaviour{act: byte(random.IntN(actions)), unregister: -1})
		for depth > 0 && random.IntN(3) == 0 {
			after := random.IntN(2) == 0
			child := plan(depth - 1)
			program[id].registers = append(program[id].registers, child)
			program[id].after = append(program[id].after, after)
		}
		return id
	}
	var first []int // registered before the fire
	for range random.IntN(12) {
		first = append(first, plan(2))
	}
	for id := range program {
		if random.IntN(3) == 0 {
			program[id].unregister = random.IntN(len(program))
		}
	}
	goroutines := random.IntN(4)

	// What should happen.
	var m model
	var phases []bool
	for _, id := range first {
		after := random.IntN(3) == 0
		phases = append(phases, after)
		m.register(id, after)
	}
	var wantTaken, gotTaken []string
	m.shutdown(func(id int) {
		b := program[id]
		for i, child := range b.registers {
			m.register(child, b.after[i])
		}
		if b.unregister >= 0 {
			wantTaken = append(wantTaken, fmt.Sprint(id, " takes out ", b.unregister, ": ", m.unregister(b.unregister)))
		}
		if b.act != returns && b.act != reenters {
			m.failures++
		}
	})

	// What happens.
	q := quietEvent()
	hang := make(chan struct{})
	var mu sync.Mutex // nothing is synchronized with an abandoned closer
	var called []int
	unregister := make(map[int]func() bool)
	var register func(id int, after bool)
	register = func(id int, after bool) {
		b := program[id]
		closer := func(ctx context.Context) error {
			mu.Lock()
			called = append(called, id)
			for i, child := range b.registers {
				register(child, b.after[i])
			}
			if b.unregister >= 0 {
				u := unregister[b.unregister]
				gotTaken = append(gotTaken, fmt.Sprint(id, " takes out ", b.unregister, ": ", u != nil && u()))
			}
			mu.Unlock()
			switch b.act {
			case fails:
				return errors.New("failed")
			case panics:
				panic("panicked")
			case exits:
				runtime.Goexit()
			case hangs:
				<-hang
			case reenters:
				return q.Shutdown(context.Background())
			}
			return nil
		}
		// One that hangs has little time of its own: with several that use up
		// their share, only the reserve would be left, and the order would not
		// be total.
		opts := []quit.Option{quit.Timeout(time.Millisecond)}
		if after {
			opts = append(opts, quit.AfterDrain())
		}
		unregister[id] = q.RegisterQuitCloser(quit.ShutdownFunc(closer), opts...)
	}
	q.Timeout = time.Duration(random.IntN(100)+1) * time.Second
	for i, id := range first {
		register(id, phases[i])
	}
	ended := make([]bool, goroutines)
	for i := range ended {
		q.AddGoroutine()
		go func() {
			<-q.Done()
			time.Sleep(time.Millisecond)
			ended[i] = true // a race, if the drain did not wait
			q.DoneGoroutine()
		}()
	}
	err := q.Shutdown(context.Background())
	close(hang)
	synctest.Wait()

	if slices.Contains(ended, false) {
		t.Errorf("seed %d: the shutdown left goroutines", seed)
	}
	if !slices.Equal(called, m.called) {
		t.Errorf("seed %d: called %v, want %v", seed, called, m.called)
	}
	if !slices.Equal(gotTaken, wantTaken) {
		t.Errorf("seed %d: unregister: %q, want %q", seed, gotTaken, wantTaken)
	}
	failures := 0
	if err != nil {
		failures = strings.Count(err.Error(), "\n") + 1
	}
	if failures != m.failures {
		t.Errorf("seed %d: %d failures, want %d: %v", seed, failures, m.failures, err)
	}
}
