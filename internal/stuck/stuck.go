// Package stuck is a program whose shutdown hangs. The documentation shows its
// report. Tests run it in a synctest bubble, where the shutdown takes no real
// time and the report is always the same.
package stuck

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// Reader is a closer that waits for an answer that never comes.
type Reader struct{ acknowledged chan struct{} }

func (r *Reader) Close() error { return r.leaveGroup() }

func (r *Reader) leaveGroup() error {
	<-r.acknowledged
	return nil
}

// Shutdown returns an event that was shut down, with a closer that hangs until
// release is called, and a closer that failed.
func Shutdown() (q *quit.QuitEvent, release func()) {
	q = &quit.QuitEvent{Delay: 2 * time.Second, Logger: slog.New(slog.DiscardHandler)}
	hang := make(chan struct{})

	q.RegisterStopFunc(sleep(40*time.Millisecond), quit.Name("database"), quit.AfterDrain())
	q.RegisterQuitCloser(quit.ShutdownFunc(closeJournal), quit.Name("journal"))
	q.RegisterCloser(&Reader{hang})
	q.RegisterStopFunc(sleep(1200*time.Millisecond), quit.Name("http server"))
	q.Go(func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(23 * time.Second)
		return nil
	}, quit.Name("worker"))

	q.Fail(&quit.SignalError{Signal: sigterm{}})
	q.GracefulStop()
	return q, func() { close(hang) }
}

// sigterm stands for SIGTERM, which some systems do not have.
type sigterm struct{}

func (sigterm) Signal()        {}
func (sigterm) String() string { return "terminated" }

func sleep(d time.Duration) func() { return func() { time.Sleep(d) } }

func closeJournal(context.Context) error { return errors.New("write: broken pipe") }
