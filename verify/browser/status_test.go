// Package browser tests two pages in a real browser, a headless Chromium: the
// status page of quithttp, and the page of the WebSocket example.
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

// row is an expression that is true if there is a row with the name and class.
func row(name, class string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(".row.%s .name")].
		some(e => e.textContent === %q)`, class, name)
}

// newEvent returns an event that has more time than any browser needs.
func newEvent() *quit.QuitEvent {
	return &quit.QuitEvent{Timeout: generous, Logger: slog.New(slog.DiscardHandler)}
}

// shutdown is a shutdown whose steps return when the test lets them.
type shutdown struct {
	q       *quit.QuitEvent
	url     string
	running map[string]chan struct{} // closed when the step has begun
	let     map[string]chan error    // makes the step return
}

// newShutdown returns a shutdown with the named steps, in this order, and with
// a step that is abandoned.
func newShutdown(t *testing.T, names ...string) *shutdown {
	s := &shutdown{
		q:       newEvent(),
		running: make(map[string]chan struct{}),
		let:     make(map[string]chan error),
	}
	inner := newEvent()
	for i := len(names) - 1; i >= 0; i-- {
		running, let := make(chan struct{}), make(chan error)
		s.running[names[i]], s.let[names[i]] = running, let
		step := quit.ShutdownFunc(func(context.Context) error { close(running); return <-let })
		s.q.RegisterQuitCloser(step, quit.Name(names[i]))
	}
	inner.RegisterStopFunc(func() {}, quit.Name("inner"))
	s.q.RegisterQuitCloser(inner, quit.Name("group"), quit.AfterDrain())
	stuck := make(chan int)
	s.q.RegisterStopFunc(func() { <-stuck }, quit.Name(stuckName), quit.AfterDrain(),
		quit.Timeout(200*time.Millisecond))
	srv := httptest.NewServer(http.StripPrefix("/debug/quit", quithttp.Status(s.q)))
	s.url = srv.URL + "/debug/quit?x=1"
	t.Cleanup(func() {
		close(stuck)
		srv.CloseClientConnections()
		srv.Close()
	})
	return s
}

// stuckName is the name of the step that is abandoned.
const stuckName = "an outbox that never learns that its broker has gone away"

func TestLive(t *testing.T) {
	s := newShutdown(t, "first", "second")
	p := newTab(t, s.url)
	p.do(chromedp.Navigate(s.url))
	p.wait(`document.getElementById("note").textContent === "Live."`)
	p.do(chromedp.Evaluate(`window.loaded = "once"`, nil))

	for _, name := range []string{"first", "second", "drain", stuckName, "group", "inner"} {
		p.wait(row(name, "planned"))
	}
	// A closer that is registered while the page is open appears on it.
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

	// While nothing changes, the script moves the clock and the bar. The server
	// sends a frame only for a new axis.
	const bar = `parseFloat(document.querySelector(".running rect.bar").getAttribute("width"))`
	const axis = `document.querySelector(".timeline").dataset.span`
	const left = `document.querySelector(".running .why [data-until]").textContent`
	p.do(chromedp.Evaluate(`window.axes = [`+axis+`]; new MutationObserver(() => axes.push(`+axis+`)).
		observe(document.getElementById("report"), {childList: true})`, nil))
	const took = `document.querySelector(".running .took").textContent`
	before, seen := eval[float64](p, bar), eval[string](p, took)
	remains := eval[string](p, left)
	for grown := false; !grown; time.Sleep(50 * time.Millisecond) {
		after := eval[float64](p, bar)
		grown = after > before
		before = after
	}
	p.wait(fmt.Sprintf(`%s !== %q`, took, seen))
	p.wait(fmt.Sprintf(`%s !== %q`, left, remains))
	p.wait("axes.length > 2")
	if got := eval[[]string](p, "axes"); len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("while one step was running, frames had the axes %q, want no two equal in a row",
			got)
	}

	s.let["first"] <- nil
	p.wait(row("first", "ok"))
	p.wait(row("second", "running"))
	s.let["second"] <- errors.New("the second <b>failed</b>")
	p.wait(row("second", "failed"))
	p.wait(row(stuckName, "abandoned"))
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

	time.Sleep(2500 * time.Millisecond) // longer than the browser waits before it connects again
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

// TestOwnServer has a page whose server is closed last. The page shows all
// steps before that, says that its last report is out of date, and does not
// connect again.
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
	p.wait(`document.getElementById("note").textContent.startsWith("The server of this page ")`)
	p.stale("Last seen: shutting down")
	time.Sleep(2500 * time.Millisecond) // the browser would report another request
}

// stale wants the page to say that its report is out of date: the heading and
// the steps do not claim that the shutdown runs, and no clock moves.
func (p *tab) stale(heading string) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`document.querySelector("h1 .state").textContent === %q`, heading))
	if got, want := eval[string](p, "document.title"), heading+" · quit"; got != want {
		p.t.Errorf("title = %q, want %q", got, want)
	}
	words := eval[[]string](p,
		`[...document.querySelectorAll(".running .word")].map(e => e.textContent)`)
	other := func(word string) bool { return word != "was running" }
	if len(words) < 2 || slices.ContainsFunc(words, other) {
		p.t.Errorf("words of the running steps = %q, want was running, in rows and in the list",
			words)
	}
	const clocks = `[...document.querySelectorAll("[data-since], [data-until]")].
		map(e => e.textContent + e.getAttribute("width")).join()`
	before := eval[string](p, clocks)
	time.Sleep(300 * time.Millisecond)
	if got := eval[string](p, clocks); got != before {
		p.t.Errorf("clocks = %q and then %q, want no change", before, got)
	}
}

// TestLostConnection has a server that vanishes, as that of a killed process,
// and that comes back.
func TestLostConnection(t *testing.T) {
	q := newEvent()
	goOn := make(chan struct{})
	q.RegisterStopFunc(func() { <-goOn }, quit.Name("web"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + ln.Addr().String()
	srv := &http.Server{Handler: quithttp.Status(q)}
	go srv.Serve(ln)
	p := newTab(t, url)
	p.expect("ERR_")
	p.do(chromedp.Navigate(url))
	p.wait(`document.getElementById("note").textContent === "Live."`)
	ended := make(chan error)
	go func() { ended <- q.Shutdown(context.Background()) }()
	p.wait(row("web", "running"))
	srv.Close()
	p.wait(`/^The connection was lost at .*\d. The process may have ended. Trying again.$/.
		test(document.getElementById("note").textContent)`)
	p.stale("Last seen: shutting down")

	if ln, err = net.Listen("tcp", ln.Addr().String()); err != nil {
		t.Skipf("the port is taken by now: %v", err)
	}
	srv = &http.Server{Handler: quithttp.Status(q)}
	go srv.Serve(ln)
	defer srv.Close()
	p.wait(`document.querySelector("h1 .state").textContent === "Shutting down"`)
	p.wait(`document.getElementById("note").textContent === "Live."`)
	p.wait(`document.querySelector(".stale") === null`)
	close(goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	p.wait(`document.getElementById("note").textContent.startsWith("The shutdown has ended")`)
	p.wait(`document.querySelector("h1 .state").textContent === "Stopped"`)
}

// TestRequestsInFlight has the row of a server say how many requests it waits
// for, and follow their number.
func TestRequestsInFlight(t *testing.T) {
	q := newEvent()
	release := make(chan struct{})
	arrived := make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})}
	srv.Addr = "127.0.0.1:0"
	addr, err := quithttp.ListenAndServe(q, srv, quit.Name("web"))
	if err != nil {
		t.Fatal(err)
	}
	page := httptest.NewServer(quithttp.Status(q))
	defer page.Close()
	defer page.CloseClientConnections()
	for range 2 {
		go http.Get("http://" + addr.String())
		<-arrived
	}
	p := newTab(t, page.URL)
	p.do(chromedp.Navigate(page.URL))
	p.wait(`document.getElementById("note").textContent === "Live."`)
	ended := make(chan error)
	go func() { ended <- q.Shutdown(context.Background()) }()
	why := `document.querySelector(".row.running .why")?.textContent ?? ""`
	p.wait(why + `.startsWith("2 requests in flight · ")`)
	release <- struct{}{}
	p.wait(why + `.startsWith("1 request in flight · ")`)
	release <- struct{}{}
	if err := <-ended; err != nil {
		t.Error(err)
	}
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
	contains(read(), "Not shutting down", "a shutdown may take 5m00s", "first", "planned",
		"A snapshot of ")
	go s.q.Shutdown(context.Background())
	<-s.running["first"]
	contains(read(), "Shutting down", "of 5m00s", "first", "running", " left of ")
	s.let["first"] <- nil
	s.q.Shutdown(t.Context())
	contains(read(), "Stopped with 1 failure", "ABANDONED", "abandoned after")
}

const markup = `</title></svg></pre><script>hacked=1</script>` +
	`<img src=x onerror=hacked=1>"'<a href=javascript:hacked=1>`

