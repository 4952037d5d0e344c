package quit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// model is a QuitEvent in plain sequential code: two stacks, from which the
// shutdown pops until both are empty.
type model struct {
	closers, after []int // ids, in the order of registration
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

// shutdown calls all closers. The func call stands for the call of a closer.
func (m *model) shutdown(call func(id int)) {
	for len(m.closers)+len(m.after) > 0 {
		stack := &m.closers
		if len(*stack) == 0 {
			stack = &m.after
		}
		id := (*stack)[len(*stack)-1]
		*stack = (*stack)[:len(*stack)-1]
		call(id)
	}
}

// behaviour is the plan of one closer.
type behaviour struct {
	act        byte   // how it ends
	registers  []int  // closers that it registers first
	after      []bool // whether those have AfterDrain
	unregister int    // an id that it unregisters, or -1

	inner      []int // if not nil, it is an event with these closers
	innerAfter []bool
}

const (
	returns = iota
	fails
	panics
	exits
	hangs
	reenters
	failsIgnored
	failsPartly // returns a list of errors, one of which is ignored
	failsEvent  // calls Fail, and returns
	signals     // calls Fail with a signal, which is not a failure
	actions
)

// FuzzAgainstModel runs a random program and compares the calls and their order
// with the model. The program registers closers of every behaviour, before and
// during the shutdown, nests events and has a log handler of some kind. The
// input is the seed, and a failure prints it.
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
		if depth > 0 && random.IntN(5) == 0 {
			program[id] = behaviour{unregister: -1, inner: []int{}}
			for range random.IntN(4) {
				after, child := random.IntN(3) == 0, plan(depth-1)
				program[id].inner = append(program[id].inner, child)
				program[id].innerAfter = append(program[id].innerAfter, after)
			}
		}
		return id
	}
	var first []int // registered before the fire
	for range random.IntN(12) {
		first = append(first, plan(2))
	}
	for id, b := range program {
		if b.inner == nil && random.IntN(3) == 0 {
			program[id].unregister = random.IntN(len(program))
		}
	}
	goroutines := random.IntN(4)

	// The model runs the program.
	var m model
	var phases []bool
	for _, id := range first {
		after := random.IntN(3) == 0
		phases = append(phases, after)
		m.register(id, after)
	}
	var wantTaken, gotTaken []string
	models := []*model{&m} // that of the event and of those in it
	var wantCalled []int
	failures := 0
	inners := map[int]*model{} // of the nested events
	var prepare func(m *model, id int)
	prepare = func(_ *model, id int) {
		b := program[id]
		if b.inner == nil {
			return
		}
		in := new(model)
		inners[id], models = in, append(models, in)
		for i, child := range b.inner {
			prepare(in, child)
			in.register(child, b.innerAfter[i])
		}
	}
	for _, id := range first {
		prepare(&m, id)
	}
	var run func(m *model)
	run = func(m *model) {
		m.shutdown(func(id int) {
			b := program[id]
			if in := inners[id]; in != nil {
				run(in)
				return
			}
			wantCalled = append(wantCalled, id)
			for i, child := range b.registers {
				prepare(m, child)
				m.register(child, b.after[i])
			}
			if b.unregister >= 0 {
				taken := false
				for _, of := range models {
					taken = taken || of.unregister(b.unregister)
				}
				wantTaken = append(wantTaken,
					fmt.Sprint(id, " takes out ", b.unregister, ": ", taken))
			}
			switch b.act {
			case returns, reenters, failsIgnored, signals:
			default:
				failures++
			}
		})
	}
	run(&m)

	// The package runs the program.
	hang := make(chan struct{})
	handlers := []slog.Handler{
		slog.DiscardHandler,
		slog.NewTextHandler(io.Discard, nil),
		modelHandler{panics: true},
		modelHandler{hang: hang},
	}
	logger := slog.New(handlers[random.IntN(len(handlers))])
	q := &quit.QuitEvent{Logger: logger}
	errIgnored := errors.New("ignored")
	var mu sync.Mutex // nothing is synchronized with an abandoned closer
	var called []int
	unregister := make(map[int]func() bool)
	var register func(q *quit.QuitEvent, id int, after bool)
	register = func(q *quit.QuitEvent, id int, after bool) {
		b := program[id]
		if b.inner != nil {
			in := &quit.QuitEvent{Logger: logger}
			for i, child := range b.inner {
				register(in, child, b.innerAfter[i])
			}
			var opts []quit.Option
			if after {
				opts = append(opts, quit.AfterDrain())
			}
			unregister[id] = q.RegisterQuitCloser(in, opts...)
			return
		}
		closer := func(ctx context.Context) error {
			mu.Lock()
			called = append(called, id)
			for i, child := range b.registers {
				register(q, child, b.after[i])
			}
			if b.unregister >= 0 {
				u := unregister[b.unregister]
				took := u != nil && u()
				gotTaken = append(gotTaken, fmt.Sprint(id, " takes out ", b.unregister, ": ", took))
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
			case failsIgnored:
				return fmt.Errorf("wrapped: %w", errIgnored)
			case failsPartly:
				return errors.Join(errIgnored, errors.New("failed too"))
			case failsEvent:
				q.Fail(errors.New("failed by itself"))
			case signals:
				q.Fail(&quit.SignalError{Signal: os.Interrupt})
			}
			return nil
		}
		// A closer that hangs has little time of its own. If several used up
		// their shares, only the reserve would be left, and the order would not
		// be total.
		opts := []quit.Option{quit.Timeout(time.Millisecond), quit.Ignore(errIgnored)}
		if after {
			opts = append(opts, quit.AfterDrain())
		}
		unregister[id] = q.RegisterQuitCloser(quit.ShutdownFunc(closer), opts...)
	}
	q.Timeout = time.Duration(random.IntN(100)+1) * time.Second
	for i, id := range first {
		register(q, id, phases[i])
	}
	ended := make([]bool, goroutines)
	for i := range ended {
		q.AddGoroutine()
		go func() {
			<-q.Done()
			time.Sleep(time.Millisecond)
			ended[i] = true // a race, unless the drain waits
			q.DoneGoroutine()
		}()
	}
	err := q.Shutdown(context.Background())
	close(hang)
	synctest.Wait()

	if slices.Contains(ended, false) {
		t.Errorf("seed %d: the shutdown left goroutines", seed)
	}
	if !slices.Equal(called, wantCalled) {
		t.Errorf("seed %d: called %v, want %v", seed, called, wantCalled)
	}
	if !slices.Equal(gotTaken, wantTaken) {
		t.Errorf("seed %d: unregister: %q, want %q", seed, gotTaken, wantTaken)
	}
	told := 0
	if err != nil {
		told = strings.Count(err.Error(), "\n") + 1
	}
	if told != failures {
		t.Errorf("seed %d: %d failures, want %d: %v", seed, told, failures, err)
	}
}

// modelHandler panics if panics is set, and otherwise blocks until hang is
// closed.
type modelHandler struct {
	panics bool
	hang   chan struct{}
}

func (modelHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h modelHandler) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h modelHandler) WithGroup(string) slog.Handler          { return h }
func (h modelHandler) Handle(context.Context, slog.Record) error {
	if h.panics {
		panic("a log handler that panics")
	}
	<-h.hang
	return nil
}
