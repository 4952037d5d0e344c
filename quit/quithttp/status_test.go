package quithttp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

const asBrowser = "text/html,application/xhtml+xml,application/xml;q=0.9," +
	"image/avif,image/webp,*/*;q=0.8"

// ask returns the answer of h to a request, without a server.
func ask(h http.Handler, method string, accept ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", nil)
	r.Header["Accept"] = accept
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func page(h http.Handler) string { return ask(h, "GET", asBrowser).Body.String() }

func TestStatusKinds(t *testing.T) {
	q := quietEvent()
	q.RegisterStopFunc(func() {}, quit.Name("one"))
	h := quithttp.Status(q)
	for _, test := range []struct {
		accept []string
		want   string
	}{
		{nil, "text/plain; charset=utf-8"},
		{[]string{"*/*"}, "text/plain; charset=utf-8"},
		{[]string{"text/plain"}, "text/plain; charset=utf-8"},
		{[]string{"image/png, nonsense/;;, "}, "text/plain; charset=utf-8"},
		{[]string{asBrowser}, "text/html; charset=utf-8"},
		{[]string{"application/json"}, "application/json"},
		{[]string{"Application/JSON"}, "application/json"},
		{[]string{"application/json;q"}, "text/plain; charset=utf-8"}, // not a parameter
		{[]string{"text/html;q=0.5, application/json"}, "application/json"},
		{[]string{"text/html;q=0.5", "application/json;q=0.6"}, "application/json"},
		{[]string{"application/json;q=0"}, "text/plain; charset=utf-8"},
		{[]string{"text/event-stream"}, "text/event-stream"},
	} {
		w := ask(h, "GET", test.accept...)
		got := w.Result().Header.Get("Content-Type")
		if w.Code != http.StatusOK || got != test.want {
			t.Errorf("Accept %q: %d %q, want 200 %q", test.accept, w.Code, got, test.want)
		}
		if !strings.Contains(w.Body.String(), "one") {
			t.Errorf("Accept %q: the step is missing in\n%s", test.accept, w.Body)
		}
	}

	got, want := ask(h, "GET").Body.String(), "quit: not shutting down"
	if !strings.HasPrefix(got, want) {
		t.Errorf("as text:\n%swant %s and so on", got, want)
	}
	// The script waits 4 s for another stream before it tells the loss of one.
	got, want = ask(h, "GET", "text/event-stream").Body.String(), "retry: 2000\nevent: report\n"
	if !strings.HasPrefix(got, want) {
		t.Errorf("as a stream:\n%swant %s and so on", got, want)
	}
	var report struct {
		Steps []struct{ Name, Phase string }
	}
	err := json.Unmarshal(ask(h, "GET", "application/json").Body.Bytes(), &report)
	if err != nil || report.Steps[0].Name != "one" {
		t.Errorf("as JSON: %+v, %v", report, err)
	}
}

func TestStatusMethods(t *testing.T) {
	h := quithttp.Status(quietEvent())
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} {
		w := ask(h, method, asBrowser)
		allow := w.Result().Header.Get("Allow")
		if w.Code != http.StatusMethodNotAllowed || allow != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q, want 405 and GET, HEAD", method, w.Code, allow)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		answered := make(chan int, 1)
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			quithttp.Status(q).ServeHTTP(w, r)
			answered <- 1
		})
		ln := serveStatus(t, &http.Server{Handler: h})
		client := ln.client(new(http.Transport))
		for _, accept := range []string{"", asBrowser, "application/json", "text/event-stream"} {
			r, _ := http.NewRequestWithContext(t.Context(), "HEAD", "http://x", nil)
			r.Header.Set("Accept", accept)
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			synctest.Wait()
			select {
			case <-answered:
			default:
				t.Fatalf("HEAD with Accept %q is a stream", accept)
			}
			if res.StatusCode != http.StatusOK || len(body) > 0 || err != nil {
				t.Errorf("HEAD with Accept %q: %d, %q, %v, want 200 and nothing", accept,
					res.StatusCode, body, err)
			}
			get := ask(quithttp.Status(q), "GET", accept)
			const kind = "Content-Type"
			if got, want := res.Header.Get(kind), get.Header().Get(kind); got != want {
				t.Errorf("HEAD with Accept %q: Content-Type %q, want %q", accept, got, want)
			}
			if accept == "" && res.ContentLength != int64(get.Body.Len()) {
				t.Errorf("HEAD: Content-Length %d, want %d", res.ContentLength, get.Body.Len())
			}
		}
	})
}

func TestStatusHeaders(t *testing.T) {
	h := quithttp.Status(quietEvent())
	for _, accept := range []string{"", asBrowser, "application/json", "text/event-stream"} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			got := ask(h, method, accept).Result().Header
			for name, want := range map[string]string{
				"Vary":                   "Accept",
				"Cache-Control":          "no-store",
				"X-Content-Type-Options": "nosniff",
				"Referrer-Policy":        "no-referrer",
			} {
				if got.Get(name) != want {
					t.Errorf("%s with Accept %q: %s = %q, want %q", method, accept, name,
						got.Get(name), want)
				}
			}
		}
	}

	w := ask(h, "GET", asBrowser)
	hashOf := func(element string) string {
		pattern := regexp.MustCompile(`(?s)<` + element + `>(.*?)</` + element + `>`)
		all := pattern.FindAllStringSubmatch(w.Body.String(), -1)
		if len(all) != 1 {
			t.Fatalf("%d elements %s, want 1", len(all), element)
		}
		sum := sha256.Sum256([]byte(all[0][1]))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	want := []string{"default-src 'none'", "style-src " + hashOf("style"),
		"script-src " + hashOf("script"), "connect-src 'self'",
		"img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"}
	got := strings.Split(w.Header().Get("Content-Security-Policy"), "; ")
	if !slices.Equal(got, want) {
		t.Errorf("policy = %q, want %q", got, want)
	}
}

