//go:build unix

package quit_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// writing writes to stdout or stderr, whichever args[0] names, at the moment
// that args[1] names.
var writing = process.NewProgram("writing", func(args []string) {
	file, when := os.Stdout, args[1]
	if args[0] == "stderr" {
		file = os.Stderr
	}
	write := func() {
		for range 100 {
			if _, err := io.WriteString(file, "line\n"); !errors.Is(err, syscall.EPIPE) {
				process.Say("write: %v, want %v", err, syscall.EPIPE)
				return
			}
		}
		process.Say("written")
	}
	q := &quit.QuitEvent{Timeout: -1, Logger: slog.New(slog.DiscardHandler)}
	switch when {
	case "before":
		q.NotifySignal()
		write()
	case "at the fire":
		go q.Fire()
		<-q.Done()
		write() // no shutdown has begun yet
		process.Say("returned %v", q.WaitSignal())
	case "during":
		closing := make(chan struct{})
		q.RegisterStopFunc(func() { write(); close(closing) })
		q.RegisterStopFunc(write, quit.AfterDrain())
		q.Go(func(context.Context) error {
			<-closing
			write()
			return nil
		})
		q.Fire()
		process.Say("returned %v", q.WaitSignal())
	case "during one by hand":
		q.RegisterStopFunc(write)
		process.Say("returned %v", q.Shutdown(context.Background()))
	case "after one by hand":
		process.Say("returned %v", q.Shutdown(context.Background()))
		write()
	case "during one that handles signals itself":
		q.RegisterStopFunc(func() {
			q.NotifySignal()
			write()
		})
		q.GracefulStop()
	case "during, stopped before":
		q.NotifySignal()()
		q.RegisterStopFunc(write)
		q.GracefulStop()
	case "during, after stop":
		stop := q.NotifySignal()
		q.RegisterStopFunc(func() {
			stop()
			write()
		})
		q.GracefulStop()
		process.Say("ended")
		write()
	case "between the fire and the shutdown, after stop":
		stop := q.NotifySignal()
		q.Fire()
		stop()
		write()
		q.GracefulStop()
	case "while a handler is left":
		one, two := q.NotifySignal(), q.NotifySignal(syscall.SIGUSR1)
		q.GracefulStop()
		write()
		one()
		one()
		write()
		two()
		process.Say("stopped")
		write()
	case "while another event is shut down":
		other := quietEvent()
		other.GracefulStop()
		q.RegisterStopFunc(func() {
			other := quietEvent()
			other.GracefulStop()
			write()
		})
		q.GracefulStop()
		process.Say("ended")
		write()
	case "after the next event has handled signals":
		q.NotifySignal()
		q.GracefulStop()
		write()
		quit.NewQuitEvent().NotifySignal()
		process.Say("next")
		write()
	}
})

func TestChildBrokenPipe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		when string
		said []string
		want string
	}{
		{when: "before", want: "signal: broken pipe"},
		{when: "at the fire", said: []string{"written", "returned <nil>"}, want: "exit status 0"},
		{
			when: "during",
			said: []string{"written", "written", "written", "returned <nil>"},
			want: "exit status 0",
		},
		{
			when: "during one by hand",
			said: []string{"written", "returned <nil>"},
			want: "exit status 0",
		},
		{
			when: "after one by hand",
			said: []string{"returned <nil>"},
			want: "signal: broken pipe",
		},
		{
			when: "during one that handles signals itself",
			said: []string{"written"},
			want: "exit status 0",
		},
		{
			when: "during, stopped before",
			said: []string{"written"},
			want: "exit status 0",
		},
		{
			when: "during, after stop",
			said: []string{"written", "ended"},
			want: "signal: broken pipe",
		},
		{
			when: "between the fire and the shutdown, after stop",
			said: []string{"written"},
			want: "exit status 0",
		},
		{
			when: "while a handler is left",
			said: []string{"written", "written", "stopped"},
			want: "signal: broken pipe",
		},
		{
			when: "while another event is shut down",
			said: []string{"written", "ended"},
			want: "signal: broken pipe",
		},
		{
			when: "after the next event has handled signals",
			said: []string{"written", "next"},
			want: "signal: broken pipe",
		},
	} {
		for _, file := range []string{"stdout", "stderr"} {
			t.Run(test.when+"/"+file, func(t *testing.T) {
				t.Parallel()
				cmd := writing.Command(t, file, test.when)
				if file == "stderr" {
					cmd.Stderr = process.BrokenPipe(t)
				} else {
					cmd.Stdout = process.BrokenPipe(t)
				}
				p := writing.StartCommand(t, cmd)
				p.Expect(test.said...)
				p.WantEnd(test.want)
			})
		}
	}
}

// TestPipeBeforeFire keeps an event from holding SIGPIPE. Until it holds the
// signal, it does not fire, so no write comes between the fire and the hold.
// There is one processor, and the goroutine that fires runs again and again.
func TestPipeBeforeFire(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	q := quietEvent()
	release := q.HoldPipe()
	fired := make(chan bool)
	go func() { fired <- q.Fire() }()
	for range 1000 {
		runtime.Gosched()
		if q.HasFired() {
			t.Fatal("the event has fired, and SIGPIPE is not held")
		}
	}
	release()
	if !<-fired || !q.HasFired() {
		t.Error("Fire() = false, want true")
	}
	q.GracefulStop()
}

// TestChildBubbleAlone runs a bubble in a process that has not used os/signal
// before. The goroutine of os/signal would begin in the bubble, and never end
// there.
func TestChildBubbleAlone(t *testing.T) {
	t.Parallel()
	p := process.StartCommand(t, process.Self(t, "-test.run=^TestBubble$", "-test.v"))
	p.WantEnd("exit status 0")
	if out := p.Stdout(); !strings.Contains(out, "--- PASS: TestBubble") {
		t.Errorf("the test did not pass:\n%s", out)
	}
}

// TestBubble fires and shuts down events in a bubble.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child, failed := quietEvent(), quietEvent(), quietEvent()
		q.RegisterQuitCloser(child)
		child.RegisterStopFunc(func() { time.Sleep(time.Second) })
		q.Fire()
		if err := q.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
		failure := errors.New("failure")
		failed.Fail(failure)
		failed.GracefulStop()
		// It has ended, so it handles no signals.
		if err := failed.WaitSignal(); err != failure {
			t.Errorf("WaitSignal() = %v, want %v", err, failure)
		}
	})
}

// TestHoldInBubble begins holds in a bubble of testing/synctest, where
// os/signal cannot be used. The first hold does not begin there, and so it does
// not end one that has begun since.
func TestHoldInBubble(t *testing.T) {
	var hold quit.SharedHold
	inBubble := func(want bool) {
		synctest.Test(t, func(t *testing.T) {
			if got := hold.Hold(true); got != want {
				t.Errorf("a hold begins in a bubble: %v, want %v", got, want)
			}
		})
	}
	inBubble(false)
	if !hold.Hold(true) {
		t.Error("no hold begins outside a bubble")
	}
	inBubble(true)
	for range 2 {
		if hold.Hold(false) {
			t.Error("a hold that ends is held")
		}
	}
}
