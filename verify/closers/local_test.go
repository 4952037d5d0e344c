//go:build unix

package closers

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/go-co-op/gocron/v2"
	"github.com/robfig/cron/v3"

	"github.com/gracefulgo/graceful/quit"
)

func closeFsnotify(q *quit.QuitEvent, w *fsnotify.Watcher) {
	q.RegisterCloser(w)
}

func TestFsnotify(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		w, err := fsnotify.NewWatcher()
		must(t, err)
		closeFsnotify(q, w)
		dir := t.TempDir()
		must(t, w.Add(dir))
		q.Go(func(context.Context) error {
			for {
				select {
				case _, ok := <-w.Events:
					if !ok {
						return nil
					}
				case _, ok := <-w.Errors:
					if !ok {
						return nil
					}
				}
			}
		})
		must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
		stops(t, q)
		if err := w.Close(); err != nil {
			t.Errorf("a second Close() = %v, want nil", err)
		}
	})
	t.Run("nobody reads", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		w, err := fsnotify.NewWatcher()
		must(t, err)
		closeFsnotify(q, w)
		dir := t.TempDir()
		must(t, w.Add(dir))
		for _, name := range []string{"a", "b", "c"} {
			must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		}
		receive(t, w.Events, "event") // the next one waits to be received
		stops(t, q)
	})
}

func closeCron(q *quit.QuitEvent, c *cron.Cron) {
	q.RegisterStopFunc(func() { <-c.Stop().Done() })
}

// always is a schedule with a run every millisecond.
type always struct{}

func (always) Next(t time.Time) time.Time { return t.Add(time.Millisecond) }

func TestCron(t *testing.T) {
	t.Parallel()
	// run returns once do is called; it is called once.
	run := func(t *testing.T, q *quit.QuitEvent, do func()) {
		c := cron.New()
		began := make(chan struct{})
		var once sync.Once
		c.Schedule(always{}, cron.FuncJob(func() {
			once.Do(func() {
				close(began)
				do()
			})
		}))
		c.Start()
		closeCron(q, c)
		receive(t, began, "job")
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		ended := false
		run(t, q, func() {
			<-q.Done()
			ended = true
		})
		stops(t, q)
		if !ended {
			t.Error("the job was not waited for")
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		defer close(end)
		run(t, q, func() { <-end })
		hangs(t, q, ".closeCron.")
	})
}

func closeGocron(q *quit.QuitEvent, s gocron.Scheduler) {
	q.RegisterQuitCloser(quit.ShutdownFunc(s.ShutdownWithContext))
}

func TestGocron(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, q *quit.QuitEvent, stop time.Duration, do func(context.Context)) {
		s, err := gocron.NewScheduler(gocron.WithStopTimeout(stop))
		must(t, err)
		began := make(chan struct{})
		_, err = s.NewJob(gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()),
			gocron.NewTask(func(ctx context.Context) {
				close(began)
				do(ctx)
			}))
		must(t, err)
		s.Start()
		closeGocron(q, s)
		receive(t, began, "job")
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		ended := false
		run(t, q, generous, func(ctx context.Context) {
			<-q.Done()
			<-ctx.Done() // at once: the job must not use it for its work
			ended = true
		})
		stops(t, q)
		if !ended {
			t.Error("the job was not waited for")
		}
	})
	t.Run("WithStopTimeout", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		defer close(end)
		run(t, q, time.Second, func(context.Context) { <-end })
		fails(t, q, gocron.ErrStopJobsTimedOut)
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		defer close(end)
		run(t, q, generous, func(context.Context) { <-end })
		fails(t, q, context.DeadlineExceeded)
	})
}

func closeCmd(q *quit.QuitEvent, cmd *exec.Cmd) {
	q.RegisterQuitCloser(quit.Graceful(
		func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() },
		func() { cmd.Process.Kill() },
	))
}

func closeProcessGroup(q *quit.QuitEvent, cmd *exec.Cmd) {
	pgid := cmd.Process.Pid // since SysProcAttr.Setpgid is set
	q.RegisterQuitCloser(quit.Graceful(
		func() { syscall.Kill(-pgid, syscall.SIGTERM); cmd.Wait() },
		func() { syscall.Kill(-pgid, syscall.SIGKILL) },
	))
}

// ready is a writer that signals its first byte.
type ready struct {
	once sync.Once
	ch   chan struct{}
}

func (r *ready) Write(p []byte) (int, error) {
	r.once.Do(func() { close(r.ch) })
	return len(p), nil
}

// shell runs a script in a process group, and returns once the script has
// written something.
func shell(t *testing.T, script string) *exec.Cmd {
	out := &ready{ch: make(chan struct{})}
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stdout = out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	receive(t, out.ch, "output of the child")
	return cmd
}

