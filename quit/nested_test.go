package quit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func TestComposition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, child := quietEvent(), quietEvent()
		var j journal
		failure := errors.New("of the pool")
		child.RegisterCloser(closerFunc(func() error { j.add("child's closer"); return failure }), quit.Name("pool"))
		child.RegisterStopFunc(func() { j.add("child's after drain") }, quit.AfterDrain())
		child.AddGoroutine()
		go func() {
			defer child.DoneGoroutine()
			<-child.Done()
			if !parent.HasFired() {
				t.Error("the child fired before the parent")
			}
			time.Sleep(time.Second)
			j.add("child's goroutine")
		}()
		parent.RegisterStopFunc(func() { j.add("parent's database") })
		parent.RegisterQuitCloser(child, quit.Name("workers"))
		parent.RegisterStopFunc(func() {
			if child.HasFired() {
				t.Error("the child fired before its turn")
			}
			j.add("parent's server")
		})
		err := parent.Shutdown(context.Background())
		j.want(t, "parent's server", "child's closer", "child's goroutine", "child's after drain",
			"parent's database")
		want := "quit: workers (quit/nested_test.go:LINE): pool (quit/nested_test.go:LINE): of the pool"
		got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE")
		if got != want || !errors.Is(err, failure) {
			t.Errorf("Shutdown() = %q, want %q", got, want)
		}
		if child.Cause() != context.Canceled {
			t.Errorf("the child's Cause() = %v, want %v", child.Cause(), context.Canceled)
		}
	})
}

// TestCompositionTime has the child end within its parent's share, although what
// it closes hangs.
func TestCompositionTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, child := quietEvent(), quietEvent()
		hang := make(chan struct{})
		defer close(hang)
		start := time.Now()
		child.RegisterStopFunc(func() { <-hang }, quit.Name("hung"))
		child.AddGoroutine() // never done
		parent.RegisterQuitCloser(child)
		err := parent.Shutdown(context.Background())
		if took := time.Since(start); took >= 20*time.Second {
			t.Errorf("the child took %v, want less than its share of 20s", took)
		}
		text := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE")
		if !strings.Contains(text, "*quit.QuitEvent (") || !strings.Contains(text, ": hung (") ||
			!strings.Contains(text, "1 goroutine left") ||
			strings.Contains(text, "*quit.QuitEvent (quit/nested_test.go:LINE): abandoned") {
			t.Errorf("Shutdown() = %v", err)
		}
	})
}

// TestSharedChild has two events close one: both wait for it.
func TestSharedChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, child := quietEvent(), quietEvent(), quietEvent()
		a.RegisterQuitCloser(child)
		b.RegisterQuitCloser(child)
		child.RegisterStopFunc(func() { time.Sleep(time.Second) })
		start := time.Now()
		var wg sync.WaitGroup
		for _, q := range []*quit.QuitEvent{a, b} {
			wg.Go(func() {
				q.GracefulStop()
				if took := time.Since(start); took != time.Second {
					t.Errorf("the shutdown took %v, want the 1s of the child", took)
				}
			})
		}
		wg.Wait()
	})
}