// TestStatusStates checks that the page shows the plan, the progress and the
// result.
func TestStatusStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Timeout = 4 * time.Second
		h := quithttp.Status(q)
		inner := quietEvent()
		inner.RegisterStopFunc(func() {}, quit.Name("innermost"))
		running, goOn, stuck := make(chan int), make(chan int), make(chan int)
		defer close(stuck)
		q.RegisterStopFunc(func() { <-stuck }, quit.Name("stuck"),
			quit.Timeout(50*time.Millisecond))
		q.RegisterQuitCloser(inner, quit.Name("group"))
		breaks := quit.ShutdownFunc(func(context.Context) error { panic("broken\npipe") })
		q.RegisterQuitCloser(breaks, quit.Name("mail"))
		q.RegisterStopFunc(func() { close(running); <-goOn }, quit.Name("web"),
			quit.Timeout(time.Second))
		q.RegisterStopFunc(func() { time.Sleep(100 * time.Millisecond) }, quit.Name("first"))
		contains := func(state string, wants ...string) {
			t.Helper()
			got := page(h)
			for _, want := range wants {
				if !strings.Contains(got, want) {
					t.Errorf("%s: the page does not have %q:\n%s", state, want, got)
				}
			}
		}
		contains("before", "Not shutting down", "a shutdown may take 4s",
			"d1\"><span class=\"mark\">·</span>\n<span class=\"name\">innermost<",
			">planned<", "quithttp/status_test.go:")
		q.Fire()
		contains("fired", ">Shutdown requested</span>",
			`<span data-since="0">0.0s</span> ago, not begun`)
		go q.Shutdown(context.Background())
		<-running
		time.Sleep(200 * time.Millisecond)
		contains("during", ">Shutting down</span>", `<span data-since="0">0.3s</span> of 4s`,
			`<div class="row running" title="web (`, `data-since="100">0.2s<`,
			`<div class="row planned" title="mail (`,
			"begun at 100ms", `data-until="1100">0.8s</span> left of 1s<`,
			`<rect class="bar" x="20.00%" y="50%" width="40.00%"`)
		close(goOn)
		q.Shutdown(t.Context())
		contains("after", "Stopped with 2 failures",
			`<h1 class="failed"><span class="mark">✗</span>`,
			`<div class="row ok" title="web (`, "): ok, 200ms",
			`<div class="row failed" title="mail (`, ">FAILED<",
			`<div class="row abandoned" title="stuck (`, ">ABANDONED<",
			"<pre>panic: broken\npipe</pre>", "runtime/debug.Stack", "1 goroutine of stuck")
		if got := fragment(h); strings.Contains(got, "data-since") {
			t.Errorf("something still grows:\n%s", got)
		}
	})
}

// failing returns a closer that fails.
func failing(text string) quit.QuitCloser {
	return quit.ShutdownFunc(func(context.Context) error { return errors.New(text) })
}

// TestStatusFailures checks that each failure is shown once, even if it is
// outside the steps or in a nested event.
func TestStatusFailures(t *testing.T) {
	q, inner := quietEvent(), quietEvent()
	q.RegisterQuitCloser(inner, quit.Name("outer"))
	inner.RegisterQuitCloser(failing("of the step"), quit.Name("new\nline"))
	inner.Fail(errors.New("of the inner event"))
	q.Fail(errors.New("of the event\nin full"))
	q.Shutdown(t.Context())
	got := page(quithttp.Status(q))
	_, got, _ = strings.Cut(got, "<h2>Failures</h2>")
	for _, want := range []string{"of the step", "of the inner event", "of the event"} {
		if n := strings.Count(got, want); n != 1 {
			t.Errorf("%q is told %d times, want once:\n%s", want, n, got)
		}
	}
	if !strings.Contains(got, "</span>of the event</h3><pre>in full</pre>") {
		t.Errorf("the failure of the event has no title:\n%s", got)
	}
	if strings.Contains(got, "<h2>") {
		t.Errorf("there is more than one section:\n%s", got)
	}
}

