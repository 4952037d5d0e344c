//go:build unix

package recipes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// EachLine calls do for each line of stdin, until its end, or until the fire.
// Run it in q.Go, or in [RunTool]. Each line that was read is done, and the
// others are still there to be read by the next program: not even a part of
// one is lost.
//
// The rule: no context ends a Read that waits, but a deadline does, where a
// file can have one. So at the fire the file gets a deadline that has passed.
// After it, the complete lines in the buffer are done, and a line that has been
// begun is read to its end byte by byte. For that it has a second: a line that
// does not end is an error.
func EachLine(q *quit.QuitEvent, do func(ctx context.Context, line string) error) error {
	file := stdin()
	defer context.AfterFunc(q.Context(), func() { file.SetReadDeadline(time.Unix(1, 0)) })()
	in := bufio.NewReader(untilFire{q, file})
	for !q.HasFired() || in.Buffered() > 0 {
		line, err := in.ReadString('\n')
		if line != "" && errors.Is(err, os.ErrDeadlineExceeded) {
			file.SetReadDeadline(time.Now().Add(time.Second))
			var rest string
			rest, err = in.ReadString('\n')
			line += rest
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && line == "":
			return nil // the fire came while it waited
		case err != nil && err != io.EOF:
			return fmt.Errorf("stdin: %w, within the line %q", err, line)
		case line != "":
			if err := do(q.WorkContext(), line); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
	return nil
}

// untilFire reads byte by byte after the fire, so that it takes no more than
// the line that has been begun.
type untilFire struct {
	q *quit.QuitEvent
	*os.File
}

func (f untilFire) Read(p []byte) (int, error) {
	if f.q.HasFired() {
		p = p[:1]
	}
	return f.File.Read(p)
}

// stdin returns stdin as a file that can have a deadline, unless it is one that
// never makes a Read wait. On Linux, /dev/stdin is a pipe or a terminal opened
// anew: the flags of the one that we share with other programs stay as they
// are. (Without O_NONBLOCK, a named pipe whose writer has gone would make the
// open wait.) Where that cannot be had, as for a socket, a goroutine that is
// not counted reads for us: nothing waits for it, and what it has in hand at
// the end is lost.
func stdin() *os.File {
	if info, err := os.Stdin.Stat(); err == nil && info.Mode().IsRegular() {
		return os.Stdin
	}
	file, err := os.OpenFile("/dev/stdin", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil && file.SetReadDeadline(time.Time{}) == nil {
		return file
	}
	file.Close() // of nil too
	r, w, err := os.Pipe()
	if err != nil {
		return os.Stdin
	}
	go func() { // ends with stdin, or with the process
		io.Copy(w, os.Stdin)
		w.Close()
	}()
	return r
}
