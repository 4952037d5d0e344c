package recipes

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// EventStream sends server-sent events to each client. The function next waits
// for the event that follows the one with the id last, or until ctx is done.
// For a new client, last is "". An id is one line, and so is data: no newlines.
//
// The rule: a stream has no end, so the handler ends it at the fire. Otherwise
// the stream would take the server's whole share. The handler returns, so the
// client sees the regular end of the answer and not a reset. Thanks to the ids
// no event is lost: an EventSource connects again after the time of "retry",
// perhaps to another server, and sends the last id that it has received.
//
// A stream requested after the fire ends at once, with status 200: an
// EventSource that gets a 503 never connects again. A client that does not read
// delays the shutdown until the deadline of a write, and no longer.
func EventStream(q *quit.QuitEvent,
	next func(ctx context.Context, last string) (id, data string, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context()) // the client has gone,
		defer cancel()
		defer context.AfterFunc(q.Context(), cancel)() // or the fire has come

		out := http.NewResponseController(w)
		send := func(format string, args ...any) error {
			out.SetWriteDeadline(time.Now().Add(5 * time.Second))
			defer out.SetWriteDeadline(time.Time{}) // a stream of HTTP/2 would end at the deadline
			fmt.Fprintf(w, format, args...)
			return out.Flush()
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		err := send("retry: 1000\n\n") // 1 s, longer than the server waits for the client
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