// TestStatusHostileTexts uses names and errors with markup and control
// characters.
func TestStatusHostileTexts(t *testing.T) {
	// The escaped texts are written by hand, so that the test does not repeat
	// the code.
	shown := map[string]string{
		"line\nfeed\r\ndata: x\n\nevent: end\rback": `line\nfeed\r\ndata: x\n\nevent: end\rback`,
		"bell\a null\x00 escape\x1b[31m delete\x7f": `bell\a null\x00 escape\x1b[31m delete\x7f`,
		"c1 \u0085 \u009b31m":                       `c1 \u0085 \u009b31m`,
		"\u202etxet detrevni\u2066\u200f\u061c":     `\u202etxet detrevni\u2066\u200f\u061c`,
		"\u2028\u2029\ufeff\u200b\U000e0041":        `\u2028\u2029\ufeff\u200b\U000e0041`,
		"not utf-8 \xff\xc0\xaf":                    `not utf-8 \xff\xc0\xaf`,
	}
	for _, text := range []string{
		`</title></svg></pre></style><script>alert(1)</script><img src=x onerror=alert(1)>`,
		`"'><a href="javascript:alert(1)">&amp;&lt;`, "{{.Cause}}${x}`\\", "]]>--><!--",
		"\uFFFD", "שלום 世界 \u0301\u0301", strings.Repeat("ten kilobytes ", 740),
	} {
		shown[text] = text
	}
	q := quietEvent()
	for text := range shown {
		q.RegisterQuitCloser(failing(text), quit.Name(text))
	}
	h := quithttp.Status(q)
	check := func() {
		t.Helper()
		html := page(h)
		report := fragment(h)
		names := textsOf(t, report, "title")
		for _, want := range shown {
			isName := func(name string) bool { return strings.HasPrefix(name, want+" (") }
			if !slices.ContainsFunc(names, isName) {
				t.Errorf("no title is %.100q", want)
			}
		}
		for _, name := range append(shortNames(report), textsOf(t, report, "dd")...) {
			if len(name) > 1000 {
				t.Errorf("a text in the picture has %d bytes, want it clipped", len(name))
			}
		}
		control := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
		for kind, body := range map[string]string{
			"page":   html,
			"stream": ask(h, "GET", "text/event-stream").Body.String(),
			"text":   ask(h, "GET").Body.String(),
		} {
			if i := strings.IndexFunc(body, control); i >= 0 {
				part := body[max(i-20, 0):min(i+20, len(body))]
				t.Errorf("%s: %q is not to be printed", kind, part)
			}
		}
		if !json.Valid(ask(h, "GET", "application/json").Body.Bytes()) {
			t.Error("the JSON is not valid")
		}
	}
	check()
	q.Fail(errors.New("<script>alert(1)</script>\u202e\x1b"))
	q.Shutdown(t.Context())
	check()
	if events := eventsOf(t, ask(h, "GET", "text/event-stream").Body); len(events) != 3 {
		t.Errorf("%d events, want a report, a clock and an end", len(events))
	}
}

// textsOf returns the texts of all elements or attributes with the given name.
// It fails on any element or attribute that the page does not use, since that
// can only be part of a name.
func textsOf(t *testing.T, html, element string) (texts []string) {
	t.Helper()
	known := strings.Fields(`html header h1 h2 h3 span small svg rect dl div dt dd defs pattern
		line text g use href p section article pre details summary ol li b br code class title
		width height data-span data-since data-until aria-hidden x y x1 x2 y1 y2 dx rx id
		patternUnits patternTransform transform`)
	d := xml.NewDecoder(strings.NewReader("<html>" + html + "</html>"))
	d.Strict, d.AutoClose, d.Entity = false, []string{"br"}, xml.HTMLEntity
	within := false
	for {
		token, err := d.Token()
		if err == io.EOF {
			return texts
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			if e.Name.Local == element {
				texts, within = append(texts, ""), true
			}
			if !slices.Contains(known, e.Name.Local) {
				t.Fatalf("element %s", e.Name.Local)
			}
			for _, a := range e.Attr {
				if !slices.Contains(known, a.Name.Local) {
					t.Fatalf("attribute %s of %s", a.Name.Local, e.Name.Local)
				}
				if a.Name.Local == element {
					texts = append(texts, a.Value)
				}
			}
		case xml.EndElement:
			if e.Name.Local == element {
				within = false
			}
		case xml.CharData:
			if within {
				texts[len(texts)-1] += string(e)
			}
		case xml.Comment, xml.Directive, xml.ProcInst:
			t.Fatalf("%T in the page", e)
		}
	}
}

// shortNames returns the names of the rows as they are shown.
func shortNames(report string) (names []string) {
	name := regexp.MustCompile(`<span class="name">(.*?)</span>`)
	for _, m := range name.FindAllStringSubmatch(report, -1) {
		names = append(names, m[1])
	}
	return names
}

// TestStatusManySteps checks that equal steps share a row, that failures have
// rows of their own, and that the number of rows is limited.
func TestStatusManySteps(t *testing.T) {
	q := quietEvent()
	for i := range 600 {
		q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
			if i == 300 {
				return errors.New("the one that failed")
			}
			return nil
		}), quit.Name("connection"))
	}
	h := quithttp.Status(q)
	if n := len(textsOf(t, fragment(h), "title")); n != 2 {
		t.Errorf("%d rows in the plan, want 2: the connections and the drain", n)
	}
	q.Shutdown(t.Context())
	got := fragment(h)
	if n := len(textsOf(t, got, "title")); n != 4 {
		t.Errorf("%d rows, want 4", n)
	}
	for _, want := range []string{"×299", "×300", "the one that failed"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page does not have %q", want)
		}
	}

	q = quietEvent()
	q.RegisterQuitCloser(failing("the last one failed"))
	for i := range 5000 {
		q.RegisterStopFunc(func() {}, quit.Name(fmt.Sprint("connection ", i)))
	}
	q.Shutdown(t.Context())
	got = fragment(quithttp.Status(q))
	if n := len(textsOf(t, got, "title")); n > 1100 {
		t.Errorf("%d rows, want about a thousand at most", n)
	}
	for _, want := range []string{"the last one failed", ">4001 more steps"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
}

func fragment(h http.Handler) string {
	_, report, _ := strings.Cut(page(h), `<main id="report">`)
	report, _, _ = strings.Cut(report, "</main>")
	return report
}

