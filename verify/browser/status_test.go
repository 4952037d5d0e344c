// Package browser tests pages in a real browser, a headless Chromium: the
// status page of quithttp, and that of the example of WebSockets.
package browser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// row is the drawing of the step of that name, in the state of that class.
func row(name, class string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(".timeline g.%s")].some(g => g.querySelector(".name").textContent === %q)`, class, name)
}

// newEvent returns one that has more time than any browser takes.
func newEvent() *quit.QuitEvent {
	return &quit.QuitEvent{Timeout: generous, Logger: slog.New(slog.DiscardHandler)}
}

// shutdown is one whose steps are held until they are let go.
type shutdown struct {
	q       *quit.QuitEvent
	url     string
	running map[string]chan struct{} // closed when the step has begun
	let     map[string]chan error
}

// newShutdown has a plan of these steps, in this order, and one that will be
// abandoned.
func newShutdown(t *testing.T, names ...string) *shutdown {
	s := &shutdown{q: newEvent(), running: make(map[string]chan struct{}), let: make(map[string]chan error)}
	inner := newEvent()
	for i := len(names) - 1; i >= 0; i-- {
		running, let := make(chan struct{}), make(chan error)
		s.running[names[i]], s.let[names[i]] = running, let
		s.q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error { close(running); return <-let }), quit.Name(names[i]))
	}
	inner.RegisterStopFunc(func() {}, quit.Name("inner"))
	s.q.RegisterQuitCloser(inner, quit.Name("group"), quit.AfterDrain())
	stuck := make(chan int)
	s.q.RegisterStopFunc(func() { <-stuck }, quit.Name("stuck"), quit.AfterDrain(), quit.Timeout(200*time.Millisecond))
	srv := httptest.NewServer(http.StripPrefix("/debug/quit", quithttp.Status(s.q)))
	s.url = srv.URL + "/debug/quit?x=1"
	t.Cleanup(func() {
		close(stuck)
		srv.CloseClientConnections()
		srv.Close()
	})
	return s
}

func TestLive(t *testing.T) {
	s := newShutdown(t, "first", "second")
	p := newTab(t, s.url)
	p.do(chromedp.Navigate(s.url))
	p.wait(`document.getElementById("note").textContent === "Live."`)
	p.do(chromedp.Evaluate(`window.loaded = "once"`, nil))

	for _, name := range []string{"first", "second", "drain", "stuck", "group", "inner"} {
		p.wait(row(name, "planned"))
	}
	// What is registered while the page is open is on it soon.
	s.q.RegisterStopFunc(func() {}, quit.Name("late"))
	p.wait(row("late", "planned"))
	p.do(chromedp.Click("summary", chromedp.ByQuery))
	p.wait(`document.querySelector("details").open`)

	go s.q.Shutdown(context.Background())
	p.wait(row("late", "ok"))
	p.wait(row("first", "running"))
	p.wait(row("second", "planned"))
	if title := eval[string](p, "document.title"); title != "Shutting down · quit" {
		t.Errorf("title = %q", title)
	}

	// Nothing changes but the clock: what grows, grows by itself, and a frame
	// comes only with a new axis.
	const bar, axis = `parseFloat(document.querySelector(".running rect.bar").getAttribute("width"))`, `document.querySelector(".timeline").dataset.span`
	p.do(chromedp.Evaluate(`window.axes = [`+axis+`]; new MutationObserver(() => axes.push(`+axis+`)).observe(document.getElementById("report"), {childList: true})`, nil))
	before, seen := eval[float64](p, bar), eval[string](p, `document.querySelector(".running .took").textContent`)
	for grown := false; !grown; time.Sleep(50 * time.Millisecond) {
		after := eval[float64](p, bar)
		grown = after > before
		before = after
	}
	p.wait(fmt.Sprintf(`document.querySelector(".running .took").textContent !== %q`, seen))
	p.wait("axes.length > 2")
	if got := eval[[]string](p, "axes"); len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("while one step was running, frames came with the axes %q, want each to differ from the one before", got)
	}

	s.let["first"] <- nil
	p.wait(row("first", "ok"))
	p.wait(row("second", "running"))
	s.let["second"] <- errors.New("the second <b>failed</b>")
	p.wait(row("second", "failed"))
	p.wait(row("stuck", "abandoned"))
	p.wait(`document.querySelector("h1").textContent.includes("Stopped with 2 failures")`)
	p.wait(`document.getElementById("note").textContent.startsWith("The shutdown has ended")`)
	text := eval[string](p, "document.body.innerText")
	for _, want := range []string{"the second <b>failed</b>", "abandoned after", "status_test.go"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if !eval[bool](p, `document.querySelector("details").open`) {
		t.Error("the list of the steps was closed by an update")
	}
	if got := eval[string](p, "window.loaded"); got != "once" {
		t.Error("the page was loaded again")
	}

	time.Sleep(2500 * time.Millisecond) // longer than a browser waits before it tries again
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.requests) - count(p.requests, "data:,"); n != 2 {
		t.Errorf("requests = %q, want the page and its stream", p.requests)
	}
}

func count(list []string, s string) (n int) {
	for _, e := range list {
		if e == s {
			n++
		}
	}
	return n
}

// The server of the page is the last that is closed, so the page sees all that
// comes before it, is told that no more will come, and does not try again.
func TestOwnServer(t *testing.T) {
	q := newEvent()
	srv := &http.Server{Handler: quithttp.Status(q)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	last := newEvent()
	quithttp.Serve(last, srv, ln)
	q.RegisterQuitCloser(last, quit.AfterDrain(), quit.Name("admin"))
	addr := ln.Addr()
	q.RegisterStopFunc(func() {}, quit.Name("worker"))
	p := newTab(t, "http://"+addr.String())
	p.do(chromedp.Navigate("http://" + addr.String()))
	p.wait(`document.getElementById("note").textContent === "Live."`)
	p.wait(row("worker", "planned"))
	if err := q.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v, want nil", err)
	}
	p.wait(row("worker", "ok"))
	p.wait(row("admin", "running"))
	p.wait(`document.getElementById("note").textContent.includes("shutting down")`)
	time.Sleep(2500 * time.Millisecond) // it would try again, and the browser complain
}

func TestWithoutScript(t *testing.T) {
	s := newShutdown(t, "first")
	p := newTab(t, s.url)
	p.do(emulation.SetScriptExecutionDisabled(true))
	read := func() (text string) {
		p.do(chromedp.Navigate(s.url), chromedp.Text("body", &text, chromedp.ByQuery))
		return text
	}
	contains := func(text string, wants ...string) {
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("the page does not say %q, but\n%s", want, text)
			}
		}
	}
	contains(read(), "Not fired", "a shutdown would have 5m00s", "first", "planned", "A snapshot.")
	go s.q.Shutdown(context.Background())
	<-s.running["first"]
	contains(read(), "Shutting down", "of 5m00s", "first", "running")
	s.let["first"] <- nil
	s.q.Shutdown(t.Context())
	contains(read(), "Stopped with 1 failure", "ABANDONED", "abandoned after")
}

const markup = `</title></svg></pre><script>hacked=1</script><img src=x onerror=hacked=1>"'<a href=javascript:hacked=1>`

