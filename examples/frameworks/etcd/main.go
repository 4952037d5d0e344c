// Command etcd is an HTTP service that can be found in etcd for as long as it
// can be reached, and not longer. Its address is the value of the key
// services/<name>/<id>, which has a lease that is kept alive. The id is another
// one for each process.
//
//	etcd --data-dir /tmp/etcd >/tmp/etcd.log 2>&1 &
//	go run ./etcd                                     # in examples/frameworks; then press Ctrl-C
//	ETCDCTL_API=3 etcdctl watch --prefix services/    # in a second terminal shows the key come and go
//	kill %1
//
// At the signal, the key is deleted first, and does not come back. Then the
// server stops, and the requests in flight are answered.
//
// If etcd cannot be reached at the start, or lets nobody in, nothing is
// started, and the status is 1. If the lease is lost later, since etcd is down
// or cannot be reached, the service goes on, and registers again once it can.
// If etcd does not answer at the stop, that goes on without it, in time, and
// the status is 1: the key is there until its lease expires.
//
// With -addr=:8080 it listens on all addresses, and registers the one of the
// machine that others reach. The password of -user is in ETCD_PASSWORD.
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
	q.NotifySignal() // a signal while it starts stops it too

	host, err := advertise.Host(o.addr) // to register
	if err != nil {
		exit(1, err)
	}
	// No two processes have the same id: a key that a crash has left is not
	// ours.
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

// connect returns a client of an etcd that answers, and lets it in. A signal
// ends the wait for that.
func connect(q *quit.QuitEvent, o options, key string) (*clientv3.Client, error) {
	ctx, cancel := context.WithCancel(context.Background()) // of the client, which outlives the fire
	defer context.AfterFunc(q.Context(), cancel)()
	client, err := clientv3.New(clientv3.Config{
		Context:              ctx,
		Endpoints:            strings.Split(o.endpoints, ","),
		Username:             o.user, // etcd 3.4 may not let it in again once etcd has restarted
		Password:             os.Getenv("ETCD_PASSWORD"),
		DialTimeout:          o.dialTimeout,
		DialKeepAliveTime:    10 * time.Second, // a connection that died silently is noticed
		DialKeepAliveTimeout: o.dialTimeout,
		Logger:               zap.NewNop(), // what matters of it is in the errors, or is in keep's line
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

// serve starts all, and registers how it is stopped.
func serve(q *quit.QuitEvent, o options, host, key string, client *clientv3.Client) {
	// Stopped last: the client, once nobody uses it.
	q.RegisterCloser(client, quit.AfterDrain(), quit.Name("etcd client"))

	// Stopped second: the server.
	bound, err := quithttp.ListenAndServe(q, &http.Server{
		Addr:        o.addr,
		Handler:     http.HandlerFunc(hello),
		ReadTimeout: 10 * time.Second, // a client that is slow to send must not hold up the stop
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	}, quit.Name("http"))
	if err != nil {
		exit(1, err)
	}

	// Stopped first: the registration. What keeps it has a context that the
	// fire does not cancel: the key has to stay alive until it is deleted, and
	// that is after -delay.
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
// program where there is nothing to start.
func parseFlags(q *quit.QuitEvent) (o options) {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, not the whole usage
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

// hello takes its time where it gets a d: its first word comes at once, the
// rest after that.
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
	case <-r.Context().Done(): // the client has gone, or there is no time left
		panic(http.ErrAbortHandler)
	}
}
