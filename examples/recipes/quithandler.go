package recipes

import (
	"io"
	"net/http"

	"github.com/gracefulgo/graceful/quit"
)

// QuitHandler returns a handler that ends the program at POST /quit, with 202.
// A GET is refused, so no crawler or preview ends the program. So is a request
// from another site's page: a browser would send one even to localhost. Serve
// it on an admin address all the same.
//
// The rule: the handler fires, and does not wait. Shutdown or GracefulStop
// would wait for the server, which waits for this request. The answer is sent
// before the fire, so the client gets it regardless of the shutdown.
//
// The handler cannot hang: Fire never blocks.
func QuitHandler(q *quit.QuitEvent) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /quit", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, "quitting\n")
		http.NewResponseController(w).Flush()
		q.Fire()
	})
	return http.NewCrossOriginProtection().Handler(mux)
}
