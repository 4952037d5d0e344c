package quit

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/gracefulgo/graceful/internal/text"
	"github.com/gracefulgo/graceful/internal/timeline"
)

// PanicError is a panic in a closer or in a func started by [QuitEvent.Go].
// It is always used as a *PanicError.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // of the goroutine at the panic, as of runtime/debug.Stack
}

// Error returns the value, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("quit: panic: %v", e.Value) }

// Unwrap returns the value if it is an error, and nil otherwise.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

var errGoexit = errors.New("called runtime.Goexit instead of returning")

// caught calls f and returns its error, or its panic as a *PanicError.
// A runtime.Goexit in f passes through: there is no way to stop it.
func caught(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// without returns err without what is one of the targets, in the sense of
// errors.Is: of a joined error, also a wrapped one, the others stay. It calls the
// errors' own methods, so no lock is held.
func without(err error, targets ...error) error {
	if err == nil || !slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) }) {
		return err
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		joined, ok := e.(interface{ Unwrap() []error })
		if !ok {
			continue
		}
		var rest []error
		for _, e := range joined.Unwrap() {
			rest = append(rest, without(e, targets...))
		}
		remains := errors.Join(rest...)
		if named, ok := err.(*namedError); ok && remains != nil {
			return &namedError{named.name, named.site, remains}
		}
		if remains != nil && e != err {
			return err // what wraps it cannot be taken apart
		}
		return remains
	}
	return nil
}

// namedError is a failure with the name of the closer or goroutine it comes from.
type namedError struct {
	name, site string // site is "" for what was not registered
	err        error
}

// Error has a line for each line of the error within, each with the name. An
// error of an event within an event so names both, in the order of nesting.
func (e *namedError) Error() string { return timeline.ErrorText(e) }

// Failure makes it a [timeline.Named].
func (e *namedError) Failure() (name, site string, err error) { return e.name, e.site, e.err }

func (e *namedError) Unwrap() error { return e.err }

// join returns nil, the only error, or one with a line for each.
func join(errs ...error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// plural returns n with the noun, which is regular.
func plural(n int64, noun string) string { return text.Plural(n, noun) }