func TestMarkup(t *testing.T) {
	s := newShutdown(t, markup)
	p := newTab(t, s.url)
	p.do(chromedp.Navigate(s.url))
	p.wait(`document.getElementById("note").textContent === "Live."`)
	go s.q.Shutdown(context.Background())
	p.wait(`document.querySelector(".timeline g.running") !== null`)
	s.let[markup] <- &quit.PanicError{Value: markup, Stack: []byte(markup)}
	p.wait(`document.getElementById("note").textContent.startsWith("The shutdown has ended")`)
	for range 2 { // after the updates, and as a page
		if eval[bool](p, `window.hacked === 1 || document.querySelector("main script, img, a") !== null`) {
			t.Error("markup in a name has become a part of the page")
		}
		if got := eval[string](p, `document.querySelector("g.failed title").textContent`); !strings.Contains(got, markup) {
			t.Errorf("title of the step = %q, want all of its name", got)
		}
		p.do(chromedp.Navigate(s.url))
	}
}

// steps is a shutdown that has all that the page can show.
func steps(t *testing.T) *shutdown {
	s := newShutdown(t, "HTTP :8080", "a consumer with a name that is longer than the space that there is for it",
		strings.Repeat("W", 10_000), "缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存", "mail")
	for range 300 {
		s.q.RegisterStopFunc(func() {}, quit.Name("connection"))
	}
	go s.q.Shutdown(context.Background())
	time.Sleep(150 * time.Millisecond)
	s.let["HTTP :8080"] <- nil
	time.Sleep(100 * time.Millisecond)
	s.let["a consumer with a name that is longer than the space that there is for it"] <- fmt.Errorf("commit offset: %w",
		errors.New(strings.Repeat("broker 10.0.0.7:9092 is not reachable; ", 8)+"\nand a second line"))
	s.let[strings.Repeat("W", 10_000)] <- nil
	time.Sleep(50 * time.Millisecond)
	return s
}

func (s *shutdown) finish(p *tab) {
	s.let["缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存缓存"] <- nil
	s.let["mail"] <- &quit.PanicError{Value: "assignment to entry in nil map", Stack: []byte("goroutine 1 [running]:\nmain.(*mailer).Close(0xc000012345)\n\t/src/app/mail.go:17 +0x1d")}
	p.wait(`document.getElementById("note").textContent.startsWith("The shutdown has ended")`)
}

