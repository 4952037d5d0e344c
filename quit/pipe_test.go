//go:build unix

package quit_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// writing writes to stdout or stderr, as args[0] says, at the time that args[1]
// names.
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
	q := quit.GetQuitEvent()
	stop := q.NotifySignal()
	if when == "before" {
		write()
	}
	if when == "at the fire" {
		go q.Fire()
		<-q.Done()
		write() // no shutdown has begun yet
	}
	if when == "during one that began without signals" {
		stop()
		q.Logger = slog.New(slog.DiscardHandler)
		q.RegisterStopFunc(func() {
			q.NotifySignal()
			write()
		})
		q.GracefulStop()
	}
	if when == "during" {
		closing := make(chan struct{})
		q.RegisterStopFunc(func() { write(); close(closing) })
		q.RegisterStopFunc(write, quit.AfterDrain())
		q.Go(func(context.Context) error {
			<-closing
			write()
			return nil
		})
	}
	q.Fire()
	process.Say("returned %v", quit.WaitSignal())
	if when == "after stop" {
		stop()
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
		{when: "during", said: []string{"written", "written", "written", "returned <nil>"},
			want: "exit status 0"},
		{when: "at the fire", said: []string{"written", "returned <nil>"}, want: "exit status 0"},
		{when: "during one that began without signals", said: []string{"written", "returned <nil>"},
			want: "exit status 0"},
		{when: "after stop", said: []string{"returned <nil>"}, want: "signal: broken pipe"},
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

// TestPipeBeforeFire keeps an event from taking hold of SIGPIPE: as long as it
// cannot, it does not fire, so nobody writes after the fire and before the hold.
// On one processor the goroutine that fires has its turn again and again.
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
