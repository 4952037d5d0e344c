package quit

import (
	"context"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/gracefulgo/graceful/internal/text"
)

// The methods of errors and contexts are user code. They are called here, where
// a panic in one is caught, and never with a lock held.

// caught calls f and returns its error, or its panic as a *PanicError. A
// runtime.Goexit in f passes through: there is no way to stop it.
func caught(f func() error) (err error) {
	returned := false
	defer func() {
		if !returned { // after a Goexit too, but then nobody sees err
			err = newPanicError(recover())
		}
	}()
	err = f()
	returned = true
	return err
}

// newPanicError returns the error of a panic. A nil value is that of
// panic(nil), which has another one unless GODEBUG=panicnil=1.
func newPanicError(value any) *PanicError {
	if value == nil {
		value = new(runtime.PanicNilError)
	}
	return &PanicError{Value: value, Stack: debug.Stack()}
}

// errorText returns the text of err, or "" for nil.
func errorText(err error) string { return text.Error(err) }

// mostWrapped is how many errors one may wrap. With more, it is taken to wrap
// errors without end. Tests have a smaller one.
var mostWrapped = 1 << 20

// wrapped returns the errors that err wraps. It reports whether all went well.
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

// visit calls f with err and all that it wraps, in the order of errors.Is,
// until f returns true. It reports whether that happened, and whether no error
// panicked or wrapped others without end. Such an error would hide those that
// come after it, so then there is a second walk, level by level.
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

// same is equal, or for values that cannot be compared, whether all in them is.
func same(a, b error) (same bool) {
	defer func() { _ = recover() }()
	return equal(a, b) || reflect.DeepEqual(a, b)
}

// matches reports whether err itself, and not an error that it wraps, is target
// in the sense of errors.Is.
func matches(err, target error) (yes bool) {
	if equal(err, target) {
		return true
	}
	if isOurs(err) {
		return false // its Is looks at what it wraps
	}
	defer func() { _ = recover() }()
	x, ok := err.(interface{ Is(error) bool })
	return ok && x.Is(target)
}

// safeIs is errors.Is.
func safeIs(err, target error) bool {
	found, _ := visit(err, func(e error) bool { return matches(e, target) })
	return found
}

// safeAs is errors.As, which has checked target.
func safeAs(err error, target any) bool {
	value := reflect.ValueOf(target).Elem()
	found, _ := visit(err, func(e error) (yes bool) {
		if reflect.TypeOf(e).AssignableTo(value.Type()) {
			value.Set(reflect.ValueOf(e))
			return true
		}
		if isOurs(e) {
			return false // its As looks at what it wraps
		}
		defer func() { _ = recover() }()
		x, ok := e.(interface{ As(any) bool })
		return ok && x.As(target)
	})
	return found
}

// isSound reports whether errors.Is, errors.As and Error can be called on err,
// and whether it can be compared, as by those who want to know if two callers
// of Shutdown got the same error.
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

// values is a context with the values of another one, and nothing else of it.
type values struct{ context.Context }

// valuesOf returns ctx without its cancellation and without its panics.
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
