package quit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gracefulgo/graceful/internal/text"
	"github.com/gracefulgo/graceful/internal/timeline"
)

// PanicError is the error of a panic in a closer or in a func started by
// [QuitEvent.Go]. It is always used as a *PanicError.
type PanicError struct {
	Value any    // the argument of panic
	Stack []byte // of the goroutine at the panic, as runtime/debug.Stack returns it
}

// Error returns the value as text, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("quit: panic: %v", e.Value) }

// Unwrap returns the value if it is an error, and nil otherwise.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

var errGoexit = errors.New("called runtime.Goexit instead of returning")

// overdue is the failure of a step whose time ran out. Ignore does not apply to
// it.
type overdue struct{ what string }

func (e *overdue) Error() string { return e.what + ": " + context.DeadlineExceeded.Error() }
func (e *overdue) Unwrap() error { return context.DeadlineExceeded }

// The errors below are returned to the program, which calls errors.Is and
// errors.As on them. These would walk through the user's errors with Unwrap,
// where a method that panics would end the process. So the errors below have Is
// and As methods that do the walk safely.

// namedError is a failure with the name of the closer or goroutine that failed.
type namedError struct {
	name, site string // site is "" for a goroutine, the delay and the drain
	err        error
}

// Error puts the name in front of each line of the wrapped error. So each line
// of a nested event's error has all the names, in the order of nesting.
func (e *namedError) Error() string { return timeline.ErrorText(e) }

// Failure implements [timeline.Named].
func (e *namedError) Failure() (name, site string, err error) { return e.name, e.site, e.err }

func (e *namedError) Is(target error) bool { return safeIs(e.err, target) }
func (e *namedError) As(target any) bool   { return safeAs(e.err, target) }

// failures is an error with a line for each of several errors. It is used as a
// pointer, which makes it comparable.
type failures struct{ errs []error }

func (e *failures) Error() string { return timeline.ErrorText(e) }

// List implements [timeline.List].
func (e *failures) List() []error { return e.errs }

func (e *failures) Is(target error) bool { return safeIs(e, target) }
func (e *failures) As(target any) bool   { return safeAs(e, target) }

// Unwrap returns the failures one by one.
func (e *failures) Unwrap() []error {
	errs := make([]error, len(e.errs))
	for i, err := range e.errs {
		errs[i] = guarded(err)
	}
	return errs
}

// guard wraps a user's error, and keeps errors.Is and errors.As from walking
// through it.
type guard struct{ err error }

func (e *guard) Error() string        { return errorText(e.err) }
func (e *guard) Is(target error) bool { return safeIs(e.err, target) }
func (e *guard) As(target any) bool   { return safeAs(e.err, target) }

func guarded(err error) error {
	if isOurs(err) {
		return err
	}
	return &guard{err}
}

// isOurs reports whether err has one of the types above, which are safe to walk
// through.
func isOurs(err error) bool {
	switch err.(type) {
	case *namedError, *failures, *guard:
		return true
	}
	return false
}

// join returns nil, the only error, or an error with a line for each.
func join(errs ...error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return &failures{errs}
}

// result returns the result of Shutdown. A single failure is returned as it is,
// unless its methods panic or take longer than wait. They are called in a new
// goroutine to find that out.
func result(errs []error, wait time.Duration) error {
	err := join(errs...)
	if len(errs) != 1 || isOurs(err) {
		return err
	}
	sound, done := false, make(chan struct{})
	go func() { // ends when the methods of err return
		defer close(done)
		sound = isSound(err)
	}()
	timeUp := time.NewTimer(wait)
	defer timeUp.Stop()
	select {
	case <-done:
		if sound {
			return err
		}
	case <-timeUp.C:
	}
	return guarded(err)
}

// plural returns n with the noun, whose plural is regular.
func plural(n int64, noun string) string { return text.Plural(n, noun) }
