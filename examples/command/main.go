//go:build unix || windows

// Command command sorts the lines of files, even if they do not fit into
// memory: it writes sorted pieces to temporary files and merges them. It shows
// how a command-line tool cleans up after itself, regardless of the reason why
// it ends:
//
//	go run ./examples/command -o /tmp/sorted README.md CHANGELOG.md
//	go run ./examples/command -o /tmp/sorted -   # type, then press Ctrl-C
//	seq 300000 | go run ./examples/command - | head -1
//
// The exit status is 0, 1 after a failure, 2 for wrong usage, 130 after Ctrl-C,
// 143 after SIGTERM, and 129 after SIGHUP, which is sent when a terminal is
// closed. It is 141, without a message, if the reader of the output is gone, as
// with other tools in a pipe. In all of these cases the temporary files are
// removed, and the output file is either complete or unchanged. A second
// Ctrl-C, half a second or more after the first, ends the process at once, even
// if the cleanup hangs. It may leave temporary files behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	out := flag.String("o", "", "write to `file` instead of stdout")
	size := flag.Int("size", 64<<20, "sort that many `bytes` in memory")
	verbose := flag.Bool("v", false, "log the end")
	parseFlags("command")
	if *size <= 0 {
		exit(2, fmt.Errorf("-size must be more than 0, not %d", *size))
	}
	if !*verbose {
		q.Logger = slog.New(slog.DiscardHandler) // main itself reports the failure at the end
	}

	// From here on, none of these signals ends the program before the cleanup.
	// A write to a broken pipe returns an error; it does not raise SIGPIPE.
	q.NotifySignal(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)

	// The temporary directory is next to the output, so that the rename stays
	// within one file system.
	tmp := os.TempDir()
	if *out != "" {
		tmp = filepath.Dir(*out)
		if info, err := os.Lstat(*out); err == nil && !info.Mode().IsRegular() {
			exit(1, fmt.Errorf("%s is not a regular file", *out))
		}
	}
	dir, err := os.MkdirTemp(tmp, ".sort-")
	if err != nil {
		exit(1, err)
	}
	// AfterDrain: by then no goroutine is left that could add a file.
	clean := quit.ShutdownFunc(func(context.Context) error { return os.RemoveAll(dir) })
	q.RegisterQuitCloser(clean, quit.AfterDrain(), quit.Name("temporary files"))

	q.Go(func(ctx context.Context) error {
		err := sortFiles(ctx, dir, *out, *size, flag.Args())
		switch {
		case errors.Is(err, syscall.EPIPE): // ends like a signal: it is not a failure
			q.Fail(&quit.SignalError{Signal: syscall.SIGPIPE})
		case err != nil:
			return err // fires the event with err as the cause
		default:
			q.Fire() // done: there is nothing left to wait for
		}
		return nil
	}, quit.Name("sort"))

	err = q.WaitSignal()
	var sig *quit.SignalError
	switch {
	case err != nil:
		exit(1, err)
	case errors.As(q.Cause(), &sig):
		os.Exit(sig.ExitCode())
	}
}