func TestMarkup(t *testing.T) {
	s := newShutdown(t, markup)
	p := newTab(t, s.url)
	p.do(chromedp.Navigate(s.url))
	p.wait(`document.getElementById("note").textContent === "Live."`)
	go s.q.Shutdown(context.Background())
	p.wait(`document.querySelector(".row.running") !== null`)
	s.let[markup] <- &quit.PanicError{Value: markup, Stack: []byte(markup)}
	p.wait(`document.getElementById("note").textContent.startsWith("The shutdown has ended")`)
	for range 2 { // once after the updates, and once loaded anew
		const foreign = `document.querySelector("main script, img, a") !== null`
		if eval[bool](p, "window.hacked === 1 || "+foreign) {
			t.Error("markup in a name has become part of the page")
		}
		got := eval[string](p, `document.querySelector(".row.failed").title`)
		if !strings.Contains(got, markup) {
			t.Errorf("title of the step = %q, want its whole name", got)
		}
		p.do(chromedp.Navigate(s.url))
	}
}

// Names that are too long for a narrow row.
var (
	consumer = "a consumer with a name that is longer than the space that there is for it"
	widest   = strings.Repeat("W", 10_000)
	cache    = strings.Repeat("缓存", 15)
)

// steps returns a shutdown with all that the page can show.
func steps(t *testing.T) *shutdown {
	s := newShutdown(t, "HTTP :8080", consumer, widest, cache, "mail")
	for range 300 {
		s.q.RegisterStopFunc(func() {}, quit.Name("connection"))
	}
	go s.q.Shutdown(context.Background())
	time.Sleep(150 * time.Millisecond)
	s.let["HTTP :8080"] <- nil
	time.Sleep(100 * time.Millisecond)
	broker := strings.Repeat("broker 10.0.0.7:9092 is not reachable; ", 8)
	s.let[consumer] <- fmt.Errorf("commit offset: %s\nand a second line", broker)
	s.let[widest] <- nil
	time.Sleep(50 * time.Millisecond)
	return s
}

