//go:build unix

// Command restart is replaced by its next version without losing a request: on
// SIGHUP it starts the program that is at its path by then, hands its socket
// over, and stops once the new process serves.
//
//	go build -o /tmp/restart ./examples/restart
//	/tmp/restart -pidfile=/tmp/restart.pid &
//	curl 'localhost:8080/?d=5s' &        # is answered by the old process,
//	sleep 1
//	kill -HUP $(cat /tmp/restart.pid)    # as often as you like
//	sleep 1
//	curl -d hello localhost:8080         # and this by the new one
//	kill $(cat /tmp/restart.pid)         # Ctrl-C does not reach what runs in the background
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
// Each process has a pid of its own. Supervisors find it in the pidfile, or, as
// systemd with Type=notify, want to be told (MAINPID=). As PID 1 of a container
// this does not work: all ends when that does. SIGHUP restarts it under nohup
// too.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
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
	addr, pidfile, readyTimeout := parseFlags(q)

	// Before anything else: until then, each of these signals would end the
	// process.
	q.NotifySignal()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)

	path, err := programPath()
	if err != nil {
		exit(1, err)
	}
	ln, serving, err := listen(addr)
	if err != nil {
		exit(1, err)
	}

	// After the drain, which waits for a successor that is being ended: so the
	// file names either us or one that serves.
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error { return removePID(pidfile) }),
		quit.AfterDrain(), quit.Name("pidfile"))

	quithttp.Serve(q, &http.Server{
		Handler:     quithttp.Track(q, http.HandlerFunc(work)), // after the fire: Connection: close
		ReadTimeout: 10 * time.Second,
		// Longer than most load balancers keep an idle connection: if the
		// server closes it first, a request that is on its way is lost.
		IdleTimeout: 2 * time.Minute,
	}, ln, quit.Ignore(net.ErrClosed)) // we close it below

	// Go starts nothing after the fire: a successor that was told to stop while
	// it started does not say that it serves.
	q.Go(func(context.Context) error {
		if err := writePID(pidfile); err != nil {
			return err
		}
		fmt.Printf("pid %d: listening on http://%v\n", os.Getpid(), ln.Addr())
		serving()
		for {
			select {
			case <-hangups:
				err := handOver(q, path, ln, readyTimeout, hangups)
				if err == nil {
					// Our copy of the socket: what waits in it is the
					// successor's. The stop, which comes after the delay, would
					// take a part of that until then.
					ln.Close()
					return nil
				}
				err = errors.Join(err, writePID(pidfile)) // one that was late has written its own
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

// parseFlags sets the fields of q and returns the other flags.
func parseFlags(q *quit.QuitEvent) (addr, pidfile string, readyTimeout time.Duration) {
	flags := flag.NewFlagSet("restart", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, not the whole usage
	flags.StringVar(&addr, "addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	flags.StringVar(&pidfile, "pidfile", "", "write the pid of the process that serves to `file`")
	flags.DurationVar(&readyTimeout, "ready-timeout", 10*time.Second, "time for a successor to serve, and then again to end if it does not")
	flags.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop; negative means no limit")
	flags.DurationVar(&q.Delay, "delay", time.Second, "part of that in which connections are still served, and clients asked to leave")

	err := flags.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println("usage: restart [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err == nil && readyTimeout <= 0 {
		err = fmt.Errorf("-ready-timeout=%v is no time", readyTimeout)
	}
	if err != nil {
		exit(2, err)
	}
	return addr, pidfile, readyTimeout
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "restart:", err)
	os.Exit(status)
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