// TestReportOutlivesEvent draws and marshals a report whose event has been
// collected.
func TestReportOutlivesEvent(t *testing.T) {
	collected := make(chan int)
	report := func() quit.Report {
		q := quietEvent()
		runtime.AddCleanup(q, func(int) { close(collected) }, 0)
		q.RegisterQuitCloser(failing("broken"), quit.Name("mail"))
		q.Shutdown(t.Context())
		return q.Report()
	}()
	for done := false; !done; {
		runtime.GC()
		select {
		case <-collected:
			done = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	if b, err := json.Marshal(report); err != nil || !bytes.Contains(b, []byte(`"err":"broken"`)) {
		t.Errorf("Marshal() = %s, %v", b, err)
	}
	if got := report.String(); !strings.Contains(got, "mail") || !strings.Contains(got, "broken") {
		t.Errorf("String() = %s", got)
	}
}

// TestStatusErrorPanics uses an Error method that panics. The page is drawn in
// a goroutine of its own, so the panic would end the process.
func TestStatusErrorPanics(t *testing.T) {
	q := quietEvent()
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error { return nil }))
	q.Fail(panickingError{})
	got := fragment(quithttp.Status(q))
	if !strings.Contains(got, "(PANIC=Error method: no text)") {
		t.Errorf("the page does not tell the panic:\n%s", got)
	}
}

type panickingError struct{}

func (panickingError) Error() string { panic("no text") }

// event is an event of a stream.
type event struct{ name, data string }

// readEvent returns the next event of a stream.
func readEvent(r *bufio.Reader) (e event, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return e, err
		}
		switch line = strings.TrimSuffix(line, "\n"); {
		case line == "":
			return e, nil
		case strings.HasPrefix(line, "event: "):
			e.name = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			e.data += line[len("data: "):] + "\n"
		}
	}
}

func eventsOf(t *testing.T, body io.Reader) (events []event) {
	t.Helper()
	for r := bufio.NewReader(body); ; {
		e, err := readEvent(r)
		if err == io.EOF {
			return events
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
}

// serveStatus serves until the end of the bubble.
func serveStatus(t *testing.T, srv *http.Server) pipes {
	ln := make(pipes)
	served := make(chan int)
	go func() {
		srv.Serve(ln)
		close(served)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	return ln
}

// openStream opens a stream on a new connection.
func openStream(t *testing.T, ln pipes) *bufio.Reader {
	t.Helper()
	client := ln.client(&http.Transport{DisableKeepAlives: true})
	return bufio.NewReader(streamOf(t, client, "http://x").Body)
}

func streamOf(t *testing.T, client *http.Client, url string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), generous)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if got := res.Header.Get("X-Accel-Buffering"); got != "no" {
		t.Errorf("X-Accel-Buffering: %q, want no, or a proxy holds the events back", got)
	}
	return res
}

// until reads events until one contains text.
func until(t *testing.T, r *bufio.Reader, text string) (got event) {
	t.Helper()
	for {
		e, err := readEvent(r)
		if err != nil {
			t.Fatalf("the stream ended with %v before %q", err, text)
		}
		if strings.Contains(e.data, text) {
			return e
		}
	}
}

func TestStatusStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		goOn := make(chan int)
		q.RegisterStopFunc(func() { <-goOn }, quit.Name("web"))
		r := openStream(t, serveStatus(t, &http.Server{Handler: quithttp.Status(q)}))
		const web = `<div class="row planned" title="web (`
		e := until(t, r, "Not shutting down")
		if e.name != "report" || !strings.Contains(e.data, web) {
			t.Errorf("first event = %q %s, want a report with the plan", e.name, e.data)
		}
		if e, err := readEvent(r); err != nil || e != (event{"clock", "0\n"}) {
			t.Errorf("second event = %q, %v, want a clock at 0 before the fire", e, err)
		}
		unregister := q.RegisterStopFunc(func() {}, quit.Name("cache"))
		until(t, r, `<div class="row planned" title="cache (`)
		unregister()
		go q.Shutdown(context.Background())
		until(t, r, `<div class="row running" title="web (`)
		close(goOn)
		until(t, r, ">Stopped</span>")
		if e := until(t, r, "ended"); e.name != "end" {
			t.Errorf("event = %q, want end", e.name)
		}
		if _, err := readEvent(r); err != io.EOF {
			t.Errorf("after the end: %v, want io.EOF", err)
		}
	})
}

// TestStatusHTTP2 uses a stream of HTTP/2, where a write deadline ends the
// stream.
func TestStatusHTTP2(t *testing.T) {
	defer runtime.GC() // see TestStacksOfHandlers
	defer runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		srv := &http.Server{Handler: quithttp.Status(q), Protocols: h2c}
		res := streamOf(t, serveStatus(t, srv).client(&http.Transport{Protocols: h2c}), "http://x")
		events := bufio.NewReader(res.Body)
		if until(t, events, "Not shutting down"); res.ProtoMajor != 2 {
			t.Errorf("protocol = %s, want HTTP/2", res.Proto)
		}
		time.Sleep(time.Minute) // longer than a write may take
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
		if e := until(t, events, "shut down at"); e.name != "end" {
			t.Errorf("event = %q, want end", e.name)
		}
	})
}

