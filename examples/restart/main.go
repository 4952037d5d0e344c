//go:build unix

// Command restart is replaced by its next version without losing a request. On
// SIGHUP it starts the program that is at its path at that time, hands its
// sockets over, and stops once the new process serves.
//
//	go build -o /tmp/restart ./examples/restart
//	/tmp/restart -unix=/tmp/restart.sock -pidfile=/tmp/restart.pid &
//	curl 'localhost:8080/?d=5s' &      # is answered by the old process,
//	sleep 1
//	kill -HUP $(cat /tmp/restart.pid)  # as often as you like
//	sleep 1
//	curl -d hello localhost:8080       # and this one by the new process
//	curl -d hello --unix-socket /tmp/restart.sock localhost
//	kill $(cat /tmp/restart.pid)       # in the background: no Ctrl-C
//
// To serve HTTPS as well, make a certificate:
//
//	cd /tmp
//	go run "$(go env GOROOT)/src/crypto/tls/generate_cert.go" -host=localhost
//
// Then add -https=127.0.0.1:8443 -cert=/tmp/cert.pem -key=/tmp/key.pem, and try
// it:
//
//	curl --cacert /tmp/cert.pem -d hello https://localhost:8443
//
// Install a new version with a rename, as mv does, or make the path a symlink
// and change that. If the successor ends before it serves, or does not serve
// within -ready-timeout, it is given up. The old process goes on, and prints
// the reason. A SIGHUP that arrives meanwhile is ignored, and the process
// prints a line. SIGTERM and Ctrl-C still stop the process, and with it a
// successor that is just starting.
//
// From the fire on, new connections go to the successor. The old process serves
// its connections for -delay more, and asks each client to leave. Then it
// stops: requests sent by then are answered. So no new connection is lost, and
// no request of a busy client, even with -delay=0. One case remains: a
// connection that was idle for all of -delay, and for the time that the
// shutdown waits for a client (a quarter of a second, or quithttp.Linger). It
// is closed, perhaps just when a request arrives. Most clients, Go's included,
// then repeat a GET but not a POST. Only a longer -delay helps.
//
// systemd passes the sockets of its .socket units in the same way. Their
// FileDescriptorName is http, https or unix, and the flags name no address:
//
//	systemd-socket-activate -l 127.0.0.1:8080 --fdname=http \
//		/tmp/restart -addr=
//
// It does not need SIGHUP: connections wait in its sockets during a restart.
//
// Each process has a pid of its own. Other supervisors find it in the pidfile.
// This does not work as PID 1 of a container, which ends with that process.
// SIGHUP restarts the program under nohup too.
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

	// Called first: until then, each of these signals would kill the process.
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

	// After the drain, which waits until a rejected successor has ended. So the
	// file names this process, or one that serves.
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
		return removePID(opts.pidfile)
	}), quit.AfterDrain(), quit.Name("pidfile"))

	for _, s := range sockets {
		srv := &http.Server{
			// After the fire it answers with Connection: close.
			Handler:     quithttp.Track(q, http.HandlerFunc(work)),
			ReadTimeout: 10 * time.Second,
			// Longer than most load balancers keep an idle connection: if the
			// server closes it first, a request on its way is lost.
			IdleTimeout: 2 * time.Minute,
		}
		closed := quit.Ignore(net.ErrClosed) // by the program itself, below
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

	// Go starts nothing after the fire: a successor that was told to stop
	// during its start does not say that it serves.
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
					// These are our copies of the sockets: waiting connections
					// are the successor's. The shutdown comes after the delay,
					// and would accept some of them until then.
					for _, s := range sockets {
						s.Close()
					}
					return nil
				}
				// A late successor has written its own pid.
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

// removeUnix makes a shutdown without a successor remove the file of the Unix
// socket. It is registered last, and so called before the server is stopped:
// once no client can connect any longer, the server answers all clients that
// have connected.
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

// work answers with the pid of the process and the body of the request, after d
// if that is set.
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
	case <-r.Context().Done(): // the client is gone, or time has run out
		http.Error(w, context.Cause(r.Context()).Error(), http.StatusServiceUnavailable)
	}
}
