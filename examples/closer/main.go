// Command closer shows how to write a service that is an [io.Closer]: a mailer
// that accepts letters and sends them in batches. Its Close method sends every
// accepted letter.
//
//	go run ./examples/closer                    # press Ctrl-C: all are sent
//	go run ./examples/closer -outbox=/dev/full  # Linux: counts the losses
//
// A Close that fails or hangs does not keep the program from ending in time.
// The error names the closer, the line that registered it and, if it hangs, the
// line where it is blocked. The exit status is then 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	outbox := flag.String("outbox", "",
		"send the letters to `file` (default a new one in the temporary directory)")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	parseFlags("closer")

	m, err := newMailer(*outbox)
	if err != nil {
		exit(1, err)
	}
	// From here on there are letters to lose. So Ctrl-C and SIGTERM no longer
	// kill the process; they start the shutdown.
	q.NotifySignal()

	// AfterDrain: the writer adds a last letter after the signal, so the mailer
	// is closed once the writer has ended. Timeout: a mailer that hangs leaves
	// time for the closers after it.
	q.RegisterCloser(m, quit.AfterDrain(), quit.Timeout(5*time.Second))

	// Not in q.Go: run ends when Close is called, which is after the drain. The
	// drain would wait for run in vain.
	go m.run()

	q.Go(func(ctx context.Context) error { return write(ctx, m) }, quit.Name("writer"))

	fmt.Println("outbox:", m.outbox.Name())
	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

// write writes letters until ctx is cancelled. It finishes the letter that it
// is writing at that moment.
func write(ctx context.Context, m *mailer) error {
	for n := 1; ctx.Err() == nil; n++ {
		time.Sleep(100 * time.Millisecond) // stands for the writing
		letter := fmt.Sprintf("letter %d", n)
		if err := m.Add(letter); err != nil {
			return err // shuts the program down
		}
		fmt.Println("accepted", letter)
	}
	return nil
}

var (
	errClosed = errors.New("mailer: closed")
	errFull   = errors.New("mailer: too many letters wait to be sent")
)

const maxWaiting = 10000 // letters

// mailer sends letters to a file, in batches. Its methods may be called by
// several goroutines at once.
type mailer struct {
	outbox *os.File
	stop   chan struct{} // closed by Close: run sends the remaining letters and ends
	ended  chan struct{} // closed when run has ended
	close  func() error  // calls shutDown once

	mu      sync.Mutex // guards the fields below; not held while sending
	closed  bool
	waiting []string // accepted, not yet sent
	unsent  int      // accepted, but could not be sent
	err     error    // the first error of a send
}

func newMailer(outbox string) (*mailer, error) {
	f, err := open(outbox)
	if err != nil {
		return nil, err
	}
	m := &mailer{outbox: f, stop: make(chan struct{}), ended: make(chan struct{})}
	m.close = sync.OnceValue(m.shutDown)
	return m, nil
}

func open(outbox string) (*os.File, error) {
	if outbox == "" { // a name that nobody can guess beforehand
		return os.CreateTemp("", "outbox-")
	}
	return os.OpenFile(outbox, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

// Add accepts a letter, which is a promise to send it. If it does not accept
// the letter, it returns an error.
func (m *mailer) Add(letter string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return errClosed
	case m.err != nil:
		return m.err // the next letter would be lost too
	case len(m.waiting) >= maxWaiting:
		return errFull
	}
	m.waiting = append(m.waiting, letter)
	return nil
}

// run sends letters until Close is called.
func (m *mailer) run() {
	defer close(m.ended)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m.send()
		case <-m.stop:
			m.send() // no more letters can be added: this is the last batch
			return
		}
	}
}

func (m *mailer) send() {
	m.mu.Lock()
	batch := m.waiting
	m.waiting = nil
	m.mu.Unlock()
	for i, letter := range batch {
		if _, err := m.outbox.WriteString(letter + "\n"); err != nil {
			m.mu.Lock()
			m.unsent += len(batch) - i
			m.err = err
			m.mu.Unlock()
			return
		}
	}
}

// Close returns once every accepted letter has been sent, or with an error if
// one could not be sent. A second call waits for the first and returns the same
// error.
func (m *mailer) Close() error { return m.close() }

func (m *mailer) shutDown() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	close(m.stop)
	<-m.ended // nothing changes the fields below any more

	err := m.outbox.Close()
	if m.unsent > 0 {
		err = errors.Join(
			fmt.Errorf("%d letters were accepted and not sent: %w", m.unsent, m.err), err)
	}
	return err
}
