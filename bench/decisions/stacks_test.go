package decisions

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"

	"github.com/gracefulgo/graceful/internal/goid"
	"github.com/gracefulgo/graceful/internal/stacks"
)

// BenchmarkCaller finds the step whose closer calls: by the number of its
// goroutine, by its labels, and by the context that it passes.
func BenchmarkCaller(b *testing.B) {
	type key struct{}
	ctx := context.WithValue(context.Background(), key{}, 1)
	ways := []struct {
		name string
		find func()
	}{
		{"number", func() { goid.ID() }},
		{"labels", func() { stacks.Inherited() }},
		{"context", func() { ctx.Value(key{}) }},
	}
	for _, depth := range []int{10, 100, 1000} {
		for _, w := range ways {
			b.Run(fmt.Sprintf("way=%s/depth=%d", w.name, depth), func(b *testing.B) {
				deep(depth, func() {
					for b.Loop() {
						w.find()
					}
				})
			})
		}
	}
}

// deep calls f on a stack that is deeper by n frames.
//
//go:noinline
func deep(n int, f func()) {
	if n == 0 {
		f()
		return
	}
	deep(n-1, f)
}

// looks are the ways to get the stacks of the goroutines that hold up a step.
var looks = []struct {
	name string
	take func(w io.Writer) error
}{
	{"All", func(w io.Writer) error { // the text, and the search for the labels in it
		for _, text := range stacks.All() {
			if _, err := io.WriteString(w, text); err != nil {
				return err
			}
		}
		return nil
	}},
	{"text", func(w io.Writer) error { return pprof.Lookup("goroutine").WriteTo(w, 1) }},
	{"proto", func(w io.Writer) error { return pprof.Lookup("goroutine").WriteTo(w, 0) }},
	{"stack", func(w io.Writer) error {
		buf := make([]byte, 1<<20)
		for {
			if n := runtime.Stack(buf, true); n < len(buf) {
				_, err := w.Write(buf[:n])
				return err
			}
			buf = make([]byte, 2*len(buf))
		}
	}},
}

// BenchmarkStacks takes the stacks of n parked goroutines that are alike.
func BenchmarkStacks(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		for _, l := range looks {
			b.Run(fmt.Sprintf("way=%s/goroutines=%d", l.name, n), func(b *testing.B) {
				release := park(n)
				defer release()
				var out bytes.Buffer
				for b.Loop() {
					out.Reset()
					if err := l.take(&out); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(out.Len()), "bytes")
			})
		}
	}
}

// park starts n labelled goroutines that wait until release is called.
func park(n int) (release func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	started := make(chan struct{}, n)
	pprof.Do(stacks.Label(context.Background(), "parked", "owner"), pprof.Labels(),
		func(context.Context) {
			for range n {
				wg.Go(func() {
					started <- struct{}{}
					<-end
				})
			}
		})
	for range n {
		<-started
	}
	return func() {
		close(end)
		wg.Wait()
	}
}

// TestLooks says which of the ways tells whose a goroutine is, in text.
func TestLooks(t *testing.T) {
	defer park(3)()
	for _, l := range looks {
		var out bytes.Buffer
		if err := l.take(&out); err != nil {
			t.Fatal(err)
		}
		named := strings.Contains(out.String(), "parked")
		if want := l.name == "All" || l.name == "text"; named != want {
			t.Errorf("%s: the name is in the text: %v, want %v", l.name, named, want)
		}
		if out.Len() == 0 {
			t.Errorf("%s: no stacks", l.name)
		}
	}
}