func (s *shutdown) finish(p *tab) {
	s.let[cache] <- nil
	stack := "goroutine 1 [running]:\n" +
		"main.(*mailer).Close(0xc000012345)\n\t/src/app/mail.go:17 +0x1d"
	s.let["mail"] <- &quit.PanicError{Value: "assignment to entry in nil map", Stack: []byte(stack)}
	p.wait(`document.getElementById("note").textContent.startsWith("The shutdown has ended")`)
}

// TestNoOverlap measures all texts of the timeline: none is drawn over another,
// none leaves its row, and no grid line crosses one.
func TestNoOverlap(t *testing.T) {
	s := steps(t)
	p := newTab(t, s.url)
	p.do(chromedp.Navigate(s.url))
	check := func(least int) {
		t.Helper()
		p.do(chromedp.Evaluate(`document.querySelector("details").open = true`, nil))
		for _, width := range []int64{320, 400, 767, 768, 800, 1280} {
			p.do(size(width))
			if got := eval[int64](p, "document.documentElement.scrollWidth"); got > width {
				t.Errorf("the page is %d px wide, want at most %d", got, width)
			}
			got := eval[struct {
				Texts    int
				Problems []string
			}](p, `(() => {
				let texts = 0;
				const problems = [];
				const apart = (a, b) => a.right < b.left + 0.5 || a.bottom < b.top + 0.5;
				const shown = (e, box) => ({text: e.textContent.slice(0, 40) || "the lane", box});
				const text = e => { // the visible part of a text
					const range = document.createRange();
					range.selectNodeContents(e);
					const all = range.getBoundingClientRect(), own = e.getBoundingClientRect();
					if (getComputedStyle(e).overflowX !== "hidden") return shown(e, all);
					const right = Math.min(all.right, own.right);
					return shown(e, new DOMRect(all.left, all.top, right - all.left, all.height));
				};
				const visible = e => e.box.width > 0;
				for (const r of document.querySelectorAll(".row, .axis")) {
					const row = r.getBoundingClientRect();
					const parts = [...r.querySelectorAll(".mark, .name, .times, .site, .word, .took, .why, text")].
						map(text).filter(visible);
					texts += parts.length;
					const others = r.matches(".axis") ? parts : [...parts, ...[...r.querySelectorAll("svg.lane")].
						map(e => shown(e, e.getBoundingClientRect())).filter(visible)];
					for (const [i, a] of parts.entries()) {
						if (a.box.left < row.left - 0.5 || a.box.right > row.right + 0.5 || a.box.bottom > row.bottom + 0.5) {
							problems.push(a.text + " leaves its row");
						}
						for (const b of others.slice(i + 1)) {
							if (!apart(a.box, b.box) && !apart(b.box, a.box)) problems.push(a.text + " overlaps " + b.text);
						}
					}
				}
				return {Texts: texts, Problems: problems};
			})()`)
			if got.Texts < least {
				t.Errorf("at %d px, %d texts were measured, want at least %d", width, got.Texts,
					least)
			}
			for _, problem := range got.Problems {
				t.Errorf("at %d px, %s", width, problem)
			}
		}
	}
	check(30)
	s.finish(p)
	check(40)
	if !eval[bool](p, row(stuckName, "abandoned")) {
		t.Errorf("no row of %q was abandoned", stuckName)
	}
}

