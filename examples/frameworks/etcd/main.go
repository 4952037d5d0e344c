// Command etcd is an HTTP service that can be found in etcd for as long as it can
// be reached, and not longer: its address is the value of the key
// services/<name>/<id>, which has a lease that is kept alive. If the lease is lost, since etcd is
// down or cannot be reached, the service goes on, and registers again once it can.
//
//	etcd --data-dir /tmp/etcd >/tmp/etcd.log 2>&1 &
//	go run ./etcd                                     # in examples/frameworks; then press Ctrl-C
//	ETCDCTL_API=3 etcdctl watch --prefix services/    # in a second terminal shows the key come and go
//	kill %1
//
// At the signal, the key is deleted first, and does not come back. Then the server stops,
// and the requests in flight are answered. If etcd does not answer, the stop goes
// on without it, in time, and the status is 1: the key is still there, until its
// lease expires. It is 1, too, if etcd cannot be reached at the start.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, not the whole usage
	addr := flags.String("addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	name := flags.String("name", "hello", "`name` of the service")
	id := flags.String("id", "", "`id` of this instance of it (default its address)")
	endpoints := flags.String("etcd", "http://127.0.0.1:2379", "`URLs` of etcd, with commas between them")
	ttl := flags.Duration("ttl", 10*time.Second, "how long the key lives after the process is gone, in full seconds")
	dialTimeout := flags.Duration("dial-timeout", 5*time.Second, "time to wait for etcd")
	flags.DurationVar(&q.Delay, "delay", 0, "time between the signal and the deletion of the key")
	flags.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop; negative means no limit")

	err := flags.Parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("usage: etcd [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return
	case err != nil:
		exit(2, err)
	case flags.NArg() > 0:
		exit(2, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case *ttl < time.Second || *dialTimeout <= 0:
		exit(2, errors.New("-ttl is a second at least, and -dial-timeout more than nothing"))
	}
	q.NotifySignal() // a signal while it starts stops it too

	client, err := clientv3.New(clientv3.Config{
		Endpoints:            strings.Split(*endpoints, ","),
		DialTimeout:          *dialTimeout,
		DialKeepAliveTime:    10 * time.Second, // a connection that died silently is noticed
		DialKeepAliveTimeout: *dialTimeout,
		Logger:               zap.NewNop(), // what matters of it is in the errors, or is in keep's line
	})
	if err != nil {
		exit(1, err)
	}

	// Stopped last: the client, once nobody uses it.
	q.RegisterCloser(client, quit.AfterDrain(), quit.Name("etcd client"))

	// Stopped second: the server.
	bound, err := quithttp.ListenAndServe(q, &http.Server{
		Addr:        *addr,
		Handler:     http.HandlerFunc(hello),
		ReadTimeout: 10 * time.Second, // a client that is slow to send must not hold up the stop
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	}, quit.Name("http"))
	if err != nil {
		exit(1, err)
	}

	// Stopped first: the registration. What keeps it has a context that the fire does
	// not cancel: the key has to stay alive until it is deleted, also while -delay lasts.
	if *id == "" {
		*id = bound.String()
	}
	ctx, stop := context.WithCancel(q.WorkContext())
	r := &registration{
		client: client, key: path.Join("services", *name, *id), url: "http://" + bound.String(),
		ttl: *ttl, limit: *dialTimeout, stop: stop,
	}
	q.RegisterQuitCloser(r, quit.Name("registration"), quit.Timeout(*dialTimeout))
	fmt.Println("listening on", r.url)
	q.Go(func(context.Context) error { return r.keep(ctx) }, quit.Name("keep registered"))

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "etcd:", err)
	os.Exit(status)
}

// registration is a key that is there while its lease is kept alive. No two of
// our leases ever have the key, so that to revoke the last is to delete it.
type registration struct {
	client   *clientv3.Client
	key, url string
	ttl      time.Duration
	limit    time.Duration      // for register
	stop     context.CancelFunc // of the context of keep

	mu    sync.Mutex       // held while registering; guards the field below
	lease clientv3.LeaseID // the last granted; 0: none
}

// keep registers, and registers again when that was lost, until ctx is done. Only
// at the start it is an error if that cannot be done.
func (r *registration) keep(ctx context.Context) error {
	for first := true; ; {
		alive, err := r.register(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return fmt.Errorf("no etcd at %v to register %s with: %w", r.client.Endpoints(), r.key, err)
		case err != nil:
			select {
			case <-time.After(500 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		first = false
		fmt.Println("registered", r.key)
		for range alive { // it ends when the lease is lost, or ctx is done
		}
		if ctx.Err() == nil {
			slog.Warn("registration lost, registering again", "key", r.key)
		}
	}
}

func (r *registration) register(ctx context.Context) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil { // nothing registers after Shutdown
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()

	// Lost is what we heard nothing of: it can be alive still.
	if err := r.revoke(limited); err != nil {
		return nil, err
	}
	lease, err := r.client.Grant(limited, int64(r.ttl/time.Second))
	if err != nil {
		return nil, err
	}
	r.lease = lease.ID // before the Put, which can fail and yet arrive
	if _, err := r.client.Put(limited, r.key, r.url, clientv3.WithLease(r.lease)); err != nil {
		return nil, err
	}
	return r.client.KeepAlive(ctx, r.lease)
}

// Shutdown deletes the key, for good: keep has ended by then, or its Put is
// on its way with a lease that is no more, which etcd refuses.
func (r *registration) Shutdown(ctx context.Context) error {
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.revoke(ctx); err != nil {
		return fmt.Errorf("%s may be there until its lease of %v expires: %w", r.key, r.ttl, err)
	}
	fmt.Println("deregistered", r.key)
	return nil
}

// revoke is called with mu held.
func (r *registration) revoke(ctx context.Context) error {
	if r.lease == 0 {
		return nil
	}
	_, err := r.client.Revoke(ctx, r.lease)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) { // which has expired
		return err
	}
	r.lease = 0
	return nil
}

// hello takes its time where it gets a d: its first word comes at once, the rest
// after that.
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
