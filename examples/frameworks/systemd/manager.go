package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/gracefulgo/graceful/quit"
)

// manager is systemd. Its methods must not be called concurrently.
type manager struct {
	deaf bool // the last message did not arrive
}

// tell tells systemd of each step that begins. By then the step before it has
// ended or was abandoned. If there is a watchdog, tell also sends a keep-alive
// twice in each of its intervals. It returns when the shutdown has ended.
//
// Before the fire, it sends a keep-alive if isWell reports true. isWell may
// block, and then none is sent. During the shutdown, keep-alives are always
// sent: the work may take long and hold any lock, and quit abandons each step
// that does not end. The keep-alives must not cease during the shutdown, since
// systemd arms its watchdog with each of them.
func (m *manager) tell(q *quit.QuitEvent, watchdog time.Duration,
	isWell func(context.Context) bool) {
	var tick <-chan time.Time // never, without a watchdog
	if watchdog > 0 {
		ticker := time.NewTicker(max(watchdog/2, 1))
		defer ticker.Stop()
		tick = ticker.C
	}
	told := 0
	for {
		r := q.Report() // the steps that have begun, in order, and then the planned ones
		for ; told < len(r.Steps) && !r.Steps[told].Start.IsZero(); told++ {
			m.notify(stopping(r.Steps[told]))
		}
		if !r.Ended.IsZero() {
			return
		}
		select {
		case <-r.Changed():
		case <-tick:
			if isWell(q.Context()) || q.HasFired() { // the fire ends isWell, too
				m.notify(daemon.SdNotifyWatchdog)
			}
		}
	}
}

func stopping(s quit.Step) string {
	state := daemon.SdNotifyStopping + "\nSTATUS=Stopping: " + s.Name
	if !s.Deadline.IsZero() { // otherwise there is no limit, and nothing to promise
		// A step is over after its share and an eighth of the share. Another
		// second is for the message.
		over := s.Deadline.Add(s.Deadline.Sub(s.Start) / 8)
		left := max(0, time.Until(over)) + time.Second
		state += fmt.Sprint("\nEXTEND_TIMEOUT_USEC=", left.Microseconds())
	}
	return state
}

// notify tells systemd. If that fails, the service goes on, and logs the first
// failure.
func (m *manager) notify(state string) {
	err := m.send(state)
	if err != nil && !m.deaf {
		slog.Warn("systemd was not told", "err", err)
	}
	m.deaf = err != nil
}

// send is like daemon.SdNotify, with a time limit. Without the limit it would
// hang if systemd did, and the end of the program waits for its last message.
func (m *manager) send(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil // without systemd
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	patience := time.Second
	if m.deaf {
		patience = 10 * time.Millisecond
	}
	conn.SetWriteDeadline(time.Now().Add(patience))
	_, err = conn.Write([]byte(state))
	return err
}
