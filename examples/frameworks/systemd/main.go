// Command systemd is a service that tells systemd how it is: READY=1 once it
// serves, and, from the fire on, STOPPING=1 with each step of the stop that
// begins, its name, and how long it may take, as EXTEND_TIMEOUT_USEC. So
// TimeoutStopSec, in quit.service, can be short, however long the whole stop
// may take. As long as one step after the other ends, systemd waits. If the
// program hangs, no more messages come, and it is killed once the time promised
// for the step is over.
//
//	go build -o /tmp/quit-systemd ./systemd    # in examples/frameworks
//	systemd-run --user -u quit -p Type=notify -p TimeoutStopSec=3s /tmp/quit-systemd
//	systemctl --user status quit               # active (running)
//	systemctl --user stop quit                 # takes 12 s, and status says what it stops
//
// Without systemd it runs as well, and tells nobody.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	flush := flag.Duration("flush", 4*time.Second, "time that each of the shards takes to be written to the disk")
	flag.DurationVar(&q.Timeout, "timeout", 5*time.Minute, "time for the whole stop")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(2, fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}

	// From now on no signal ends the program halfway.
	q.NotifySignal()

	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	bound, err := quithttp.ListenAndServe(q, &http.Server{
		Addr:        *addr,
		Handler:     handler,
		ReadTimeout: 10 * time.Second, // a client that is slow to send must not hold up the stop
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	})
	if err != nil {
		exit(1, err)
	}
	for i := range 3 {
		q.RegisterCloser(shard(*flush), quit.AfterDrain(), quit.Name(fmt.Sprint("shard ", i+1)))
	}

	fmt.Printf("listening on http://%v\n", bound)
	notify(daemon.SdNotifyReady)
	told := make(chan struct{})
	go func() { // ends with the shutdown; q.Go would have the drain wait for it
		defer close(told)
		tellSteps(q)
	}()
	err = q.WaitSignal()
	<-told
	if err != nil {
		exit(1, err)
	}
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "systemd:", err)
	os.Exit(status)
}

// shard stands for a large cache of what is to be on the disk in the end.
type shard time.Duration

func (s shard) Close() error {
	time.Sleep(time.Duration(s))
	return nil
}

// tellSteps tells systemd of each step that begins, which means that the one
// before has ended, or was abandoned. It returns when the shutdown has ended.
func tellSteps(q *quit.QuitEvent) {
	told := 0
	for {
		r := q.Report() // first what has begun, in that order, and then what is planned
		for ; told < len(r.Steps) && !r.Steps[told].Start.IsZero(); told++ {
			notify(stopping(r.Steps[told]))
		}
		if !r.Ended.IsZero() {
			return
		}
		<-r.Changed()
	}
}

func stopping(s quit.Step) string {
	state := daemon.SdNotifyStopping + "\nSTATUS=Stopping: " + s.Name
	if !s.Deadline.IsZero() { // else there is no limit, and nothing to promise
		// It is over after its share and an eighth, and in another second that
		// is told.
		over := s.Deadline.Add(s.Deadline.Sub(s.Start) / 8)
		state += fmt.Sprint("\nEXTEND_TIMEOUT_USEC=", (max(0, time.Until(over)) + time.Second).Microseconds())
	}
	return state
}

// mute is set when systemd could not be told something.
var mute atomic.Bool

// notify tells systemd. If that fails, the service goes on and says so, once.
// The program waits for it, so it must not hang where systemd does.
func notify(state string) {
	if mute.Load() {
		return
	}
	sent := make(chan error, 1)
	go func() {
		_, err := daemon.SdNotify(false, state) // nil without systemd
		sent <- err
	}()
	var err error
	select {
	case err = <-sent:
	case <-time.After(time.Second):
		err = errors.New("nobody reads what it is told")
	}
	if err != nil && !mute.Swap(true) {
		slog.Warn("systemd was not told", "err", err)
	}
}
