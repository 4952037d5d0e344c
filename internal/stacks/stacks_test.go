package stacks

import (
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

//go:noinline
func park(release <-chan struct{}) { <-release }

var one, two, none int

// TestAll starts goroutines with one owner, with two and with none.
func TestAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		name := "a \"name\", \"quit.id\":\"0\"\nof two lines"
		labels := Label(context.Background(), name, ID(&one))
		both := LabelAs(labels, context.Background(), ID(&two))
		both = pprof.WithLabels(both, pprof.Labels("a", "b", "z", "\n\n"))
		for _, ctx := range []context.Context{labels, both, both, context.Background()} {
			go func() {
				pprof.SetGoroutineLabels(ctx)
				park(release)
			}()
		}
		synctest.Wait()
		all := All()
		for owner, want := range map[string][]string{
			ID(&one):  {"2 goroutines of ", "1 goroutine of "},
			ID(&two):  {"2 goroutines of "},
			ID(&none): nil,
		} {
			text := all[owner]
			if n := strings.Count(text, "stacks.park\n"); n != len(want) {
				t.Errorf("%d stacks, want %d:\n%s", n, len(want), text)
			}
			for _, want := range want {
				want += `a "name", "quit.id":"0"\nof two lines:` + "\n\t"
				if !strings.Contains(text, want) {
					t.Errorf("%q does not have %q", text, want)
				}
			}
		}
		if len(all) != 2 {
			t.Errorf("All() = %v, want two owners", all)
		}
	})
}

// TestAllBounded starts 10 goroutines with the same name, and 990 others. Every
// two of those share a name.
func TestAllBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // waits for all goroutines
		release := make(chan struct{})
		for i := range 1000 {
			name := "same"
			if i >= 10 {
				name = fmt.Sprint("name ", i/2)
			}
			go func() {
				pprof.SetGoroutineLabels(Label(t.Context(), name, ID(&one)))
				<-release
			}()
		}
		synctest.Wait()
		text := All()[ID(&one)]
		n := strings.Count(text, " of ")
		if n != 50 || !strings.HasPrefix(text, "10 goroutines of same:\n") ||
			!strings.HasSuffix(text, "\n… and 892 more, with other stacks or names\n") {
			t.Errorf("%d stacks:\n%.400s\n…\n%s", n, text, text[max(len(text)-400, 0):])
		}
		close(release)
	})
}

