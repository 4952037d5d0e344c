package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Why a piece of work was stopped. The cause says which: the error of the context is
// the same for both, DeadlineExceeded.
var (
	errLimit = errors.New("the server's limit for a request has passed")
	errOwn   = errors.New("the request's own timeout has passed")
)

// connKey is the key of the connection's number in a context.
type connKey struct{}

// newServer returns a server whose contexts are a tree:
//
//	root        lives on after the fire; cancelled, with the cause, when the time has run out
//	server      has the *http.Server as a value
//	connection  has its number
//	request     is cancelled when its client goes away, and has the server's limit
//	work        has a timeout that its client asked for
//
// Each has the values of those above it and ends with them at the latest. None ends those above it,
// or beside it.
//
// BaseContext, the root, is left to quithttp.Serve: it derives it from WorkContext, and
// tells the requests that time has run out before it closes their connections.
// And net/http adds the server.
func newServer(addr net.Addr, limit time.Duration, h http.Handler) *http.Server {
	var conns atomic.Int64
	return &http.Server{
		Addr: addr.String(), // a value for the requests; the listener is open
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conns.Add(1))
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeoutCause(r.Context(), limit, errLimit)
			defer cancel()
			h.ServeHTTP(w, r.WithContext(ctx))
		}),
		ReadTimeout: 10 * time.Second, // a client that is slow to send must not hold up the stop
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	}
}

// work stands for all that takes its time.
func work(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.FormValue("d"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx := r.Context()
	if s := r.FormValue("timeout"); s != "" {
		timeout, err := time.ParseDuration(s)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		// Within the limit: the earlier of the two is the one that counts.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errOwn)
		defer cancel()
	}

	// What is above: the server and the connection.
	who := fmt.Sprintf("%s, connection %d", ctx.Value(http.ServerContextKey).(*http.Server).Addr, ctx.Value(connKey{}))
	log.Printf("%s: working for %v", who, d)
	select {
	case <-time.After(d):
		log.Printf("%s: worked for %v", who, d)
		fmt.Fprintf(w, "%s: worked for %v\n", who, d)
	case <-ctx.Done():
		why, status := context.Cause(ctx), http.StatusServiceUnavailable
		switch why {
		case errLimit, errOwn:
			status = http.StatusGatewayTimeout
		case context.Canceled: // net/http has no better word for it
			why = errors.New("the client has gone")
		}
		log.Printf("%s: stopped: %v (the request: %v)", who, why, r.Context().Err())
		http.Error(w, fmt.Sprintf("%s: stopped: %v", who, why), status)
	}
}