const (
	obeys       = "echo ready; exec sleep 1000"
	ignores     = `trap "" TERM; echo ready; while :; do sleep 1; done`
	grandchild  = "sleep 1000 & echo ready; wait"
	exitsBefore = "echo ready"
)

func TestCmd(t *testing.T) {
	t.Parallel()
	stop := func(script string) func(*testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			q := event(generous)
			cmd := shell(t, script)
			closeCmd(q, cmd)
			stops(t, q)
			if cmd.ProcessState == nil {
				t.Error("the child was not waited for")
			}
		}
	}
	t.Run("stop", stop(obeys))
	t.Run("ended before", stop(exitsBefore))
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		cmd := exec.Command("/bin/sh", "-c", ignores)
		out, err := cmd.StdoutPipe()
		must(t, err)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		must(t, cmd.Start())
		defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_, err = out.Read(make([]byte, 1))
		must(t, err)
		closeCmd(q, cmd)
		fails(t, q, context.DeadlineExceeded)
		if s := cmd.ProcessState.String(); s != "signal: killed" {
			t.Errorf("the child: %s, want that it was killed", s)
		}
	})
	t.Run("hang: grandchild", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		cmd := shell(t, grandchild)
		closeCmd(q, cmd)
		hangs(t, q, "os/exec.(*Cmd).Wait") // the grandchild holds the pipe of its output
	})
}

func TestProcessGroup(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		cmd := shell(t, grandchild)
		closeProcessGroup(q, cmd)
		stops(t, q)
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		cmd := shell(t, ignores)
		closeProcessGroup(q, cmd)
		fails(t, q, context.DeadlineExceeded)
		if s := cmd.ProcessState.String(); s != "signal: killed" {
			t.Errorf("the child: %s, want that it was killed", s)
		}
	})
}

func closeListener(q *quit.QuitEvent, ln net.Listener) {
	q.RegisterCloser(ln, quit.Ignore(net.ErrClosed))
}

func TestListener(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		closeListener(q, ln)
		accepted := make(chan net.Conn, 1)
		q.Go(func(context.Context) error {
			for {
				c, err := ln.Accept()
				if err != nil {
					return err
				}
				accepted <- c
			}
		}, quit.Ignore(net.ErrClosed))
		client, err := net.Dial("tcp", ln.Addr().String())
		must(t, err)
		defer client.Close()
		c := receive(t, accepted, "connection")
		defer c.Close()
		stops(t, q)
		_, err = c.Write([]byte("x")) // accepted connections stay open
		must(t, err)
		_, err = client.Read(make([]byte, 1))
		must(t, err)
	})
	t.Run("closed before", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		closeListener(q, ln)
		must(t, ln.Close()) // by its server, for example
		stops(t, q)
	})
}

func closeTempDir(q *quit.QuitEvent, dir string) {
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
		return os.RemoveAll(dir)
	}), quit.AfterDrain())
}

func TestTempDir(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		dir, err := os.MkdirTemp(t.TempDir(), "")
		must(t, err)
		closeTempDir(q, dir)
		q.Go(func(ctx context.Context) error {
			<-ctx.Done()
			return os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
		})
		stops(t, q)
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("Stat() = %v, want that it is not there", err)
		}
	})
}

func closeTicker(q *quit.QuitEvent, ticker *time.Ticker) {
	q.RegisterStopFunc(ticker.Stop)
}

func TestTicker(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		ticker := time.NewTicker(time.Millisecond)
		closeTicker(q, ticker)
		q.Go(func(ctx context.Context) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-ticker.C:
				}
			}
		})
		stops(t, q)
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		ticker := time.NewTicker(time.Millisecond)
		closeTicker(q, ticker)
		q.Go(func(context.Context) error {
			for range ticker.C { // it is not closed
			}
			return nil
		})
		hangs(t, q, ".TestTicker.")
	})
}

func closeAfterFunc(q *quit.QuitEvent, timer *time.Timer) {
	q.RegisterStopFunc(func() { timer.Stop() })
}

func TestAfterFunc(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		timer := time.AfterFunc(time.Hour, func() { t.Error("called") })
		closeAfterFunc(q, timer)
		stops(t, q)
		if timer.Stop() {
			t.Error("the timer had not been stopped")
		}
	})
	t.Run("func that runs", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		began, end := make(chan struct{}), make(chan struct{})
		timer := time.AfterFunc(0, func() {
			close(began)
			<-end
		})
		closeAfterFunc(q, timer)
		receive(t, began, "call")
		stops(t, q) // though it runs
		close(end)
	})
}