// TestStatusOpenPages uses a thousand open pages. They do not hold up the
// shutdown of their server. Each of them sees the last report, even a page that
// reads late. The bubble fails if a goroutine is left.
func TestStatusOpenPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pages = 1000
		q := quietEvent()
		srv := &http.Server{Handler: quithttp.Status(q)}
		ln := serveStatus(t, srv)
		q.RegisterQuitCloser(srv, quit.AfterDrain(), quit.Name("admin"))
		// The pages have the time to show the running step.
		q.RegisterStopFunc(func() { time.Sleep(50 * time.Millisecond) }, quit.Name("web"))

		var over sync.WaitGroup
		var opened, shown atomic.Int32
		for i := range pages {
			conn, r := ln.open()
			over.Go(func() {
				defer conn.Close()
				first := true
				var all strings.Builder
				for {
					line, err := r.ReadString('\n')
					if strings.HasPrefix(line, "event: clock") && first {
						first = false
						if opened.Add(1); i == 0 {
							<-q.Done()
							time.Sleep(2 * time.Second)
						}
					}
					if all.WriteString(line); err != nil {
						break
					}
				}
				got := all.String()
				if strings.Contains(got, `<div class="row ok" title="web (`) &&
					strings.Contains(got, "event: end\ndata: The server of this page") {
					shown.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := opened.Load(); n != pages {
			t.Fatalf("%d of %d pages were opened", n, pages)
		}
		if err := q.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
		over.Wait()
		if n := shown.Load(); n != pages {
			t.Errorf("%d of %d pages saw the shutdown to their end", n, pages)
		}
	})
}

// TestStatusClientNeverReads uses a client that never reads its answer. It
// holds up neither the other clients nor the shutdown of the server.
func TestStatusClientNeverReads(t *testing.T) {
	for _, accept := range []string{"text/event-stream", "text/html", "application/json"} {
		t.Run(accept, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quietEvent()
				q.Timeout = 6 * time.Second
				for i := range 40 { // more than the buffers can hold
					q.RegisterStopFunc(func() {}, quit.Name(fmt.Sprint("closer ", i)))
				}
				srv := &http.Server{Handler: quithttp.Status(q)}
				ln := serveStatus(t, srv)
				conn, server := net.Pipe()
				defer conn.Close()
				ln <- server
				fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nAccept: %s\r\n\r\n", accept)
				synctest.Wait()

				r := openStream(t, ln)
				until(t, r, "Not shutting down")
				q.RegisterStopFunc(func() {}, quit.Name("cache"))
				until(t, r, `<div class="row planned" title="cache (`)
				go io.Copy(io.Discard, r)
				q.RegisterQuitCloser(srv, quit.Name("admin"))
				if err := q.Shutdown(t.Context()); err != nil {
					t.Errorf("Shutdown() = %.300v, want nil", err)
				}
			})
		})
	}
}

// TestStatusFirstSeenInShutdown uses a server that is shut down before the
// handler can register with it.
func TestStatusFirstSeenInShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closing := make(chan int)
		status := quithttp.Status(quietEvent())
		arrived := make(chan int)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-closing
			status.ServeHTTP(w, r)
		})}
		srv.RegisterOnShutdown(func() { close(closing) })
		client := serveStatus(t, srv).client(new(http.Transport))
		got := make(chan []byte)
		go func() {
			r, _ := http.NewRequest("GET", "http://x", nil)
			r.Header.Set("Accept", "text/event-stream")
			res, err := client.Do(r)
			if err != nil {
				t.Error(err)
				close(got)
				return
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			got <- body
		}()
		<-arrived
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			srv.Close()
			t.Errorf("Shutdown() = %v, want nil", err)
		}
		body := string(<-got)
		if !strings.Contains(body, "Not shutting down") || !strings.Contains(body, "event: end") {
			t.Errorf("stream = %s, want a report and an end", body)
		}
	})
}

// TestStatusLesserWriters uses writers that cannot flush or have no deadlines.
// A stream is then a single report. A stream on a writer that fails ends too,
// though its Flush has no error.
func TestStatusLesserWriters(t *testing.T) {
	type deadliner interface{ SetWriteDeadline(time.Time) error }
	single := []string{"report", "clock"}
	for _, test := range []struct {
		name   string
		lesser func(http.ResponseWriter) http.ResponseWriter
		want   []string
	}{
		{"no flush", func(w http.ResponseWriter) http.ResponseWriter {
			return struct {
				http.ResponseWriter
				deadliner
			}{w, w.(deadliner)}
		}, single},
		{"no deadline", func(w http.ResponseWriter) http.ResponseWriter {
			return struct {
				http.ResponseWriter
				http.Flusher
			}{w, w.(http.Flusher)}
		}, single},
		{"no write", func(w http.ResponseWriter) http.ResponseWriter {
			return struct {
				unwritable
				deadliner
				http.Flusher
			}{unwritable{w}, w.(deadliner), w.(http.Flusher)}
		}, nil},
	} {
		status := quithttp.Status(quietEvent())
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			status.ServeHTTP(test.lesser(w), r)
		}))
		t.Cleanup(srv.Close)
		var got []string
		for _, e := range eventsOf(t, streamOf(t, srv.Client(), srv.URL).Body) {
			got = append(got, e.name)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: events = %q, want %q", test.name, got, test.want)
		}
	}
}

// unwritable is a writer that fails.
type unwritable struct{ http.ResponseWriter }

func (unwritable) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// pipes is a listener with connections in memory, for synctest.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error { close(p); return nil }

func (p pipes) Addr() net.Addr { return new(net.TCPAddr) }

// open opens a stream.
func (p pipes) open() (net.Conn, *bufio.Reader) {
	client, server := net.Pipe()
	p <- server
	io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
	return client, bufio.NewReader(client)
}

// countReports counts the reports of a stream until its end.
func countReports(r *bufio.Reader, n *atomic.Int32) {
	for {
		e, err := readEvent(r)
		if err != nil {
			return
		}
		if e.name == "report" {
			n.Add(1)
		}
	}
}

