package quit

import (
	"errors"
	"reflect"
	"slices"
)

// ignore has the options Ignore and IgnoreFunc. A nil *ignore ignores nothing.
type ignore struct {
	errs []error
	oks  []func(error) bool

	keepNamed bool // a namedError, which comes from another event, counts as it is
}

// counts returns the part of err that counts as a failure, or nil. It calls
// funcs and error methods of the user. So it is called on the goroutine of the
// closer or func, and within its time.
func (ig *ignore) counts(err error) error {
	if ig == nil || err == nil {
		return err
	}
	rest, _ := ig.rest(err)
	return rest
}

// rest returns the part of err that counts, and whether that is less than err.
// It takes apart only lists of errors and named errors. Any other error counts
// as a whole, unless all errors that it wraps are ignored.
func (ig *ignore) rest(err error) (rest error, less bool) {
	if e, ok := err.(*namedError); ok {
		if ig.keepNamed {
			return err, false
		}
		inner, less := ig.rest(e.err)
		switch {
		case !less:
			return err, false
		case inner == nil:
			return nil, true
		}
		return &namedError{e.name, e.site, inner}, true
	}
	if rest, less = ig.restOfOne(err); less {
		return rest, less
	}
	if _, is := listOf(err); !is {
		return err, false
	}
	var kept []error
	for _, e := range flat(err) {
		r, l := ig.rest(e)
		kept, less = append(kept, r), less || l
	}
	if !less {
		return err, false
	}
	return join(kept...), true
}

// restOfOne is rest for an error that is not taken apart.
func (ig *ignore) restOfOne(err error) (rest error, less bool) {
	if alwaysCounts(err) {
		return err, false
	}
	yes, failed := ig.covers(err)
	switch {
	case failed != nil:
		return join(err, failed), true
	case yes:
		return nil, true
	}
	return err, false
}

// joinType is the type of the errors of errors.Join.
var joinType = reflect.TypeOf(errors.Join(errGoexit))

// listOf returns the errors in err, if err is a list of errors and nothing
// else.
func listOf(err error) (list []error, is bool) {
	if e, ok := err.(*failures); ok {
		return e.errs, true
	}
	if reflect.TypeOf(err) != joinType {
		return nil, false
	}
	list, _ = wrapped(err)
	return list, true
}

// flat returns the errors of a list and of the lists in it, in order.
func flat(err error) (errs []error) {
	todo := []error{err}
	for len(todo) > 0 {
		e := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		list, is := listOf(e)
		if !is {
			errs = append(errs, e)
		}
		for _, e := range slices.Backward(list) {
			todo = append(todo, e)
		}
	}
	return errs
}

// covers reports whether all of err is ignored. failed is the error of a func
// that panicked.
func (ig *ignore) covers(err error) (yes bool, failed error) {
	for _, ok := range ig.oks {
		failed = caught(func() error { yes = ok(err); return nil })
		if yes || failed != nil {
			return yes, failed
		}
	}
	budget := mostWrapped
	return ig.coversAll(err, &budget), nil
}

// coversAll reports whether errs has err, or all errors that err wraps.
func (ig *ignore) coversAll(err error, budget *int) bool {
	for {
		for _, target := range ig.errs {
			if matches(err, target) {
				return true
			}
		}
		inner, _ := wrapped(err)
		if *budget--; len(inner) == 0 || *budget < 0 {
			return false
		}
		for _, e := range inner[1:] {
			if e == nil || !ig.coversAll(e, budget) {
				return false
			}
		}
		if err = inner[0]; err == nil {
			return false
		}
	}
}

// alwaysCounts reports whether err has a panic in it, or a step whose time ran
// out.
func alwaysCounts(err error) bool {
	found, _ := visit(err, func(e error) bool {
		switch e.(type) {
		case *PanicError, *overdue:
			return true
		}
		return false
	})
	return found
}
