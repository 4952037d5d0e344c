package quit

import (
	"context"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/gracefulgo/graceful/internal/text"
)

// The methods of errors and contexts are user code. The funcs below call them,
// catch their panics, and are never called with a lock held.

// caught calls f and returns its error, or a *PanicError if f panics. It cannot
// stop a runtime.Goexit in f.
func caught(f func() error) (err error) {
	returned := false
	defer func() {
		if !returned { // after a Goexit too, but then err is not used
			err = newPanicError(recover())
		}
	}()
	err = f()
	returned = true
	return err
}

// newPanicError returns the error of a panic. The value is nil only after
// panic(nil) with GODEBUG=panicnil=1.
func newPanicError(value any) *PanicError {
	if value == nil {
		value = new(runtime.PanicNilError)
	}
	return &PanicError{Value: value, Stack: debug.Stack()}
}

// errorText returns the text of err, or "" for nil.
func errorText(err error) string { return text.Error(err) }

// mostWrapped is the number of errors that an error may wrap. An error that
// wraps more is assumed to wrap errors without end. Tests set it lower.
var mostWrapped = 1 << 20

// wrapped returns the errors that err wraps. It reports false if Unwrap panics.
func wrapped(err error) (errs []error, ok bool) {
	defer func() { _ = recover() }()
	switch e := err.(type) {
	case *namedError:
		errs = []error{e.err}
	case *guard:
		errs = []error{e.err}
	case *failures:
		errs = e.errs
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			errs = []error{inner}
		}
	case interface{ Unwrap() []error }:
		errs = e.Unwrap()
	}
	return errs, true
}

// visit calls f with err and all errors that it wraps, in the order of
// errors.Is, until f returns true. found reports whether f did. sound reports
// whether no Unwrap panicked and no error wrapped others without end. An
// endless error hides the errors after it, so visit then walks again, level by
// level.
func visit(err error, f func(error) bool) (found, sound bool) {
	found, sound, ended := walkErrors(err, f, false)
	if !ended {
		found, _, _ = walkErrors(err, f, true)
	}
	return found, sound && ended
}

func walkErrors(err error, f func(error) bool, byLevel bool) (found, sound, ended bool) {
	sound = true
	todo := []error{err}
	for n := 0; len(todo) > 0; n++ {
		if n == mostWrapped {
			return false, sound, false
		}
		var e error
		if byLevel {
			e, todo = todo[0], todo[1:]
		} else {
			e, todo = todo[len(todo)-1], todo[:len(todo)-1]
		}
		if e == nil {
			continue
		}
		if f(e) {
			return true, sound, true
		}
		inner, ok := wrapped(e)
		sound = sound && ok
		at := len(todo)
		todo = append(todo, inner...)
		if !byLevel { // the first is taken next
			slices.Reverse(todo[at:])
		}
	}
	return false, sound, true
}

// equal is ==, for values of any type.
func equal(a, b error) (same bool) {
	defer func() { _ = recover() }() // there are types that cannot be compared
	return a == b
}

// matches reports whether err is target in the sense of errors.Is, without the
// errors that err wraps.
func matches(err, target error) (yes bool) {
	if equal(err, target) {
		return true
	}
	if isOurs(err) {
		return false // its Is looks at the errors within
	}
	defer func() { _ = recover() }()
	x, ok := err.(interface{ Is(error) bool })
	return ok && x.Is(target)
}

// safeIs is errors.Is with panics caught.
func safeIs(err, target error) bool {
	found, _ := visit(err, func(e error) bool { return matches(e, target) })
	return found
}

// safeAs is errors.As with panics caught. errors.As itself, which calls it, has
// checked target.
func safeAs(err error, target any) bool {
	value := reflect.ValueOf(target).Elem()
	found, _ := visit(err, func(e error) (yes bool) {
		if reflect.TypeOf(e).AssignableTo(value.Type()) {
			value.Set(reflect.ValueOf(e))
			return true
		}
		if isOurs(e) {
			return false // its As looks at the errors within
		}
		defer func() { _ = recover() }()
		x, ok := e.(interface{ As(any) bool })
		return ok && x.As(target)
	})
	return found
}

// isSound reports whether errors.Is, errors.As and Error can be called on err
// without a panic, and whether err can be compared. A program may compare the
// results of Shutdown, to see whether two callers got the same error.
func isSound(err error) bool {
	probe := new(guard)
	sound := func(call func()) (ok bool) {
		defer func() { _ = recover() }()
		call()
		return true
	}
	broken, ok := visit(err, func(e error) bool {
		x, hasIs := e.(interface{ Is(error) bool })
		y, hasAs := e.(interface{ As(any) bool })
		return !equal(e, e) ||
			hasIs && !sound(func() { x.Is(probe) }) || hasAs && !sound(func() { y.As(new(*guard)) })
	})
	return ok && !broken && sound(func() { _ = err.Error() })
}

// values is a context that has only the values of another context.
type values struct{ context.Context }

// valuesOf returns ctx without its cancellation, and with panics of its Value
// method caught.
func valuesOf(ctx context.Context) context.Context {
	if ctx == context.Background() {
		return ctx
	}
	return &values{context.WithoutCancel(ctx)}
}

func (v *values) Value(key any) any { return safeValue(v.Context, key) }

func safeValue(ctx context.Context, key any) (value any) {
	defer func() { _ = recover() }()
	return ctx.Value(key)
}
