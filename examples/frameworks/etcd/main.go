// Command etcd is an HTTP service that is registered in etcd only while it can
// be reached. Its address is the value of the key services/<name>/<id>. The key
// has a lease that is kept alive. Each process has an id of its own.
//
//	etcd --data-dir /tmp/etcd >/tmp/etcd.log 2>&1 &
//	ETCDCTL_API=3 etcdctl watch --prefix services/ &  # shows the key
//	go run ./etcd   # in examples/frameworks; press Ctrl-C
//
// At the signal, the key is deleted first, and does not come back. Then the
// server stops, and answers the requests in flight.
//
// If etcd cannot be reached at the start, or does not accept the password,
// nothing is started, and the exit status is 1. If the lease is lost later,
// because etcd is down or cannot be reached, the service goes on, and registers
// again once it can. If etcd does not answer during the shutdown, the shutdown
// still ends in time. The exit status is then 1, and the key stays until its
// lease expires.
//
// With -addr=:8080 the service listens on all addresses, and registers an
// address of the machine that others can reach. The password for -user is in
// ETCD_PASSWORD.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/gracefulgo/graceful/examples/frameworks/internal/advertise"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	o := parseFlags(q)
	q.NotifySignal() // a signal during startup stops it too

	host, err := advertise.Host(o.addr) // the host to register
	if err != nil {
		exit(1, err)
	}
	// Each process has an id of its own: a key that a crash has left behind
	// belongs to another process.
	key := "services/" + o.name + "/" + rand.Text()

	client, err := connect(q, o, key)
	switch {
	case q.HasFired(): // while it waited for etcd
	case err != nil:
		exit(1, err)
	default:
		serve(q, o, host, key, client)
	}

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

// connect returns a client of an etcd that answers and accepts it. A signal
// ends the wait.
func connect(q *quit.QuitEvent, o options, key string) (*clientv3.Client, error) {
	// The context of the client, which outlives the fire.
	ctx, cancel := context.WithCancel(context.Background())
	defer context.AfterFunc(q.Context(), cancel)()
	client, err := clientv3.New(clientv3.Config{
		Context:              ctx,
		Endpoints:            strings.Split(o.endpoints, ","),
		Username:             o.user, // otherwise etcd 3.4 may reject it after a restart of etcd
		Password:             os.Getenv("ETCD_PASSWORD"),
		DialTimeout:          o.dialTimeout,
		DialKeepAliveTime:    10 * time.Second, // detects a connection that died silently
		DialKeepAliveTimeout: o.dialTimeout,
		Logger:               zap.NewNop(), // the errors, and keep's line, say enough
	})
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, o.dialTimeout)
		defer cancel()
		_, err = client.Get(limited, key)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", o.dialTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("etcd at %s: %w", o.endpoints, err)
	}
	return client, nil
}

// serve starts everything, and registers its closers.
func serve(q *quit.QuitEvent, o options, host, key string, client *clientv3.Client) {
	// Stopped last: the client, when nothing uses it any more.
	q.RegisterCloser(client, quit.AfterDrain(), quit.Name("etcd client"))

	// Stopped second: the server.
	bound, err := quithttp.ListenAndServe(q, &http.Server{
		Addr:        o.addr,
		Handler:     http.HandlerFunc(hello),
		ReadTimeout: 10 * time.Second, // a slow client must not delay the shutdown
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	}, quit.Name("http"))
	if err != nil {
		exit(1, err)
	}

	// Stopped first: the registration. The fire does not cancel the context of
	// keep: the key must stay alive until it is deleted, and that is after
	// -delay.
	ctx, stop := context.WithCancel(q.WorkContext())
	r := &registration{
		client: client, key: key, url: advertise.URL("http", host, bound),
		ttl: o.ttl, limit: o.dialTimeout, stop: stop,
	}
	q.RegisterQuitCloser(r, quit.Name("registration"), quit.Timeout(o.dialTimeout))
	fmt.Printf("listening on http://%v\n", bound)
	q.Go(func(context.Context) error { return r.keep(ctx) }, quit.Name("keep registered"))
}

type options struct {
	addr, name, endpoints, user string
	ttl, dialTimeout            time.Duration
}

// parseFlags sets the fields of q and returns the other flags. It ends the
// program if there is nothing to start.
func parseFlags(q *quit.QuitEvent) (o options) {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, without the usage
	flags.StringVar(&o.addr, "addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	flags.StringVar(&o.name, "name", "hello", "`name` of the service")
	flags.StringVar(&o.endpoints, "etcd", "http://127.0.0.1:2379",
		"`URLs` of etcd, with commas between them")
	flags.StringVar(&o.user, "user", "",
		"`name` of a user of etcd, whose password is in ETCD_PASSWORD")
	flags.DurationVar(&o.ttl, "ttl", 10*time.Second,
		"how long the key lives after the process is gone, in full seconds")
	flags.DurationVar(&o.dialTimeout, "dial-timeout", 5*time.Second, "time to wait for etcd")
	flags.DurationVar(&q.Delay, "delay", 0, "time between the signal and the deletion of the key")
	flags.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout,
		"time for the whole stop; negative means no limit")

	err := flags.Parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("usage: etcd [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.name == "" || strings.Contains(o.name, "/"):
		err = fmt.Errorf("-name=%q is no part of a key", o.name)
	case o.ttl < time.Second || o.dialTimeout <= 0:
		err = errors.New("-ttl is a second at least, and -dial-timeout more than nothing")
	case (o.user == "") != (os.Getenv("ETCD_PASSWORD") == ""):
		err = errors.New("-user needs ETCD_PASSWORD, and ETCD_PASSWORD needs -user")
	}
	if err != nil {
		exit(2, err)
	}
	return o
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "etcd:", err)
	os.Exit(status)
}

// hello writes its first word at once, and the rest after d, if the request has
// one.
func hello(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.FormValue("d"))
	if err != nil && r.FormValue("d") != "" {
		http.Error(w, "d is a duration", http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, "Hello,")
	http.NewResponseController(w).Flush()
	select {
	case <-time.After(d):
		fmt.Fprintln(w, " world!")
	case <-r.Context().Done(): // the client is gone, or time has run out
		panic(http.ErrAbortHandler)
	}
}