func TestNarrow(t *testing.T) {
	s := steps(t)
	p := newTab(t, s.url)
	p.do(chromedp.Navigate(s.url))
	check := func() {
		p.do(chromedp.Evaluate(`document.querySelector("details").open = true`, nil))
		for _, width := range []int64{360, 1000} {
			p.do(size(width))
			if got := eval[int64](p, "document.documentElement.scrollWidth"); got > width {
				t.Errorf("the page is %d px wide, want at most %d", got, width)
			}
			// No text is drawn over another: what does not fit is cut off.
			overlap := eval[string](p, `(() => {
				for (const g of document.querySelectorAll(".timeline g")) {
					const label = g.querySelector(".label"), cut = getComputedStyle(label).overflow === "hidden";
					const edge = document.querySelector(".timeline").getBoundingClientRect().left + label.width.baseVal.value;
					const end = label.querySelector("text").getBoundingClientRect().right;
					const left = cut ? Math.min(edge, end) : end, right = g.querySelector(".word").getBoundingClientRect().left;
					if (left > right) return g.querySelector(".name").textContent + " ends at " + left + ", " + g.querySelector(".word").textContent + " begins at " + right;
				}
				return "";
			})()`)
			if overlap != "" {
				t.Errorf("at %d px, texts overlap: %s", width, overlap)
			}
		}
	}
	check()
	s.finish(p)
	check()
}

// Text is read easily in both schemes: the contrast is that of WCAG AA.
func TestSchemes(t *testing.T) {
	s := steps(t)
	p := newTab(t, s.url)
	p.do(chromedp.Navigate(s.url))
	s.finish(p)
	pages := make(map[string]bool)
	for _, name := range []string{"light", "dark"} {
		p.do(scheme(name))
		pages[eval[string](p, "getComputedStyle(document.body).backgroundColor")] = true
		texts := eval[[]struct{ Text, Color, Behind string }](p, `[...document.querySelectorAll("body *")]
			.filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && !e.closest("title, script, style"))
			.map(e => {
				let b = e;
				while (getComputedStyle(b).backgroundColor === "rgba(0, 0, 0, 0)") b = b.parentElement;
				const s = getComputedStyle(e);
				return {Text: e.textContent.slice(0, 40), Color: e.closest("svg") ? s.fill : s.color, Behind: getComputedStyle(b).backgroundColor};
			})`)
		if len(texts) < 30 {
			t.Fatalf("%d texts, want more", len(texts))
		}
		for _, e := range texts {
			if c := contrast(luminance(t, e.Color), luminance(t, e.Behind)); c < 4.5 {
				t.Errorf("%s: contrast of %q = %.1f, want at least 4.5", name, e.Text, c)
			}
		}
		for _, class := range []string{"ok", "failed"} {
			fill := eval[string](p, `getComputedStyle(document.querySelector("g.`+class+` rect.bar")).fill`)
			if class == "failed" && !strings.Contains(fill, "#hatch") {
				t.Errorf("%s: the bar of what failed is filled with %s, want a pattern", name, fill)
			}
		}
	}
	if len(pages) != 2 {
		t.Errorf("backgrounds = %v, want two", pages)
	}
}

func luminance(t *testing.T, color string) float64 {
	var rgb [3]float64
	if _, err := fmt.Sscanf(color, "rgb(%f, %f, %f)", &rgb[0], &rgb[1], &rgb[2]); err != nil {
		t.Fatalf("color %q: %v", color, err)
	}
	for i, v := range rgb {
		if v /= 255; v <= 0.04045 {
			rgb[i] = v / 12.92
		} else {
			rgb[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	return 0.2126*rgb[0] + 0.7152*rgb[1] + 0.0722*rgb[2]
}

func contrast(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }

// TestScreenshots writes pictures to look at to the directory $SCREENSHOTS.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		t.Skip("SCREENSHOTS is not set to a directory")
	}
	shoot := func(p *tab, name string) {
		for _, as := range []string{"light", "dark"} {
			for _, width := range []int64{400, 800, 1280} {
				var png []byte
				p.do(scheme(as), size(width), chromedp.FullScreenshot(&png, 100))
				file := filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", name, as, width))
				if err := os.WriteFile(file, png, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	s := newShutdown(t, "HTTP :8080", "consumer", "mail")
	p := newTab(t, s.url)
	p.do(chromedp.Navigate(s.url))
	shoot(p, "plan")
	s = steps(t)
	p = newTab(t, s.url)
	p.do(chromedp.Navigate(s.url))
	p.wait(`document.getElementById("note").textContent === "Live."`)
	shoot(p, "running")
	s.finish(p)
	shoot(p, "stopped")
	p.do(chromedp.Evaluate(`document.querySelector("details").open = true`, nil))
	shoot(p, "full")
}
