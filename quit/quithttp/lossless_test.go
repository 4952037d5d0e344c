//go:build linux

package quithttp_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func TestMain(m *testing.M) { process.Main(m, nil) }

// A load is one kind of client.
type load struct {
	name     string
	protocol string // tcp, tls, h2, h2c or unix
	manner   string // each, busy, slow or pool: see client
}

// loads are the rows of the table.
var loads = []load{
	{"a connection each", "tcp", "each"},
	{"kept alive, busy", "tcp", "busy"},
	{"kept alive, every 250 ms", "tcp", "slow"},
	{"a pool", "tcp", "pool"},
	{"TLS, a connection each", "tls", "each"},
	{"TLS, kept alive", "tls", "busy"},
	{"HTTP/2", "h2", "busy"},
	{"HTTP/2 without TLS", "h2c", "busy"},
	{"Unix, a connection each", "unix", "each"},
	{"Unix, kept alive", "unix", "busy"},
}

// stoppedServer is a server that is shut down under load. It serves with the
// protocol on addr until a SIGTERM.
var stoppedServer = process.NewProgram("stopped server", func(args []string) {
	kind, protocol, addr := args[0], args[1], args[2]
	srv := &http.Server{
		Addr:      addr,
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, 0),
		Protocols: new(http.Protocols),
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "answered")
	})
	srv.Protocols.SetHTTP1(protocol != "h2" && protocol != "h2c")
	srv.Protocols.SetHTTP2(protocol == "h2")
	srv.Protocols.SetUnencryptedHTTP2(protocol == "h2c")
	encrypted := protocol == "tls" || protocol == "h2"
	if encrypted {
		s := httptest.NewTLSServer(nil)
		s.Close()
		srv.TLSConfig = &tls.Config{Certificates: s.TLS.Certificates}
	}
	q := quit.GetQuitEvent()
	q.Timeout = 10 * time.Second
	q.Logger = slog.New(slog.DiscardHandler)
	listen := func() net.Listener {
		network, address := "tcp", addr
		if path, ok := strings.CutPrefix(addr, "unix:"); ok {
			network, address = "unix", path
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			panic(err)
		}
		return ln
	}
	serveByHand := func() {
		ln := listen()
		process.Say("%v", ln.Addr())
		if encrypted {
			go srv.ServeTLS(ln, "", "") // ends with the shutdown
		} else {
			go srv.Serve(ln) // ends with the shutdown
		}
	}
	var opts []quit.Option
	switch kind {
	case "http.Server.Shutdown":
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, syscall.SIGTERM)
		serveByHand()
		<-terminated
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), q.Timeout)
		defer cancel()
		srv.Shutdown(ctx)
		process.Say("stopped after %v", time.Since(start))
		return
	case "RegisterQuitCloser":
		q.RegisterQuitCloser(srv)
		serveByHand()
	default:
		if part, ok := strings.CutPrefix(kind, "without "); ok && part != "linger" {
			quithttp.WithoutPart(part)
		}
		switch kind {
		case "without linger":
			opts = append(opts, quithttp.Linger(1))
		case "patient":
			opts = append(opts, quithttp.Linger(15*time.Second))
			q.Timeout = 5 * time.Minute
		}
		if kind == "handed in" {
			ln := listen()
			if encrypted {
				quithttp.ServeTLS(q, srv, ln, "", "", opts...)
			} else {
				quithttp.Serve(q, srv, ln, opts...)
			}
			process.Say("%v", ln.Addr())
			break
		}
		var bound net.Addr
		var err error
		if encrypted {
			bound, err = quithttp.ListenAndServeTLS(q, srv, "", "", opts...)
		} else {
			bound, err = quithttp.ListenAndServe(q, srv, opts...)
		}
		if err != nil {
			panic(err)
		}
		process.Say("%v", bound)
	}
	err := q.WaitSignal()
	r := q.Report()
	process.Say("stopped after %v", r.Ended.Sub(r.Fired))
	if err != nil {
		process.Say("%v", err)
	}
})