// TestStatusStreamsShareFrames checks that a report is drawn once for all
// streams, and sent only if it has changed, even while the page looks at a
// number every second.
func TestStatusStreamsShareFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		release := make(chan int)
		q.RegisterStopFunc(func() { <-release }, quit.Name("web"), quit.Timeout(time.Hour))
		q.Timeout = -1
		q.AddGoroutine()
		ln := make(pipes)
		srv := &http.Server{Handler: quithttp.Status(q)}
		go srv.Serve(ln)
		const pages = 50
		var reports [pages]atomic.Int32
		for i := range pages {
			_, r := ln.open()
			go countReports(r, &reports[i])
		}
		all := func(least, most int32) {
			t.Helper()
			synctest.Wait()
			for i := range reports {
				if n := reports[i].Load(); n < least || n > most {
					t.Fatalf("%d reports, want from %d to %d", n, least, most)
				}
			}
		}
		all(1, 1)
		var texts atomic.Int64
		q.Fail(&countedError{&texts})
		all(2, 3) // the fire and the failure are two changes
		go q.Shutdown(context.Background())
		time.Sleep(time.Minute)
		all(5, 16) // the axis grows in steps: 500ms, 1s, 2s and so on to 2m
		const looks = 60 * 4
		if n := texts.Load(); n > 3*looks {
			t.Errorf("%d calls of Error in %d looks, want two in each: for the cause and a failure",
				n, looks)
		}
		close(release)
		before := texts.Load()
		time.Sleep(50 * time.Second) // in the drain; the axis grows next after a minute
		all(6, 19)
		if n := texts.Load() - before; n > 3*50 {
			t.Errorf("%d calls of Error in 50 looks, want two in each", n)
		}
		q.DoneGoroutine()
		time.Sleep(time.Second)
		synctest.Wait() // all goroutines have to end, or the bubble fails
		srv.Close()
	})
}

// countedError counts the calls to its Error method.
type countedError struct{ n *atomic.Int64 }

func (e *countedError) Error() string {
	e.n.Add(1)
	return "counted"
}

// TestStatusSlowClient uses a slow client, which misses reports, and one that
// does not read, which is cut off.
func TestStatusSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		ln := make(pipes)
		srv := &http.Server{Handler: quithttp.Status(q)}
		go srv.Serve(ln)
		never, _ := ln.open()
		slow, r := ln.open()
		until(t, r, "Not shutting down")
		for range 4 {
			time.Sleep(2 * time.Second)
			q.RegisterStopFunc(func() {})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		var n atomic.Int32
		go countReports(r, &n)
		synctest.Wait()
		if got := n.Load(); got < 1 || got > 2 {
			t.Errorf("%d reports after the pause, want the one it was in and the latest", got)
		}
		time.Sleep(2 * time.Second) // 11 s after its begin
		synctest.Wait()
		if _, err := io.ReadAll(never); err != nil { // the rest of the buffer, and the end
			t.Errorf("the connection that is never read: %v, want it closed", err)
		}
		slow.Close()
		time.Sleep(time.Millisecond)
		srv.Close() // all goroutines have to end now, or the bubble fails
	})
}

// TestStatusEndOfBody uses a client that reads all of a stream but the end of
// its body. The server waits 10 s for it.
func TestStatusEndOfBody(t *testing.T) {
	for _, test := range []struct {
		after time.Duration
		want  string
	}{
		{9 * time.Second, "0\r\n\r\n"},
		{11 * time.Second, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			q.Shutdown(t.Context())
			_, r := serveStatus(t, &http.Server{Handler: quithttp.Status(q)}).open()
			until(t, r, "This is the result.")
			if line, err := r.ReadString('\n'); line != "\r\n" {
				t.Fatalf("after the event: %q, %v, want the end of its chunk", line, err)
			}
			time.Sleep(test.after)
			if got, err := io.ReadAll(r); string(got) != test.want || err != nil {
				t.Errorf("after %v: %q, %v, want %q", test.after, got, err, test.want)
			}
		})
	}
}

// TestStatusOpenedAgain uses middleware that ends a stream after a second. It
// checks that nothing is drawn while no page is open, and that a page does not
// begin with what an earlier page saw last.
func TestStatusOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		var texts atomic.Int64
		q.Fail(&countedError{&texts})
		h := quithttp.Status(q)
		limited := func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			h.ServeHTTP(w, r.WithContext(ctx))
		}
		ln := serveStatus(t, &http.Server{Handler: http.HandlerFunc(limited)})
		go io.Copy(io.Discard, openStream(t, ln))
		time.Sleep(2 * time.Second)
		n := texts.Load()
		q.RegisterStopFunc(func() {}, quit.Name("cache"))
		synctest.Wait()
		if got := texts.Load() - n; got != 0 {
			t.Errorf("%d calls of Error while no page was open, want none", got)
		}
		e, err := readEvent(openStream(t, ln))
		if err != nil || !strings.Contains(e.data, `title="cache (`) {
			t.Errorf("the first event does not have the new closer: %v, %v", e, err)
		}
	})
}

