// Package quit behaves like the package quit of github.com/mygityf/go-library
// in the article about it. It was written for this comparison, from the
// behaviour described there: it is not that package's code. Use
// github.com/gracefulgo/graceful/quit instead.
//
// GracefulStop fires, calls the closers, first registered first, and waits for
// the counted goroutines. WaitSignal starts that in a goroutine, sleeps for 3
// seconds in any case, and exits with status 0. One line on stderr is added for
// the tests: "quit: fired".
package quit

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// QuitCloser is implemented by http.Server.
type QuitCloser interface {
	Shutdown(ctx context.Context) error
}

// QuitEvent is an event with closers and a counter.
type QuitEvent struct {
	done  chan struct{}
	fired atomic.Bool
	count sync.WaitGroup

	mu      sync.Mutex // guards the field below
	closers []func()
}

var process = &QuitEvent{done: make(chan struct{})}

// GetQuitEvent returns the event of the process.
func GetQuitEvent() *QuitEvent { return process }

// RegisterQuitCloser makes GracefulStop call c.Shutdown.
func (q *QuitEvent) RegisterQuitCloser(c QuitCloser) {
	q.RegisterStopFunc(func() { c.Shutdown(context.Background()) })
}

// RegisterCloser makes GracefulStop call c.Close.
func (q *QuitEvent) RegisterCloser(c io.Closer) { q.RegisterStopFunc(func() { c.Close() }) }

// RegisterStopFunc makes GracefulStop call stop.
func (q *QuitEvent) RegisterStopFunc(stop func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closers = append(q.closers, stop)
}

// AddGoroutine and DoneGoroutine count goroutines.
func (q *QuitEvent) AddGoroutine()  { q.count.Add(1) }
func (q *QuitEvent) DoneGoroutine() { q.count.Done() }

// HasFired and Done report the fire.
func (q *QuitEvent) HasFired() bool        { return q.fired.Load() }
func (q *QuitEvent) Done() <-chan struct{} { return q.done }

// GracefulStop stops everything.
func (q *QuitEvent) GracefulStop() {
	if q.fired.CompareAndSwap(false, true) {
		fmt.Fprintln(os.Stderr, "quit: fired")
		close(q.done)
	}
	q.mu.Lock()
	closers := q.closers
	q.mu.Unlock()
	for _, c := range closers {
		c()
	}
	q.count.Wait()
}

// WaitSignal waits for a signal, starts GracefulStop, and gives it 3 seconds.
func WaitSignal() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	<-c
	go process.GracefulStop() // ends with the process
	time.Sleep(3 * time.Second)
	os.Exit(0)
}