// kinds are the ways to shut down that are compared. "handed in" is quithttp
// with a listener that it has not opened. In each of the others, a part of
// quithttp is switched off.
var kinds = []string{"http.Server.Shutdown", "RegisterQuitCloser", "quithttp", "handed in",
	"without refuse", "without drain", "without header", "without linger"}

// clients sends requests until the server refuses connections. Each request is
// sent once. It has a body that can be read only once, so that net/http does
// not retry it.
var clients = process.NewProgram("clients", func(args []string) {
	protocol, manner, addr := args[0], args[1], args[2]
	const n = 32
	var answered, broken, refused, warm atomic.Int64
	var firstError sync.Once
	var dialer net.Dialer
	errRefused := errors.New("refused")
	transport := func() *http.Transport {
		t := &http.Transport{
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:   manner == "each",
			MaxIdleConnsPerHost: n,
			Protocols:           new(http.Protocols),
		}
		t.Protocols.SetHTTP1(protocol != "h2" && protocol != "h2c")
		t.Protocols.SetHTTP2(protocol == "h2")
		t.Protocols.SetUnencryptedHTTP2(protocol == "h2c")
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			network, address := "tcp", addr
			if protocol == "unix" {
				network = "unix"
			}
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, errors.Join(errRefused, err)
			}
			return conn, nil
		}
		return t
	}
	url := "http://server/"
	if protocol == "tls" || protocol == "h2" {
		url = "https://server/"
	}
	shared := transport()
	var wait sync.WaitGroup
	for range n {
		wait.Go(func() {
			t := shared
			if manner == "busy" || manner == "slow" {
				t = transport()
			}
			client := &http.Client{Transport: t, Timeout: time.Minute}
			if manner == "slow" {
				time.Sleep(rand.N(250 * time.Millisecond)) // so that they ask at different times
			}
			for i := 1; ; i++ {
				var body io.Reader = struct{ io.Reader }{strings.NewReader("a job")}
				if protocol == "h2" || protocol == "h2c" {
					body = nil // retried if the server says that it has not seen the request
				}
				res, err := client.Post(url, "text/plain", body)
				if err == nil {
					var text []byte
					if text, err = io.ReadAll(res.Body); err == nil && string(text) != "answered" {
						err = fmt.Errorf("answer %q", text)
					}
					res.Body.Close()
				}
				switch {
				case err == nil:
					answered.Add(1)
				case errors.Is(err, errRefused):
					refused.Add(1)
					return
				default:
					broken.Add(1)
					firstError.Do(func() { fmt.Fprintln(os.Stderr, err) })
				}
				if i == 3 && warm.Add(1) == n {
					process.Say("warm")
				}
				switch manner {
				case "slow":
					time.Sleep(250 * time.Millisecond)
				case "pool":
					time.Sleep(time.Duration(rand.ExpFloat64() * float64(10*time.Millisecond)))
				}
			}
		})
	}
	wait.Wait()
	process.Say("%d %d", answered.Load(), broken.Load())
})

// stops are the results of some shutdowns.
type stops struct {
	answered, broken int
	took             []time.Duration
	errs             []string // of the clients and the servers
}

func (s *stops) median() time.Duration {
	slices.Sort(s.took)
	return s.took[len(s.took)/2]
}

