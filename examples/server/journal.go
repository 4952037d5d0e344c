package main

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
)

// journal is a file with a line for each job.
type journal struct {
	file  *os.File
	isNew bool         // the file did not exist before
	jobs  atomic.Int64 // atomic since main reads it even if the worker hangs in a write
}

// openJournal opens the file with the given name, or a new one in the temporary
// directory if the name is "".
func openJournal(name string) (*journal, error) {
	if name == "" {
		file, err := os.CreateTemp("", "jobs-*.journal")
		return &journal{file: file, isNew: true}, err
	}
	const flags = os.O_WRONLY | os.O_APPEND | os.O_CREATE
	file, err := os.OpenFile(name, flags|os.O_EXCL, 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return &journal{file: file, isNew: true}, err
	}
	if file, err = os.OpenFile(name, flags, 0o600); err == nil {
		err = endLine(file)
	}
	return &journal{file: file}, err
}

// endLine ends a line that an earlier run left incomplete, because it was
// killed or the disk was full. Otherwise the first job would become part of
// that line.
func endLine(file *os.File) error {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 { // a device or a pipe has size 0 too
		return err
	}
	content, err := os.Open(file.Name())
	if err != nil {
		return err
	}
	defer content.Close()
	last := make([]byte, 1)
	if _, err = content.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
		_, err = file.WriteString("\n")
	}
	return err
}

// discard undoes openJournal.
func (j *journal) discard() {
	j.file.Close()
	if j.isNew {
		os.Remove(j.file.Name())
	}
}

// write does not buffer, so that an error belongs to the job at hand.
func (j *journal) write(job string) error {
	if _, err := j.file.WriteString(job + "\n"); err != nil {
		return err
	}
	j.jobs.Add(1)
	return nil
}

// Close syncs too, since an error of a write may not show earlier.
func (j *journal) Close() error {
	err := j.file.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil // a device or a pipe has nothing to sync
	}
	return errors.Join(err, j.file.Close())
}