// TestStatusOutlivesWorkContext uses a server whose base context is
// WorkContext. The page is updated after the end of that context.
func TestStatusOutlivesWorkContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Timeout = 2 * time.Second
		srv := &http.Server{
			Handler:     quithttp.Status(q),
			BaseContext: func(net.Listener) context.Context { return q.WorkContext() },
		}
		ln := serveStatus(t, srv)
		q.RegisterQuitCloser(srv, quit.AfterDrain(), quit.Name("admin"))
		q.RegisterStopFunc(func() {}, quit.Name("database"), quit.AfterDrain())
		q.AddGoroutine() // never done
		r := openStream(t, ln)
		until(t, r, "Not shutting down")
		go q.Shutdown(context.Background())
		until(t, r, `<div class="row ok" title="database (`)
		until(t, r, "shut down at")
		go io.Copy(io.Discard, r)
		q.Shutdown(t.Context())
		for _, s := range q.Report().Steps {
			if s.Name == "admin" && s.Err != nil {
				t.Errorf("the page held up its server: %v", s.Err)
			}
		}
	})
}

// TestStatusForgetsServers checks that a handler does not keep a server that
// has ended.
func TestStatusForgetsServers(t *testing.T) {
	status := quithttp.Status(quietEvent())
	collected := make(chan int)
	func() {
		srv := httptest.NewServer(status)
		runtime.AddCleanup(srv.Config, func(int) { close(collected) }, 0)
		get(t, srv.URL)
		srv.Close()
	}()
	for began := time.Now(); time.Since(began) < generous; {
		runtime.GC()
		select {
		case <-collected:
			runtime.KeepAlive(status)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Error("the server is still there")
}

// TestStatusFacts checks the heading, the axis, and the reason why a step has
// not ended.
func TestStatusFacts(t *testing.T) {
	fired := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	wide := strings.Repeat("n", 100)
	drain := quit.Step{Name: "drain", Phase: quit.PhaseDrain, Start: fired}
	drain.Deadline = fired.Add(20 * time.Second)
	step := quit.Step{Name: wide, Site: "a.go:1", Phase: quit.PhaseClosers, Start: fired}
	busy, done := step, step
	busy.Detail = "3 requests in flight"
	done.End = fired.Add(time.Second)
	waiting, draining, child := busy, drain, quit.Step{Phase: quit.PhaseClosers}
	waiting.Deadline = fired.Add(50 * time.Millisecond)
	child.Steps = []quit.Step{drain} // with a counter of its own
	givenUp := drain
	givenUp.Stacks = "1 goroutine of reader:\n\tmain.read"
	for _, test := range []struct {
		name   string
		report quit.Report
		has    []string
		hasNot []string
	}{
		{
			name: "idle",
			report: quit.Report{
				Deadline: fired.Add(10 * time.Second),
				Steps:    []quit.Step{{Name: "db", Phase: quit.PhaseClosers}},
			},
			has: []string{
				"<dt>Goroutines counted</dt><dd>0</dd>", `<div class="row planned" title="db`,
				`<div class="timeline plan" data-span="0">`,
			},
			hasNot: []string{`class="bar"`, "<dt>Cause</dt>", "<dt>Requested</dt>", "<svg", "<h2>"},
		},
		{
			name: "running",
			report: quit.Report{
				Cause:      errors.New("quit: boom"),
				Fired:      fired,
				Started:    fired,
				Goroutines: 3,
				Steps:      []quit.Step{busy, {Name: "db", Phase: quit.PhaseClosers}},
			},
			has: []string{
				"<dt>Cause</dt><dd>boom</dd>",
				"<dt>Requested</dt><dd>2026-03-01 12:00:00.000 UTC</dd>",
				"<dt>Goroutines counted</dt><dd>3</dd>", `data-span="100"`, "without a limit",
				`<div class="why">3 requests in flight</div>`, "begun at 0s, 3 requests in flight<",
				">" + strings.Repeat("n", 79) + "…<",
				`<div class="row planned" title="db: planned">`,
			},
			hasNot: []string{"<h2>", `class="share"`, "left of", "deadline"},
		},
		{
			name: "of little time",
			report: quit.Report{
				Fired:    fired,
				Started:  fired,
				Deadline: fired.Add(60 * time.Millisecond),
				Steps:    []quit.Step{busy, drain},
			},
			has: []string{`data-span="60"`, "of 60ms", ">20ms<",
				`<text class="tick last" x="100.00%" dx="-4" y="12">deadline 60ms<`},
			hasNot: []string{">40ms<", "0 goroutines"}, // no room for 40ms
		},
		{
			name: "with a share",
			report: quit.Report{
				Fired:      fired,
				Started:    fired,
				Deadline:   fired.Add(time.Minute),
				Goroutines: 2,
				Steps:      []quit.Step{waiting, draining, child},
			},
			has: []string{
				`<rect class="share" x="0.00%" y="50%" width="50.00%"`,
				`>3 requests in flight · <span data-until="50">0.0s</span> left of 50ms<`,
				`>2 goroutines counted · <span data-until="20000">20.0s</span> left of 20s<`,
				`<div class="why"><span data-until="20000">20.0s</span> left of 20s</div>`,
				`<rect class="share" x="0.00%" y="50%" width="100.00%"`, // beyond the axis
			},
			hasNot: []string{"<h2>"},
		},
		{
			name: "of a drain that is given up",
			report: quit.Report{
				Fired:   fired,
				Started: fired,
				Steps:   []quit.Step{givenUp},
			},
			has: []string{
				"<h2>Still running</h2>",
				`<pre class="stacks">1 goroutine of reader:`,
			},
			hasNot: []string{"Failures"},
		},
		{
			name: "ended",
			report: quit.Report{
				Cause:    context.Canceled,
				Fired:    fired,
				Started:  fired,
				Ended:    fired.Add(12 * time.Second),
				Deadline: fired.Add(20 * time.Second),
				Steps:    []quit.Step{done, done, done},
			},
			has: []string{
				"<dt>Cause</dt><dd>context canceled</dd>", `x1="0.00%"`,
				"<small>after\n<span>12s</span> of 20s", ">0s<", ">5s<", ">10s<",
				`<span class="times">×3</span>`, `(a.go:1): ok, 1s">`, `width="8.33%"`,
			},
			hasNot: []string{"<h2>", ">12s</text>", "deadline", `class="share"`, `class="why"`},
		},
		{
			name: "ended soon after a round time",
			report: quit.Report{
				Fired:   fired,
				Started: fired,
				Ended:   fired.Add(11500 * time.Millisecond),
				Steps:   []quit.Step{done},
			},
			has:    []string{">5s<"},
			hasNot: []string{">10s<"}, // no room
		},
		{
			name: "ended at once",
			report: quit.Report{
				Fired:   fired,
				Started: fired,
				Ended:   fired,
				Steps: []quit.Step{
					{Name: "db", Start: fired, End: fired, Err: errors.New("lost")},
				},
			},
			has: []string{
				`<div class="timeline" data-span="1">`, `class="bar"`, "Stopped with 1 failure<",
			},
		},
	} {
		got := quithttp.Fragment(test.report)
		for _, want := range test.has {
			if !strings.Contains(got, want) {
				t.Errorf("%s: the page does not have %q:\n%s", test.name, want, got)
			}
		}
		for _, not := range test.hasNot {
			if strings.Contains(got, not) {
				t.Errorf("%s: the page has %q:\n%s", test.name, not, got)
			}
		}
	}
}

// TestStatusElapsed checks that the elapsed time is rounded down, as the script
// rounds it.
func TestStatusElapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Fire()
		start := time.Now()
		for _, test := range []struct {
			after time.Duration
			want  string
		}{
			{0, "0.0s"},
			{1390 * time.Millisecond, "1.3s"},
			{time.Minute - 1, "59.9s"},
			{time.Minute, "1m0s"},
			{61990 * time.Millisecond, "1m1s"},
		} {
			time.Sleep(test.after - time.Since(start))
			got := page(quithttp.Status(q))
			taken := time.Now().Format("A snapshot of 15:04:05 MST.")
			if !strings.Contains(got, taken) {
				t.Errorf("after %v, the page does not have %q:\n%s", test.after, taken, got)
			}
			if !strings.Contains(got, ">"+test.want+"</span> ago") {
				t.Errorf("after %v, the page does not have %q:\n%s", test.after, test.want, got)
			}
		}
	})
}

