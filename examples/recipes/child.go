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

// StartChild starts cmd, which [exec.Command] has made, and stops it when its
// turn comes in the shutdown of q. The child and all processes that it has
// started get SIGTERM. If it has not ended by the end of its share, they get
// SIGKILL. That is a failure, unless quit.Ignore(context.DeadlineExceeded) is
// given. Processes that it leaves behind when it ends are killed, as in a
// container. That is not a failure either, unless one holds a pipe to the
// program for another second: see [exec.ErrWaitDelay].
//
// A child that fails by itself ends the program. "signal: killed" counts as a
// failure before the fire, but not after it. A child that ends with status 0
// changes nothing.
//
// The rule: the child has a process group of its own. Ctrl-C in the terminal
// does not reach it, so the parts that need it can be stopped first. One kill
// reaches its children too, unless they have left the group. The child cannot
// read from the terminal. [exec.CommandContext] with q.Context() would kill it
// at the fire, without a SIGTERM and without its children. Its Cancel and
// WaitDelay know neither the order nor the time of the shutdown.
//
// If counted goroutines use the child, start it with an event of its own that
// is registered AfterDrain. In systemd, set KillMode=mixed: otherwise the child
// gets SIGTERM together with the program. A forced end by a second Ctrl-C
// leaves the child behind, as SIGKILL does.
func StartChild(q *quit.QuitEvent, cmd *exec.Cmd, opts ...quit.Option) error {
	if !q.TryAddGoroutine() { // keeps the shutdown from ending during the start
		return nil // the program was asked to end: nothing is started
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // for processes left behind that hold a pipe to the program
	var group int               // the child's, negated; set before started is closed
	started, ended := make(chan struct{}), make(chan struct{})
	kill := func(s syscall.Signal) {
		if <-started; group != 0 { // 0 would be the program's own group
			syscall.Kill(group, s)
		}
	}
	// Before the start: a shutdown that begins meanwhile finds this closer,
	// which waits for the start. Registered during the drain, it would be
	// called after the drain, and the drain waits for the child.
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

// endedBy reports whether err says that one of the signals has ended the
// command. Some programs catch a signal, and then exit with 128 + its number.
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
