// Command systemd is a service that reports its state to systemd: READY=1 once
// it serves, and WATCHDOG=1 as long as it is well. From the fire on, it sends
// STOPPING=1 when a step of the shutdown begins, with the name of the step.
// EXTEND_TIMEOUT_USEC has the time that the step may take. As long as one step
// after another ends, systemd waits, even if that takes longer than
// TimeoutStopSec.
//
//	go build -o /tmp/quit-systemd ./systemd  # in examples/frameworks
//	systemd-run --user -u quit -p Type=notify -p TimeoutStopSec=3s \
//		-p WatchdogSec=4s /tmp/quit-systemd
//	systemctl --user status quit             # active (running)
//	systemctl --user stop quit               # takes 12 s; see status
//
// Start it again, and make it hang: this request holds a lock that all requests
// need. The service is no longer well, and after 4 s systemd ends it, with its
// stacks in the journal.
//
//	curl 'localhost:8080/?hold=1h'
//
// During the shutdown the watchdog does not act: the keep-alives go on until
// the end, however long the lock is held. The shutdown is limited nonetheless,
// as a whole by -timeout and step by step by the times that systemd was told.
// If the whole process stands still, no more messages come, and systemd ends
// it.
//
// The files quit.service and quit.socket are for a system. With the latter,
// systemd opens the port and passes it on: while the service restarts, clients
// wait, and none is refused. The program examples/restart needs no such socket:
// an old and a new process serve at the same time.
//
// The program also runs without systemd, and then sends no messages.
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
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	addr, flush := parseFlags(q)

	// From now on no signal kills the process.
	q.NotifySignal()

	watchdog, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		exit(1, err)
	}
	s := make(store, 1)
	bound, err := serve(q, &http.Server{
		Addr:        addr,
		Handler:     s,
		ReadTimeout: 10 * time.Second, // a slow client must not delay the shutdown
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	})
	if err != nil {
		exit(1, err)
	}
	for i := range 3 {
		q.RegisterCloser(shard(flush), quit.AfterDrain(), quit.Name(fmt.Sprint("shard ", i+1)))
	}

	fmt.Printf("listening on http://%v\n", bound)
	var m manager
	m.notify(daemon.SdNotifyReady)
	told := make(chan struct{})
	go func() { // ends with the shutdown; with q.Go the drain would wait for it
		defer close(told)
		m.tell(q, watchdog, s.isWell)
	}()
	err = q.WaitSignal()
	<-told
	if err != nil {
		exit(1, err)
	}
}

// parseFlags sets the time for the shutdown of q and returns the other flags.
func parseFlags(q *quit.QuitEvent) (addr string, flush time.Duration) {
	flags := flag.NewFlagSet("systemd", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, without the usage
	flags.StringVar(&addr, "addr", "127.0.0.1:8080",
		"listen on `address`, unless systemd does; port 0 picks one")
	flags.DurationVar(&flush, "flush", 4*time.Second,
		"time that each of the shards takes to be written to the disk")
	flags.DurationVar(&q.Timeout, "timeout", 5*time.Minute,
		"time for the whole stop; negative means no limit")

	err := flags.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println("usage: systemd [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		exit(2, err)
	}
	return addr, flush
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "systemd:", err)
	os.Exit(status)
}

// serve serves on the socket that systemd has passed, or else opens one.
func serve(q *quit.QuitEvent, srv *http.Server) (net.Addr, error) {
	sockets, err := activation.Listeners()
	switch {
	case err != nil:
		return nil, err
	case len(sockets) == 0:
		return quithttp.ListenAndServe(q, srv)
	case len(sockets) > 1 || sockets[0] == nil:
		return nil, fmt.Errorf("LISTEN_FDS=%d: want one socket, which listens", len(sockets))
	}
	quithttp.Serve(q, srv, sockets[0])
	return sockets[0].Addr(), nil
}

// store stands for a large cache that must be on disk in the end. It is a
// channel that serves as a lock, and holds a value while it is locked. Unlike a
// Mutex, it can be waited for together with a ctx.
type store chan struct{}

// ServeHTTP holds the lock for as long as the request says.
func (s store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hold, err := time.ParseDuration(cmp.Or(r.URL.Query().Get("hold"), "0s"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s <- struct{}{}
	time.Sleep(hold)
	<-s
	fmt.Fprintln(w, "hello")
}

// isWell waits for the lock, as all requests do. It returns false if ctx is
// done before that.
func (s store) isWell(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		<-s
		return true
	case <-ctx.Done():
		return false
	}
}

// shard is a part of the store.
type shard time.Duration

func (s shard) Close() error {
	time.Sleep(time.Duration(s))
	return nil
}
