//go:build unix

// Command restart is replaced by its next version without losing a request: on
// SIGHUP it starts the program that is at its path by then, hands its sockets
// over, and stops once the new process serves.
//
//	go build -o /tmp/restart ./examples/restart
//	/tmp/restart -unix=/tmp/restart.sock -pidfile=/tmp/restart.pid &
//	curl 'localhost:8080/?d=5s' &        # is answered by the old process,
//	sleep 1
//	kill -HUP $(cat /tmp/restart.pid)    # as often as you like
//	sleep 1
//	curl -d hello localhost:8080         # and this by the new one
//	curl -d hello --unix-socket /tmp/restart.sock localhost
//	kill $(cat /tmp/restart.pid)         # Ctrl-C does not reach what runs in the background
//
// To serve HTTPS as well, make a certificate, and add -https=127.0.0.1:8443
// -cert=/tmp/cert.pem -key=/tmp/key.pem:
//
//	(cd /tmp && go run "$(go env GOROOT)/src/crypto/tls/generate_cert.go" -host=localhost)
//	curl --cacert /tmp/cert.pem -d hello https://localhost:8443
//
// Put a new version there by a rename, as mv does, or make the path a symlink
// and change that. A successor that ends before it serves, or does not serve
// within -ready-timeout, is given up: the old process goes on, and says why. A
// SIGHUP that comes meanwhile is ignored, with a line. SIGTERM and Ctrl-C stop
// it as always, and the successor that is being started too.
//
// New connections are the successor's from the fire on. Those that the old
// process has it serves for -delay more, and asks each client to leave. Then it
// stops: what has been sent by then is answered. So no new connection is lost,
// and no request of a client that is busy, even with -delay=0. What is left is
// a connection on which nothing was asked for all of -delay and for the time
// that the stop waits for a client, a quarter of a second or what
// quithttp.Linger says: it is closed, perhaps just when a request comes. Most
// clients, Go's too, then repeat a GET but not a POST: a longer -delay is all
// that helps.
//
// systemd passes sockets in the same way, those of .socket units. Their
// FileDescriptorName is http, https or unix, and the flags name no address:
//
//	systemd-socket-activate -l 127.0.0.1:8080 --fdname=http /tmp/restart -addr=
//
// It has no need of SIGHUP: connections wait in its sockets during a restart.
//
// Each process has a pid of its own. Other supervisors find it in the pidfile.
// As PID 1 of a container this does not work: all ends when that does. SIGHUP
// restarts it under nohup too.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	opts := parseFlags(q)

	// Before anything else: until then, each of these signals would end the
	// process.
	q.NotifySignal()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)

	path, err := programPath()
	if err != nil {
		exit(1, err)
	}
	sockets, predecessor, err := inherit()
	if err != nil {
		exit(1, err)
	}
	sockets, config, err := opts.open(sockets)
	if err != nil {
		exit(1, err)
	}

	// After the drain, which waits for a successor that is being ended: so the
	// file names either us or one that serves.
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
		return removePID(opts.pidfile)
	}), quit.AfterDrain(), quit.Name("pidfile"))

	for _, s := range sockets {
		srv := &http.Server{
			// After the fire it answers with Connection: close.
			Handler:     quithttp.Track(q, http.HandlerFunc(work)),
			ReadTimeout: 10 * time.Second,
			// Longer than most load balancers keep an idle connection: if the
			// server closes it first, a request that is on its way is lost.
			IdleTimeout: 2 * time.Minute,
		}
		closed := quit.Ignore(net.ErrClosed) // by us, below
		if s.name == "https" {
			srv.TLSConfig = config.Clone() // net/http changes it
			quithttp.ServeTLS(q, srv, s.Listener, "", "", quit.Name(s.name), closed)
		} else {
			quithttp.Serve(q, srv, s.Listener, quit.Name(s.name), closed)
		}
	}
	if predecessor == nil {
		removeUnix(q, opts.unix)
	}

	// Go starts nothing after the fire: a successor that was told to stop while
	// it started does not say that it serves.
	q.Go(func(context.Context) error {
		if err := writePID(opts.pidfile); err != nil {
			return err
		}
		fmt.Printf("pid %d: listening on %v\n", os.Getpid(), sockets)
		if predecessor != nil && takeOver(predecessor) {
			removeUnix(q, opts.unix)
		}
		for {
			select {
			case <-hangups:
				err := handOver(q, path, sockets, opts.readyTimeout, hangups)
				if err == nil {
					// Our copies of the sockets: what waits in them is the
					// successor's. The stop, which comes after the delay, would
					// take a part of that until then.
					for _, s := range sockets {
						s.Close()
					}
					return nil
				}
				// One that was late has written its own.
				err = errors.Join(err, writePID(opts.pidfile))
				fmt.Fprintf(os.Stderr, "restart: pid %d has no successor: %v\n", os.Getpid(), err)
			case <-q.Done():
				return nil
			}
		}
	}, quit.Name("restart"))

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
	fmt.Printf("pid %d: stopped\n", os.Getpid())
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "restart:", err)
	os.Exit(status)
}

// removeUnix has the file of the Unix socket removed by a stop without a
// successor. It comes last, and so is called before the server's stop: once
// nobody can connect any longer, that answers all who have.
func removeUnix(q *quit.QuitEvent, path string) {
	if path == "" {
		return
	}
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
		if isReplaced(q) {
			return nil
		}
		return os.Remove(path)
	}), quit.Name("unix socket"), quit.Ignore(fs.ErrNotExist))
}

// work says which process answers, and what it was sent; after d, if it has
// one.
func work(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	d, dErr := time.ParseDuration(cmp.Or(r.URL.Query().Get("d"), "0s"))
	if err := errors.Join(err, dErr); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(d):
		fmt.Fprintf(w, "pid %d: %s\n", os.Getpid(), body)
	case <-r.Context().Done(): // the client has gone, or there is no time left
		http.Error(w, context.Cause(r.Context()).Error(), http.StatusServiceUnavailable)
	}
}
