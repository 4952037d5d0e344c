package recipes_test

import (
	"context"
	"io"
	"net/http"
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
				// As main does: the stop begins at the fire, while the handler runs.
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
