package quit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gracefulgo/graceful/quit"
)

// tree is an error that wraps others.
type tree struct {
	err    error
	leaf   bool
	list   bool    // made by errors.Join
	inner  []*tree // the errors that it wraps
	broken bool    // its methods panic, or it cannot be compared
}

// leaves are the errors of which trees are made. The first two are ignored.
var leaves = []error{
	errors.New("ignored"),
	errors.New("ignored too"),
	errors.New("lost"),
	errors.New("lost too"),
}

// These types are errors whose methods fail.
type (
	nilTree       struct{ text string }
	listTree      []string
	panickingTree struct{ inner error }
	endlessTree   struct{ _ byte }
	multiTree     []error
)

func (e *nilTree) Error() string      { return e.text }
func (e listTree) Error() string      { return "a slice" }
func (panickingTree) Error() string   { panic("no text") }
func (panickingTree) Is(error) bool   { panic("no Is") }
func (panickingTree) As(any) bool     { panic("no As") }
func (e panickingTree) Unwrap() error { return e.inner }
func (e *endlessTree) Error() string  { return "endless" }
func (e *endlessTree) Unwrap() error  { return e }
func (e multiTree) Error() string     { return "several" }
func (e multiTree) Unwrap() []error   { return e }

func newTree(r *rand.Rand, depth int) *tree {
	kinds := 9
	if depth == 0 {
		kinds = 4
	}
	switch r.IntN(kinds) {
	case 0, 1, 2:
		return &tree{err: leaves[r.IntN(len(leaves))], leaf: true}
	case 3:
		broken := []error{(*nilTree)(nil), listTree{"x"}, &endlessTree{}}
		return &tree{err: broken[r.IntN(3)], leaf: true, broken: true}
	case 4, 5:
		in := newTree(r, depth-1)
		return &tree{err: fmt.Errorf("wrapped: %w", safeError{in.err}), inner: []*tree{in}}
	case 6:
		in := newTree(r, depth-1)
		return &tree{err: panickingTree{in.err}, inner: []*tree{in}, broken: true}
	default:
		var t tree
		var errs []error
		for range 1 + r.IntN(3) {
			in := newTree(r, depth-1)
			t.inner, errs = append(t.inner, in), append(errs, in.err)
		}
		if t.list = r.IntN(2) == 0; t.list {
			t.err = errors.Join(errs...)
		} else {
			t.err = multiTree(errs)
			t.broken = true // a slice cannot be compared
		}
		return &t
	}
}

// safeError gives fmt.Errorf a text for an error that has none.
type safeError struct{ error }

func (e safeError) Error() string { return "inner" }
func (e safeError) Unwrap() error { return e.error }

// ignored reports whether t is ignored, as the documentation of Ignore says: it
// is one of the errors, or all errors that it wraps are ignored.
func (t *tree) ignored() bool {
	if t.leaf {
		return !t.broken && (t.err == leaves[0] || t.err == leaves[1])
	}
	for _, in := range t.inner {
		if !in.ignored() {
			return false
		}
	}
	return true
}

// lost calls add for the leaves that must be in the result.
func (t *tree) lost(add func(error)) {
	switch {
	case t.ignored():
	case t.list:
		for _, in := range t.inner {
			in.lost(add)
		}
	default:
		t.all(add)
	}
}

func (t *tree) all(add func(error)) {
	if t.leaf && !t.broken {
		add(t.err)
	}
	for _, in := range t.inner {
		in.all(add)
	}
}

// FuzzIgnore makes a closer and a goroutine return random trees of errors, some
// of which are ignored. Some of the errors have methods that panic, wrap
// themselves or cannot be compared. The result must have the errors that count
// and no others.
func FuzzIgnore(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		tree := newTree(r, 4)
		opts := []quit.Option{quit.Ignore(leaves[0]), quit.Ignore(leaves[1])}
		for _, by := range []string{"closer", "goroutine"} {
			q := quietEvent()
			if by == "closer" {
				q.RegisterCloser(closerFunc(func() error { return tree.err }), opts...)
			} else {
				q.Go(func(context.Context) error { return tree.err }, opts...)
				if tree.ignored() {
					q.WaitGoroutines()
				} else {
					<-q.Done()
				}
			}
			err := q.Shutdown(context.Background())
			if (err == nil) != tree.ignored() {
				t.Fatalf("seed %d, %s: Shutdown() = %v, ignored is %v",
					seed, by, err, tree.ignored())
			}
			_ = q.Report().String()
			want := map[error]bool{}
			tree.lost(func(err error) { want[err] = true })
			for _, leaf := range leaves {
				if got := err != nil && errors.Is(err, leaf); got != want[leaf] {
					t.Errorf("seed %d, %s: the result holds %q is %v, want %v: %v",
						seed, by, leaf, got, want[leaf], err)
				}
			}
		}
	})
}
