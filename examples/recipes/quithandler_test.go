package recipes_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func TestQuitHandler(t *testing.T) {
	for _, test := range []struct {
		name, method, site string
		status             int
		fires              bool
	}{
		{"GET", "GET", "", http.StatusMethodNotAllowed, false},
		{"HEAD", "HEAD", "", http.StatusMethodNotAllowed, false},
		{"another site's page", "POST", "cross-site", http.StatusForbidden, false},
		{"curl", "POST", "", http.StatusAccepted, true},
		{"our own page", "POST", "same-origin", http.StatusAccepted, true},
	} {
		for _, phase := range []struct {
			name string
			opts []quit.Option
		}{{name: "closers"}, {"after drain", []quit.Option{quit.AfterDrain()}}} {
			t.Run(test.name+", "+phase.name, func(t *testing.T) {
				t.Parallel()
				q := newEvent()
				srv := &http.Server{Addr: "127.0.0.1:0", Handler: recipes.QuitHandler(q)}
				addr, err := quithttp.ListenAndServe(q, srv, phase.opts...)
				if err != nil {
					t.Fatal(err)
				}
				// As in main: the shutdown begins at the fire, while the
				// handler runs.
				stopped := make(chan error, 1)
				go func() {
					<-q.Done()
					stopped <- q.Shutdown(context.Background())
				}()

				req, err := http.NewRequest(test.method, "http://"+addr.String()+"/quit", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Sec-Fetch-Site", test.site)
				client := &http.Client{Transport: new(http.Transport), Timeout: time.Minute}
				defer client.CloseIdleConnections()
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != test.status {
					t.Errorf("answer: %d %q, %v, want %d", res.StatusCode, body, err, test.status)
				}
				if test.fires {
					if <-q.Done(); string(body) != "quitting\n" {
						t.Errorf("body = %q", body)
					}
				} else if q.HasFired() {
					t.Error("it has fired")
				}
				q.Fire()
				if err := <-stopped; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// flushed records whether the event had fired when the answer was sent.
type flushed struct {
	http.ResponseWriter
	q      *quit.QuitEvent
	answer string
	before bool
}

func (f *flushed) Write(p []byte) (int, error) { f.answer += string(p); return len(p), nil }
func (f *flushed) FlushError() error           { f.before = !f.q.HasFired(); return nil }

// TestQuitHandlerOrder checks that the answer is sent before the fire.
func TestQuitHandlerOrder(t *testing.T) {
	q := newEvent()
	f := &flushed{ResponseWriter: httptest.NewRecorder(), q: q}
	recipes.QuitHandler(q).ServeHTTP(f, httptest.NewRequest("POST", "/quit", nil))
	if !f.before || f.answer != "quitting\n" || !q.HasFired() {
		t.Errorf("sent before the fire: %v, %q; fired: %v", f.before, f.answer, q.HasFired())
	}
}