// stopUnderLoad shuts a server of the given kind down n times under load. The
// clients are behind a link with the delay, or on loopback if the delay is
// zero.
func stopUnderLoad(t *testing.T, delay time.Duration, kind string, l load, n int) (s stops) {
	t.Helper()
	host, server, client := "127.0.0.1", (*netns)(nil), (*netns)(nil)
	if delay > 0 {
		on, down := newLink(t, delay)
		defer down()
		host, server, client = on.serverAddr, &on.server, &on.client
	}
	for range n {
		addr := host + ":0"
		if l.protocol == "unix" {
			addr = "unix:" + filepath.Join(t.TempDir(), "socket")
		}
		var p, c *process.Process
		server.do(func() { p = stoppedServer.Start(t, kind, l.protocol, addr) })
		bound := p.Next()
		client.do(func() { c = clients.Start(t, l.protocol, l.manner, bound) })
		c.Expect("warm")
		time.Sleep(rand.N(100 * time.Millisecond)) // until any point between two requests
		p.Signal(syscall.SIGTERM)
		var took string
		if _, err := fmt.Sscanf(p.Next(), "stopped after %s", &took); err != nil {
			t.Fatal(err)
		}
		d, err := time.ParseDuration(took)
		if err != nil {
			t.Fatal(err)
		}
		s.took = append(s.took, d)
		if err := p.Next(); err != "" {
			s.errs = append(s.errs, err)
		}
		<-p.Exited()
		var answered, broken int
		if _, err := fmt.Sscan(c.Next(), &answered, &broken); err != nil {
			t.Fatal(err)
		}
		<-c.Exited()
		if broken > 0 {
			s.errs = append(s.errs,
				fmt.Sprintf("%d in a stop of %v: %s", broken, d, strings.TrimSpace(c.Stderr())))
		}
		s.answered += answered
		s.broken += broken
	}
	return s
}

// TestStopUnderLoad shuts a server down a few times under each load. No
// connection may break. The linger is long enough for a slow machine. Busy
// clients leave before its end.
func TestStopUnderLoad(t *testing.T) {
	for _, delay := range []time.Duration{0, 10 * time.Millisecond} {
		for _, l := range loads {
			if delay > 0 && l.protocol == "unix" {
				continue
			}
			t.Run(fmt.Sprintf("%s over %v", l.name, delay), func(t *testing.T) {
				s := stopUnderLoad(t, delay, "patient", l, 2)
				if s.broken > 0 || s.answered == 0 || len(s.errs) > 0 {
					t.Errorf("%d answered, %d broken: %q", s.answered, s.broken, s.errs)
				}
			})
		}
	}
}

var (
	tableFile  = flag.String("table", "", "write the table of stops under load to this `file`")
	tableStops = flag.Int("stops", 30,
		"how many stops a figure of the table is of; a third of it for those without a part")
	onlyLoad = flag.String("load", "", "only the loads with these `words` in their names")
	onlyKind = flag.String("kind", "", "only this `kind` of stop")
)

// TestStopsTable writes the table of docs/lossless.md. It is a command rather
// than a test: docs/lossless.sh calls it.
func TestStopsTable(t *testing.T) {
	if *tableFile == "" {
		t.Skip("only with -table")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| link | clients | %s |\n| --- | --- |%s\n",
		strings.Join(kinds, " | "), strings.Repeat(" ---: |", len(kinds)))
	for _, delay := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond} {
		for _, l := range loads {
			if !strings.Contains(l.name, *onlyLoad) || delay > 0 && l.protocol == "unix" {
				continue
			}
			fmt.Fprintf(&b, "| %s | %s |",
				cmp.Or(strings.TrimPrefix(delay.String(), "0s"), "loopback"), l.name)
			for _, kind := range kinds {
				if *onlyKind != "" && kind != *onlyKind {
					b.WriteString(" |")
					continue
				}
				n, of := *tableStops, ""
				if strings.HasPrefix(kind, "without ") {
					n = max(n/3, 1)
					of = fmt.Sprintf(" of %d", n)
				}
				s := stopUnderLoad(t, delay, kind, l, n)
				t.Logf("%v %s, %s: %d answered, %d broken in %d stops of %v %q",
					delay, l.name, kind, s.answered, s.broken, n, s.median(), s.errs)
				fmt.Fprintf(&b, " %d%s, %v |", s.broken, of, s.median().Round(100*time.Microsecond))
			}
			b.WriteString("\n")
			if err := os.WriteFile(*tableFile, []byte(b.String()), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}
