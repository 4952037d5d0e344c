package stacks_test

import (
	"context"
	"runtime/pprof"
	"testing"

	"github.com/gracefulgo/graceful/internal/stacks"
)

// TestExtend checks that inherited labels are kept beside those of this module.
func TestExtend(t *testing.T) {
	label := func(ctx context.Context, key string) string {
		v, _ := pprof.Label(ctx, key)
		return v
	}
	check := func(when string, name, owners, other string) {
		t.Helper()
		ctx := stacks.Inherited().Extend(t.Context(), "name", "1")
		n, o, x := label(ctx, "quit"), label(ctx, "quit.id"), label(ctx, "other")
		if n != name || o != owners || x != other {
			t.Errorf("%s: labels %q, %q, %q, want %q, %q, %q", when, n, o, x, name, owners, other)
		}
		if ctx.Done() != t.Context().Done() {
			t.Errorf("%s: Extend(ctx) is not of ctx", when)
		}
	}
	if of := stacks.Of(t.Context()); of != (stacks.Labels{}) {
		t.Error("Of(ctx) without labels are some")
	}
	check("no labels", "name", "1", "")
	pprof.Do(t.Context(), pprof.Labels("other", "x"), func(ctx context.Context) {
		check("another's labels", "name", "1", "x")
		parent := stacks.Inherited()
		if of := stacks.Of(ctx); of != parent {
			t.Error("Of(ctx) are not the labels that pprof.Do has set")
		}
		if again := stacks.Inherited(); again != parent {
			t.Error("the labels of a goroutine are not the same the second time")
		}
		same := make(chan bool)
		go func() { same <- stacks.Inherited() == parent }()
		if !<-same {
			t.Error("a goroutine does not inherit the labels of the one that starts it")
		}
	})
	owned := func(owner string, f func()) {
		defer pprof.SetGoroutineLabels(t.Context()) // Do sets those of ctx at its end
		ctx := stacks.Label(t.Context(), "parent", owner)
		pprof.Do(ctx, pprof.Labels("other", "y"), func(context.Context) { f() })
	}
	owned("2", func() { check("another owner", "name", "2 1", "y") })
	owned("1", func() { check("the same owner", "name", "1", "y") })
	owned("2 1", func() { check("the same owner and another", "name", "2 1", "y") })
}
