//go:build unix || windows

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// do returns the result of f, or the cause of ctx if ctx is done first.
//
// A read from a terminal or a pipe cannot be cancelled, not even by closing the
// file. The same is true of a write that nobody reads and of opening a named
// pipe. In a counted goroutine such a call would block the drain. Therefore, do
// calls f in a goroutine that is not counted, and that ends with the process.
func do[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	if ctx.Err() == nil {
		go func() {
			v, err := f()
			done <- result{v, err}
		}()
	}
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		return *new(T), context.Cause(ctx)
	}
}

// file is a file whose reads and writes end when ctx is done. The caller must
// not use their buffer again after that.
type file struct {
	ctx context.Context
	f   *os.File // not embedded: bufio would find its WriteString, which ignores ctx
}

func (f file) Read(p []byte) (int, error) {
	return do(f.ctx, func() (int, error) { return f.f.Read(p) })
}

func (f file) Write(p []byte) (int, error) {
	return do(f.ctx, func() (int, error) { return f.f.Write(p) })
}

// sortFiles writes the lines of the inputs, sorted, to the file out, or to
// stdout if out is "". It creates files in dir only, and leaves them there.
func sortFiles(ctx context.Context, dir, out string, size int, inputs []string) error {
	s := &sorter{ctx: ctx, dir: dir, size: size}
	for _, name := range inputs {
		if err := s.read(name); err != nil {
			return err
		}
	}
	if err := s.writePiece(); err != nil {
		return err
	}
	if out == "" {
		return s.merge(os.Stdout)
	}
	// The file gets its own name only once it is complete and on disk. It keeps
	// the permissions of the file that it replaces.
	path := filepath.Join(dir, "out")
	if err := create(path, func(f *os.File) (err error) {
		if old, e := os.Stat(out); e == nil {
			err = f.Chmod(old.Mode())
		}
		return errors.Join(err, s.merge(f), f.Sync())
	}); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return os.Rename(path, out)
}

// sorter holds at most size bytes of lines in memory, and the rest in sorted
// pieces.
type sorter struct {
	ctx   context.Context
	dir   string
	size  int
	lines []string
	held  int // bytes
	paths []string
}

func (s *sorter) read(name string) error {
	f := os.Stdin
	if name != "-" {
		var err error
		f, err = do(s.ctx, func() (*os.File, error) { return os.Open(name) })
		if err != nil {
			return err
		}
		defer f.Close()
	}
	r := bufio.NewReaderSize(file{s.ctx, f}, 1<<16)
	for {
		line, err := r.ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		if line != "" { // without a newline, it is the last line of its file
			s.lines = append(s.lines, strings.TrimSuffix(line, "\n"))
			s.held += len(line)
		}
		if s.held >= s.size {
			if err := s.writePiece(); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

func (s *sorter) writePiece() error {
	path := filepath.Join(s.dir, fmt.Sprint("piece-", len(s.paths)))
	s.paths = append(s.paths, path)
	slices.Sort(s.lines)
	err := create(path, func(f *os.File) error {
		w := bufio.NewWriter(file{s.ctx, f})
		for _, line := range s.lines {
			w.WriteString(line + "\n") // Flush returns its error
		}
		return w.Flush()
	})
	s.lines, s.held = s.lines[:0], 0
	return err
}

// create creates a file and calls write with it.
func create(path string, write func(*os.File) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// piece is the part of a sorted file that is not merged yet: line, and then the
// rest of r.
type piece struct {
	r    *bufio.Reader
	line string
}

// next reads the next line. It returns io.EOF after the last one.
func (p *piece) next() (err error) {
	p.line, err = p.r.ReadString('\n')
	return err
}

func (s *sorter) merge(to *os.File) error {
	var pieces []*piece
	for _, path := range s.paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		pieces = append(pieces, &piece{r: bufio.NewReader(f)})
	}
	w := bufio.NewWriterSize(file{s.ctx, to}, 1<<16)
	advance := pieces // the pieces whose next line must be read
	for {
		for _, p := range advance {
			if err := p.next(); err == io.EOF {
				is := func(other *piece) bool { return other == p }
				pieces = slices.DeleteFunc(slices.Clone(pieces), is)
			} else if err != nil {
				return err
			}
		}
		if len(pieces) == 0 {
			return w.Flush()
		}
		compare := func(a, b *piece) int { return strings.Compare(a.line, b.line) }
		first := slices.MinFunc(pieces, compare)
		if _, err := w.WriteString(first.line); err != nil {
			return err
		}
		advance = []*piece{first}
	}
}
