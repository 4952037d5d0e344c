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

// EachLine calls do for each line of stdin, until its end or until the fire.
// Run it in q.Go, or in [RunTool]. Each line that was read is done. The others
// are left for the next program to read: not even a part of one is lost.
//
// The rule: no context ends a Read that waits, but a deadline does, if the file
// supports one. So at the fire the file gets a deadline in the past. After
// that, the complete lines in the buffer are done, and an incomplete line is
// read to its end byte by byte. That may take a second: a line that does not
// end by then is an error.
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

// untilFire reads byte by byte after the fire, so that it reads no further than
// the end of the current line.
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

// stdin returns stdin as a file that supports deadlines, unless a Read of it
// never waits. On Linux it opens /dev/stdin again if that is a pipe or a
// terminal. So the flags of the file that other programs share stay the same.
// (Without O_NONBLOCK, opening a named pipe whose writer is gone would wait.)
// If that is impossible, as for a socket, a goroutine that is not counted reads
// stdin. Nothing waits for it, and the data that it holds at the end is lost.
func stdin() *os.File {
	if info, err := os.Stdin.Stat(); err == nil && info.Mode().IsRegular() {
		return os.Stdin
	}
	file, err := os.OpenFile("/dev/stdin", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil && file.SetReadDeadline(time.Time{}) == nil {
		return file
	}
	file.Close() // accepts nil too
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
