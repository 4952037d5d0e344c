package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// generous is a bound for the slowest machine.
const generous = 5 * time.Minute

// browser is the browser of all tests. Each test has a tab of its own.
var browser context.Context

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	profile, err := os.MkdirTemp("", "quit-browser-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(profile)
	names := []string{"chromium", "chromium-browser", "google-chrome", "headless-shell"}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		flags := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.UserDataDir(profile),
			chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.WSURLReadTimeout(generous),
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
			chromedp.Flag("disable-sync", true),
			chromedp.Flag("disable-background-networking", true),
			chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
		alloc, cancel := chromedp.NewExecAllocator(context.Background(), flags...)
		defer cancel()
		var stop context.CancelFunc
		browser, stop = chromedp.NewContext(alloc)
		defer stop()
		if err := chromedp.Run(browser); err != nil {
			fmt.Fprintf(os.Stderr, "starting %s: %v\n", path, err)
			return 1
		}
		break
	}
	return m.Run()
}

// tab is an open page.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex // guards the fields below
	requests []string
	problems []string // errors, console messages, and violations of the policy
	expected string   // problems that contain it are ignored; "" ignores none
}

// expect ignores problems that contain text.
func (p *tab) expect(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = text
}

// needBrowser skips the test if there is no browser. In CI the test fails.
func needBrowser(t *testing.T) {
	t.Helper()
	if browser == nil {
		const missing = "no chromium, chromium-browser, google-chrome or headless-shell in the path"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
}

// newTab opens an empty tab. The test fails if the tab has sent a request to
// anything but origin, or if the browser has reported a problem.
func newTab(t *testing.T, origin string) *tab {
	t.Helper()
	needBrowser(t)
	ctx, cancel := chromedp.NewContext(browser)
	ctx, stop := context.WithTimeout(ctx, generous)
	p := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		stop()
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, problem := range p.problems {
			if p.expected != "" && strings.Contains(problem, p.expected) {
				continue
			}
			t.Errorf("the browser reports %s", problem)
		}
		for _, url := range p.requests {
			if !strings.HasPrefix(url, origin) && url != "data:," {
				t.Errorf("request of %s, want none but of %s", url, origin)
			}
		}
	})
	chromedp.ListenTarget(ctx, func(event any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			p.requests = append(p.requests, e.Request.URL)
		case *network.EventWebSocketCreated:
			p.requests = append(p.requests, strings.Replace(e.URL, "ws", "http", 1))
		case *log.EventEntryAdded:
			p.problems = append(p.problems,
				fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		case *runtime.EventConsoleAPICalled:
			p.problems = append(p.problems, "a call of console."+string(e.Type))
		case *runtime.EventExceptionThrown:
			p.problems = append(p.problems, e.ExceptionDetails.Error())
		}
	})
	p.do(log.Enable(), network.Enable(), chromedp.EmulateViewport(1000, 900))
	return p
}

func (p *tab) do(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// eval returns the value of an expression in the page.
func eval[T any](p *tab, expression string) (value T) {
	p.t.Helper()
	p.do(chromedp.Evaluate(expression, &value))
	return value
}

// wait waits until an expression is true.
func (p *tab) wait(expression string) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, poll(expression)); err != nil {
		p.t.Fatalf("waiting for %s: %v; the page says:\n%s", expression, err,
			eval[string](p, "document.body.innerText"))
	}
}

// poll looks every 10 ms. By default it would look at each frame, and only the
// tab in front has frames.
func poll(expression string) chromedp.Action {
	return chromedp.Poll(expression, nil, chromedp.WithPollingInterval(10*time.Millisecond),
		chromedp.WithPollingTimeout(generous/2)) // the rest is for the failure message
}

func size(width int64) chromedp.Action {
	return chromedp.Tasks{chromedp.EmulateViewport(width, 900),
		poll(fmt.Sprintf("innerWidth === %d", width))}
}

func scheme(name string) chromedp.Action {
	feature := &emulation.MediaFeature{Name: "prefers-color-scheme", Value: name}
	return chromedp.Tasks{
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{feature}),
		poll(fmt.Sprintf(`matchMedia("(prefers-color-scheme: %s)").matches`, name)),
	}
}
