//go:build unix

package browser

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"

	"github.com/gracefulgo/graceful/internal/process"
)

// TestChat opens the page of examples/frameworks/websocket twice. Its server is
// stopped and started again, and then killed and started again.
//
// The go command does not know that this test depends on the example: after a
// change there, run it with -count=1.
func TestChat(t *testing.T) {
	needBrowser(t)
	program := filepath.Join(t.TempDir(), "websocket")
	build := process.Other(t, "go", "build", "-o", program, "./websocket")
	build.Dir = "../../examples/frameworks"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	t.Run("http", func(t *testing.T) { testChat(t, program) })
	t.Run("https", func(t *testing.T) { testChat(t, program, certificate(t)...) })
}

func testChat(t *testing.T, program string, args ...string) {
	start := func(addr string) (p *process.Process, url string) {
		t.Helper()
		p = process.StartCommand(t, process.Other(t, program, append(args, "-addr="+addr)...))
		return p, p.Line("listening on ")
	}
	server, url := start("127.0.0.1:0")
	_, addr, _ := strings.Cut(url, "://")
	a, b := openChat(t, url), openChat(t, url)
	both := func(expression string) {
		t.Helper()
		a.wait(expression)
		b.wait(expression)
	}
	a.write("hello <b>from a</b>")
	both(said("hello <b>from a</b>"))
	b.write("hello from b")
	both(said("hello from b"))
	// More than the page accepts, which is less than the server does.
	b.write(strings.Repeat("€", 1001))
	both(said(strings.Repeat("€", 1000)))
	both(connected)

	server.Signal(syscall.SIGTERM)
	both(`log.textContent.endsWith(` +
		`"the server is going away\nclosed: 1001 the server is going away\n")`)
	server.WantExit(0)
	a.write("a wrote this without a server")
	b.write("b wrote this without a server")
	b.write("and this")
	a.wait(`state.textContent === "not connected, trying again; 1 to be sent"`)
	b.wait(`state.textContent === "not connected, trying again; 2 to be sent"`)

	// Each time the pages wait longer, and not equally long.
	both("delays.length >= 3")
	first, second := eval[[]float64](a, "delays"), eval[[]float64](b, "delays")
	for _, delays := range [][]float64{first, second} {
		for i, low, high := 0, 500.0, 1000.0; i < 3; i, low, high = i+1, 2*low, 2*high {
			if d := delays[i]; d < low || d > high {
				t.Errorf("delays = %v ms, want number %d from %v to %v", delays, i+1, low, high)
			}
		}
	}
	if first[0] == second[0] {
		t.Errorf("both pages wait for %v ms, want some randomness", first[0])
	}

	server, _ = start(addr)
	both(connected)
	a.wait(said("a wrote this without a server"))
	b.wait(said("b wrote this without a server"))
	b.wait(said("and this"))
	a.write("together again")
	both(said("together again"))

	// A server that stands still gets a line, and dies without having read it.
	// The next server gets the line.
	a.do(chromedp.Evaluate("delays.length = 0", nil))
	server.Signal(syscall.SIGSTOP)
	a.write("nobody has read this")
	a.wait(`state.textContent === "connected; 1 to be sent"`)
	server.Process.Kill()
	server.WantEnd("signal: killed")
	both(`log.textContent.endsWith("closed: 1006 \n")`)
	a.wait("delays.length > 0")
	if got := eval[[]float64](a, "delays"); got[0] > 1000 {
		t.Errorf("delays = %v ms, want the first to be short again", got)
	}
	server, _ = start(addr)
	a.wait(said("nobody has read this"))
	both(connected)

	// The page that connects first may have been alone when it sent its lines.
	for _, test := range []struct {
		p     *tab
		lines []string
	}{
		{a, []string{"hello <b>from a</b>", "hello from b", "a wrote this without a server",
			"together again", "nobody has read this"}},
		{b, []string{"hello <b>from a</b>", "hello from b", "b wrote this without a server",
			"and this", "together again"}},
	} {
		text := eval[string](test.p, "log.textContent")
		for _, line := range test.lines {
			if n := strings.Count(text, ": "+line+"\n"); n != 1 {
				t.Errorf("the page has %q %d times, want once:\n%s", line, n, text)
			}
		}
	}
	server.Signal(syscall.SIGTERM)
	server.WantExit(0)
}

const connected = `state.textContent === "connected"`

func said(line string) string { return fmt.Sprintf("log.textContent.includes(%q)", ": "+line+"\n") }

// openChat returns the page, connected. It records the delays of its
// reconnects.
func openChat(t *testing.T, url string) *tab {
	t.Helper()
	p := newTab(t, url)
	p.expect(fmt.Sprintf("WebSocket connection to '%s/chat' failed",
		strings.Replace(url, "http", "ws", 1)))
	p.do(security.SetIgnoreCertificateErrors(true), chromedp.Navigate(url))
	p.wait(connected)
	p.do(chromedp.Evaluate(`{
		window.delays = []
		const wait = setTimeout
		setTimeout = (f, d) => { if (f === connect) delays.push(d); return wait(f, d) }
	}`, nil))
	return p
}

func (p *tab) write(line string) {
	p.t.Helper()
	p.do(page.BringToFront(), chromedp.SendKeys("input", line+"\r", chromedp.ByQuery))
}

// certificate returns the flags for a certificate.
func certificate(t *testing.T) []string {
	t.Helper()
	srv := httptest.NewTLSServer(nil) // it has one
	srv.Close()
	pair := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path,
			pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return []string{"-cert=" + file("cert.pem", "CERTIFICATE", pair.Certificate[0]),
		"-key=" + file("key.pem", "PRIVATE KEY", key)}
}
