package quithttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// FuzzStatus puts names, errors and panics of any text into a report. It checks
// the text, the page, the stream and the JSON of the report before the fire,
// during the shutdown and after it.
func FuzzStatus(f *testing.F) {
	f.Add("name", "error", "panic", uint8(0))
	f.Add("</title><script>", "two\nlines\x1b[2J", "\xff\u202e\x00", uint8(7))
	f.Add("", "", "", uint8(255))
	f.Add(strings.Repeat("long ", 1000), "]]>--><!--", "{{.}}${x}`\\", uint8(13))
	f.Fuzz(func(t *testing.T, name, text, panics string, kind uint8) {
		synctest.Test(t, func(t *testing.T) {
			q := &quit.QuitEvent{Timeout: time.Minute, Logger: slog.New(slog.DiscardHandler)}
			inner := &quit.QuitEvent{Logger: q.Logger}
			inner.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
				return errors.New(text)
			}), quit.Name(name), quit.AfterDrain())
			q.RegisterQuitCloser(inner, quit.Name(text))
			q.RegisterStopFunc(func() { panic(panics) }, quit.Name(name+"/"+panics))
			if kind&1 != 0 {
				q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
					<-ctx.Done()
					time.Sleep(time.Minute)
					return errors.New(name)
				}), quit.Name(panics), quit.Timeout(time.Duration(kind)*time.Millisecond))
			}
			if kind&2 != 0 {
				q.Go(func(ctx context.Context) error {
					<-ctx.Done()
					return errors.Join(errors.New(text), errors.New(panics))
				}, quit.Name(text))
			}
			if kind&4 != 0 {
				q.Delay = time.Duration(kind) * time.Millisecond
			}
			h := quithttp.Status(q)
			check := func() {
				t.Helper()
				html := page(h)
				report := fragment(h)
				for _, element := range []string{"title", "tspan", "dd"} {
					textsOf(t, report, element) // fails if an element is not ours
				}
				if n := strings.Count(html, "<script"); n != 1 {
					t.Errorf("%d scripts in the page, want ours", n)
				}
				for kind, body := range map[string]string{
					"page":   html,
					"stream": ask(h, "GET", "text/event-stream").Body.String(),
					"text":   ask(h, "GET").Body.String(),
				} {
					i := strings.IndexFunc(body, func(r rune) bool {
						return r != '\n' && !unicode.IsPrint(r)
					})
					if i >= 0 {
						t.Errorf("%s: %q is not to be printed",
							kind, body[max(i-20, 0):min(i+20, len(body))])
					}
				}
				if !json.Valid(ask(h, "GET", "application/json").Body.Bytes()) {
					t.Error("the JSON is not valid")
				}
			}
			check()
			if kind&8 != 0 {
				q.Fail(errors.New(panics))
			}
			go q.Shutdown(context.Background()) // ends with the wait below
			synctest.Wait()
			check()
			err := q.Shutdown(context.Background())
			check()
			if !strings.Contains(err.Error(), "panic: "+panics) && !strings.Contains(panics, "\n") {
				t.Errorf("the error does not have the panic: %q", err)
			}
			time.Sleep(2 * time.Minute) // until the abandoned closer has returned
		})
	})
}
