//go:build unix

package recipes

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// StartChild starts cmd, which [exec.Command] has made, and stops it at its
// turn in the stop of q: SIGTERM to it and to all that it has started, and
// SIGKILL to those if it has not ended when its share of the time has. That one
// is a failure; with quit.Ignore(context.DeadlineExceeded) it is none. Whatever
// it leaves behind when it ends is killed, as in a container. That is no
// failure either, unless it holds a pipe to us for another second:
// [exec.ErrWaitDelay].
//
// A child that fails by itself ends the program; "signal: killed" counts then,
// and not after the fire. A child that ends with status 0 has ended, no more.
//
// The rule: the child has a process group of its own. Ctrl-C in the terminal
// does not reach it, so what needs it can be stopped before it, and one kill
// reaches its children, unless they have left the group. It cannot read from
// the terminal then. [exec.CommandContext] with q.Context() kills it at the
// fire, without a SIGTERM, and not its children; its Cancel and WaitDelay know
// neither the order nor the time of the stop.
//
// If counted goroutines use the child, start it with an event of its own, which
// is registered AfterDrain. In systemd, set KillMode=mixed: else the child gets
// SIGTERM when the program does. A forced end by a second Ctrl-C leaves the
// child behind, as SIGKILL does.
func StartChild(q *quit.QuitEvent, cmd *exec.Cmd, opts ...quit.Option) error {
	if !q.TryAddGoroutine() { // so nothing is closed for good while it starts
		return nil // the program was asked to end: nothing is started
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // for those it leaves behind, if they hold a pipe to us
	var group int               // the child's, negated; set before started is closed
	started, ended := make(chan struct{}), make(chan struct{})
	kill := func(s syscall.Signal) {
		if <-started; group != 0 { // which would be our own
			syscall.Kill(group, s)
		}
	}
	// Before the start: a stop that comes meanwhile has this as a closer, which
	// waits for the start. Registered during the drain, it would be called
	// after that, and the drain waits for the child.
	unregister := q.RegisterQuitCloser(quit.Graceful(
		func() { kill(syscall.SIGTERM); <-ended },
		func() { kill(syscall.SIGKILL) },
	), append([]quit.Option{quit.Name(cmd.Args[0])}, opts...)...)
	var err error
	if !q.HasFired() { // since it was registered
		err = cmd.Start()
	}
	if cmd.Process == nil {
		close(started)
		close(ended)
		unregister()
		q.DoneGoroutine()
		return err
	}
	group = -cmd.Process.Pid
	close(started)
	go func() {
		defer q.DoneGoroutine()
		err := cmd.Wait()
		syscall.Kill(group, syscall.SIGKILL)
		close(ended)
		unregister()
		if err != nil && !(q.HasFired() && endedBy(err, syscall.SIGTERM, syscall.SIGKILL)) {
			q.Fail(fmt.Errorf("%s: %w", cmd.Args[0], err))
		}
	}()
	return nil
}

// endedBy reports whether err is that of a command that one of the signals has
// ended. Some programs catch a signal, and then end with 128 + its number.
func endedBy(err error, signals ...syscall.Signal) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status := exit.Sys().(syscall.WaitStatus)
	return slices.ContainsFunc(signals, func(s syscall.Signal) bool {
		return status.Signaled() && status.Signal() == s || status.ExitStatus() == 128+int(s)
	})
}