// TestStatusStreamGoesOn uses a report that does not change. The stream sends a
// clock now and then, and a new report whenever the axis grows.
func TestStatusStreamGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Timeout = -1
		goOn := make(chan int)
		q.RegisterStopFunc(func() { <-goOn }, quit.Name("web"))
		r := openStream(t, serveStatus(t, &http.Server{Handler: quithttp.Status(q)}))
		until(t, r, "Not shutting down")
		go q.Shutdown(context.Background())
		until(t, r, `<div class="row running" title="web (`)
		fired := q.Report().Fired
		span := 100 * time.Millisecond
		spans := []int{100}
		last := time.Now()
		for time.Since(fired) < 100*time.Second {
			e, err := readEvent(r)
			if err != nil {
				t.Fatal(err)
			}
			if gap := time.Since(last); gap > 15*time.Second {
				t.Errorf("nothing was sent for %v", gap)
			}
			last = time.Now()
			if e.name == "clock" {
				if ms := time.Since(fired).Milliseconds(); e.data != fmt.Sprintln(ms) {
					t.Errorf("clock at %d ms: %q", ms, e.data)
				}
				continue
			}
			age := time.Since(fired)
			if age > span+10*time.Millisecond {
				t.Errorf("after %v, the axis ended at %v", age, span)
			}
			_, after, _ := strings.Cut(e.data, `data-span="`)
			digits, _, _ := strings.Cut(after, `"`)
			ms, err := strconv.Atoi(digits)
			if err != nil {
				t.Fatalf("no axis in %q", e.data)
			}
			span = time.Duration(ms) * time.Millisecond
			if ms != spans[len(spans)-1] {
				spans = append(spans, ms)
			}
			if age > span {
				t.Errorf("an axis of %v after %v", span, age)
			}
		}
		want := []int{
			100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000,
		}
		if !slices.Equal(spans, want) {
			t.Errorf("the axis grows to %v ms, want %v", spans, want)
		}
		close(goOn)
		until(t, r, "ended")
	})
}

// TestStatusRegistersOnce checks that one function is registered with a server,
// regardless of the number of requests. It cannot be unregistered.
func TestStatusRegistersOnce(t *testing.T) {
	srv := new(http.Server)
	h := quithttp.Status(quietEvent())
	hooks := reflect.ValueOf(srv).Elem().FieldByName("onShutdown")
	if !hooks.IsValid() {
		t.Skip("this http.Server keeps its hooks elsewhere")
	}
	first := 0 // ours, and perhaps one of net/http
	for range 3 {
		r := httptest.NewRequest("GET", "/", nil)
		ctx := context.WithValue(r.Context(), http.ServerContextKey, srv)
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		if first == 0 {
			first = hooks.Len()
		}
	}
	if n := hooks.Len(); first == 0 || n != first {
		t.Errorf("%d hooks of the server after the first request, %d after the last", first, n)
	}
}