// TestOwnedBy checks the result and that OwnedBy does not allocate.
func TestOwnedBy(t *testing.T) {
	ctx := LabelAs(Label(context.Background(), "name", "12"), context.Background(), "34")
	for owner, want := range map[string]bool{
		"12": true, "34": true, "1": false, "2 3": false, "": false,
	} {
		if got := OwnedBy(ctx, owner); got != want {
			t.Errorf("OwnedBy(%q) = %v", owner, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { OwnedBy(ctx, "34") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// record returns a record of the profile.
func record(count int, frames ...string) string {
	text := fmt.Sprintf("%d @ 0x1 0x2\n# labels: {\"quit\":\"api\", \"quit.id\":\"1\"}\n", count)
	for i, f := range frames {
		text += fmt.Sprintf("#\t0x47e03d\t%s+0x1d\t\t/src/%d.go:%d\n", f, i, i)
	}
	return text
}

func TestDraw(t *testing.T) {
	quit, known := module+"quit.", make(map[string]string)
	for name, c := range map[string]struct {
		frames []string
		want   int // drawn frames; 0: "" is drawn
	}{
		"closer": {frames: []string{
			"main.close",
			"main.Close",
			quit + "(*step).call",
			quit + "caught",
		}, want: 2},
		"ours only": {frames: []string{
			quit + "(*QuitEvent).Shutdown",
			quit + "(*step).call",
		}, want: 2},
		"ours between": {frames: []string{
			quit + "(*QuitEvent).Shutdown",
			"main.Close",
			quit + "(*step).call",
		}, want: 2},
		"of like names": {frames: []string{
			"main.close",
			module + "quit_test.f",
			module + "quit/quithttp_test.f",
			module + "quitting.f",
		}, want: 4},
		"HTTP/1": {frames: []string{
			"main.handler",
			"net/http.HandlerFunc.ServeHTTP",
			"net/http.(*ServeMux).ServeHTTP",
			"net/http.serverHandler.ServeHTTP",
			"net/http.(*conn).serve",
		}, want: 1},
		"HTTP/2": {frames: []string{
			"main.handler",
			module + "quit/quithttp.Track.func1",
			"net/http.HandlerFunc.ServeHTTP",
			"net/http.initALPNRequest.ServeHTTP",
			"net/http.(*http2serverConn).runHandler",
		}, want: 1},
		"HTTP/2, moved": {frames: []string{
			"main.handler",
			"net/http.serverHandler.ServeHTTP",
			"net/http/internal/http2.(*serverConn).runHandler",
		}, want: 1},
		"own ServeHTTP": {frames: []string{
			"main.(*app).ServeHTTP",
			"net/http/httputil.(*ReverseProxy).ServeHTTP",
			"net/http.serverHandler.ServeHTTP",
			"net/http.(*conn).serve",
		}, want: 2},
		"idle": {frames: []string{
			"net/http.(*conn).readRequest",
			"net/http.(*conn).serve",
		}, want: 1},
		"background": {frames: []string{
			"net.(*conn).Read",
			"net/http.(*connReader).backgroundRead",
		}, want: 0},
		"frames": {frames: []string{
			"main.read",
			"net/http.(*http2serverConn).readFrames",
		}, want: 0},
		"connection": {frames: []string{
			"net/http.(*http2serverConn).serve",
			"net/http.(*conn).serve",
		}, want: 0},
		"transport":    {frames: []string{"net/http.(*persistConn).readLoop"}, want: 0},
		"own readLoop": {frames: []string{"main.(*conn).readLoop"}, want: 1},
		"deep":         {frames: make([]string, 40), want: 24},
	} {
		for i := range c.frames {
			if c.frames[i] == "" {
				c.frames[i] = "main.f"
			}
		}
		got := draw(record(2, c.frames...), known)
		want := ""
		if c.want > 0 {
			want = "2 goroutines of api:\n"
			for i, f := range c.frames[:c.want] {
				want += fmt.Sprintf("\t%s\n\t\t/src/%d.go:%d\n", f, i, i)
			}
			if name == "deep" {
				want += "\t… 16 more frames\n"
			}
		}
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

// TestDrawAll checks that stacks that are not drawn are not counted, and that
// one too many is.
func TestDrawAll(t *testing.T) {
	const first = "goroutine profile: total 61\n"
	profile := first
	for i := range 60 {
		profile += record(2, fmt.Sprint("net/http.f", i), "net/http.(*persistConn).readLoop") + "\n"
	}
	profile += record(1, "main.handler")
	want := "1 goroutine of api:\n\tmain.handler\n\t\t/src/0.go:0\n"
	if got := drawAll(profile); len(got) != 1 || got["1"] != want {
		t.Errorf("drawAll() = %q, want %q", got, want)
	}
	profile = first
	for i := range 51 {
		profile += record(1, fmt.Sprint("main.f", i)) + "\n"
	}
	want = "/src/0.go:0\n… and 1 more, with other stacks or names\n"
	if got := drawAll(profile)["1"]; !strings.HasSuffix(got, want) {
		t.Errorf("drawAll() = %q, want %q at its end", got, want)
	}
}

// TestDrawFrames draws stacks of up to 24 frames, all of which are drawn, and
// longer ones.
func TestDrawFrames(t *testing.T) {
	record := func(frames int) string {
		var b strings.Builder
		for i := range frames {
			fmt.Fprintf(&b, "#\t0x1\tmain.f%d+0x1f\t/main.go:%d\n", i, i)
		}
		return b.String() + "#\t0x2\t" + module + "quit.caller+0x1\t/quit.go:1\n"
	}
	for _, test := range []struct {
		frames, drawn int
		more          string
	}{
		{frames: 0, drawn: 1}, // a frame of this module, since there is no other
		{frames: 1, drawn: 1},
		{frames: 24, drawn: 24},
		{frames: 25, drawn: 24, more: "\t… 1 more frame"},
		{frames: 100, drawn: 24, more: "\t… 76 more frames"},
	} {
		got := drawFrames(record(test.frames))
		frames, more := got, ""
		if i := strings.Index(got, "\t…"); i >= 0 {
			frames, more = got[:i], got[i:]
		}
		n := strings.Count(frames, "\n\t\t/")
		if n != test.drawn || !strings.HasPrefix(more, test.more) ||
			(more != "") != (test.more != "") {
			t.Errorf("of %d frames, %d are drawn, and %q, want %d and %q",
				test.frames, n, more, test.drawn, test.more)
		}
	}
}

// TestAllKeepsNothing checks that a look is dropped once the last call to All
// has used it.
func TestAllKeepsNothing(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { All() })
	}
	wg.Wait()
	if looks.all != nil || looks.number != 0 || looks.waiting.Load() != 0 {
		t.Errorf("kept: %v, number %d, %d calls waiting, want none",
			looks.all, looks.number, looks.waiting.Load())
	}
}

func TestLabelIn(t *testing.T) {
	const labels = "1 @ 0x1\n" +
		"# labels: {\"a\":\"x\", \"quit\":\"q \\\"1\\\"\", \"broken\":\"y}\n" +
		"#\t0x1\tf+0x1\t/a \"b\":\"c\"/f.go:1\n"
	for _, test := range []struct{ record, key, want string }{
		{record: labels, key: "a", want: "x"},
		{record: labels, key: "quit", want: `q "1"`},
		{record: labels, key: "x"},
		{record: labels, key: "broken"},
		{record: labels, key: "b"},
		{record: "1 @ 0x1\n#\t0x1\tf+0x1\tf.go:1\n", key: "a"},
	} {
		if got := labelIn(test.record, test.key); got != test.want {
			t.Errorf("labelIn(%q) = %q, want %q", test.key, got, test.want)
		}
	}
}