// TestOneAxis wants all bars to be on the one time axis that is labelled: a
// step that has used half of the axis has a bar of half its length.
func TestOneAxis(t *testing.T) {
	s := newShutdown(t, "first")
	p := newTab(t, s.url)
	p.do(chromedp.Navigate(s.url))
	go s.q.Shutdown(context.Background())
	p.wait(row("first", "running"))
	s.let["first"] <- nil
	p.wait(`document.getElementById("note").textContent.startsWith("The shutdown has ended")`)
	got := eval[[]float64](p, `[...document.querySelectorAll("svg.lane")].flatMap(e => {
		const r = e.getBoundingClientRect();
		return [r.left, r.right];
	})`)
	if len(got) < 6 {
		t.Fatalf("%d ends of lanes, want more", len(got))
	}
	for i := range got {
		if math.Abs(got[i]-got[i%2]) > 0.5 {
			t.Errorf("lanes begin and end at %v, want the same for all", got)
			break
		}
	}
	const outside = `document.querySelectorAll("rect.bar:not(.row rect), header rect").length`
	if n := eval[int](p, outside); n != 0 {
		t.Errorf("%d bars are outside the timeline, with a scale of their own", n)
	}
}

// TestSchemes wants the contrast of WCAG AA in both colour schemes.
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
				return {
					Text: e.textContent.slice(0, 40), Color: e.closest("svg") ? s.fill : s.color,
					Behind: getComputedStyle(b).backgroundColor,
				};
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
			bar := `document.querySelector(".row.` + class + ` rect.bar")`
			fill := eval[string](p, "getComputedStyle("+bar+").fill")
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

// TestScreenshots writes pictures of the page to the directory $SCREENSHOTS.
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
