package recipes

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// EventStream sends server-sent events to each client. The func next waits for
// the event that follows the one with the id last, or until ctx is done; last
// is "" for a new client. An id and data are a line each, with no newline.
//
// The rule: a stream has no end, so the handler ends it at the fire; else it
// takes the server's whole share of the time. It returns, and so the client
// sees the regular end of the answer and not a reset. The ids are why nothing
// is lost: an EventSource comes back after the time of "retry", elsewhere, with
// the last id that it has got.
//
// A stream that is asked for after the fire ends at once, with status 200: an
// EventSource that gets a 503 never comes back. A client that does not read
// holds up the stop until the deadline of a write, and no longer.
func EventStream(q *quit.QuitEvent,
	next func(ctx context.Context, last string) (id, data string, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context()) // the client has gone,
		defer cancel()
		defer context.AfterFunc(q.Context(), cancel)() // or the fire has come

		out := http.NewResponseController(w)
		send := func(format string, args ...any) error {
			out.SetWriteDeadline(time.Now().Add(5 * time.Second))
			defer out.SetWriteDeadline(time.Time{}) // a stream of HTTP/2 would end by it
			fmt.Fprintf(w, format, args...)
			return out.Flush()
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		err := send("retry: 1000\n\n") // later than the server waits for it
		for last := r.Header.Get("Last-Event-ID"); err == nil && ctx.Err() == nil; {
			var data string
			if last, data, err = next(ctx, last); err == nil {
				err = send("id: %s\ndata: %s\n\n", last, data)
			}
		}
		if q.HasFired() {
			send("event: restart\ndata: come back\n\n")
		}
	})
}
