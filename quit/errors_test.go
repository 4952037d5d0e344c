package quit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		var (
			failed, ignored = errors.New("it failed"), errors.New("never mind")
			cause, second   = errors.New("the cause"), errors.New("a second failure")
			inPanic         = errors.New("in a panic")
		)
		hang := make(chan struct{})
		defer close(hang)
		q.RegisterCloser(closerFunc(func() error { return failed }))
		q.RegisterCloser(closerFunc(func() error { return fmt.Errorf("wrapped: %w", ignored) }),
			quit.Ignore(errors.New("other")), quit.Ignore(ignored))
		q.RegisterStopFunc(func() { <-hang }, quit.Name("hung"))
		q.RegisterStopFunc(func() { panic(inPanic) }, quit.Name("panicky"))
		q.RegisterStopFunc(runtime.Goexit, quit.Name("goexit"))
		q.RegisterCloser(closerFunc(func() error { return errors.New("two\nlines") }),
			quit.Name("wordy"))
		q.RegisterStopFunc(func() {}, quit.Name("fine"))
		q.AddGoroutine()
		q.Fail(cause)
		q.Fail(second)
		err := q.Shutdown(context.Background())

		for _, want := range []error{failed, cause, second, inPanic, context.DeadlineExceeded} {
			if !errors.Is(err, want) {
				t.Errorf("errors.Is(err, %q) = false", want)
			}
		}
		if errors.Is(err, ignored) {
			t.Errorf("errors.Is(err, %q) = true, but it is ignored", ignored)
		}
		var p *quit.PanicError
		if !errors.As(err, &p) || p.Value != inPanic ||
			!strings.Contains(string(p.Stack), "TestErrors") {
			t.Errorf("errors.As(*PanicError) = %+v", p)
		}
		// They are in the order in which they happened.
		wantLines := []string{
			"the cause",
			"a second failure",
			"quit: wordy (quit/errors_test.go:LINE): two",
			"quit: wordy (quit/errors_test.go:LINE): lines",
			"quit: goexit (quit/errors_test.go:LINE): called runtime.Goexit instead of returning",
			"quit: panicky (quit/errors_test.go:LINE): panic: in a panic",
			"quit: hung (quit/errors_test.go:LINE): " +
				"abandoned after 21.6s: context deadline exceeded",
			"quit: quit_test.closerFunc (quit/errors_test.go:LINE): it failed",
			"quit: drain: 1 goroutine left after 1.92s: context deadline exceeded",
		}
		got := lineNumber.ReplaceAllString(err.Error(), "_test.go:LINE")
		if want := strings.Join(wantLines, "\n"); got != want {
			t.Errorf("Shutdown() =\n%s\nwant\n%s", got, want)
		}
	})
}

func TestOneFailureIsItself(t *testing.T) {
	q := quietEvent()
	failure := errors.New("failure")
	q.Fail(failure)
	if err := q.Shutdown(t.Context()); err != failure {
		t.Errorf("Shutdown() = %v, want the very error given to Fail", err)
	}
}

func TestSignalIsNoFailure(t *testing.T) {
	q := quietEvent()
	q.Fail(&quit.SignalError{Signal: someSignal{}})
	if err := q.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v, want nil", err)
	}
	var sig *quit.SignalError
	if !errors.As(q.Cause(), &sig) || !errors.Is(q.Cause(), context.Canceled) {
		t.Errorf("Cause() = %#v, want a *SignalError that is context.Canceled", q.Cause())
	}
}

type someSignal struct{}

func (someSignal) Signal()        {}
func (someSignal) String() string { return "some signal" }

// TestIgnoreKeepsTheRest ignores one of several errors of a closer. The others
// count, and so do failures that are not errors of the closer.
func TestIgnoreKeepsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		other, closing := errors.New("other"), errors.New("closing")
		q.RegisterCloser(closerFunc(func() error { return errors.Join(context.Canceled, other) }),
			quit.Ignore(context.Canceled))
		q.RegisterQuitCloser(&bothWays{
			shutdown: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			close:    func() error { return closing },
		}, quit.Ignore(context.DeadlineExceeded))
		hang := make(chan struct{})
		defer close(hang)
		q.RegisterStopFunc(func() { <-hang },
			quit.Ignore(context.DeadlineExceeded), quit.Name("hung"), quit.Timeout(1))
		q.RegisterStopFunc(func() { panic(context.Canceled) },
			quit.Ignore(context.Canceled), quit.Name("panicky"))
		err := q.Shutdown(context.Background())
		for _, want := range []string{": other", ": closing", "hung (", "panicky ("} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("Shutdown() does not have %q: %v", want, err)
			}
		}
		if n := strings.Count(fmt.Sprint(err), "\n") + 1; n != 4 {
			t.Errorf("Shutdown() has %d lines, want 4: %v", n, err)
		}
	})
}

// brokenError is an error whose Error and Unwrap methods panic if it is nil.
type brokenError struct{ text string }

func (e *brokenError) Error() string { return e.text }
func (e *brokenError) Unwrap() error { return errors.New(e.text) }

// TestBrokenError makes a closer return a typed nil.
func TestBrokenError(t *testing.T) {
	q, _ := loggedEvent()
	called := false
	q.RegisterStopFunc(func() { called = true })
	q.RegisterCloser(closerFunc(func() error { var e *brokenError; return e }), quit.Name("broken"))
	err := q.Shutdown(t.Context())
	if err == nil || !strings.Contains(err.Error(), "quit: broken (") || !called {
		t.Errorf("Shutdown() = %v; the next closer was called: %v", err, called)
	}
	if text := q.Report().String(); !strings.Contains(text, "broken") {
		t.Errorf("the report does not tell:\n%s", text)
	}
}

// TestIgnoreOfNestedJoin ignores one of the errors of nested events.
func TestIgnoreOfNestedJoin(t *testing.T) {
	q, child, inner := quietEvent(), quietEvent(), quietEvent()
	kept, ignored := errors.New("kept"), errors.New("ignored")
	inner.RegisterCloser(closerFunc(func() error { return kept }))
	inner.RegisterCloser(closerFunc(func() error { return ignored }))
	child.RegisterQuitCloser(inner)
	q.RegisterQuitCloser(child, quit.Ignore(ignored))
	for _, second := range []error{kept, ignored} {
		q.RegisterCloser(closerFunc(func() error {
			return fmt.Errorf("wrapped: %w", errors.Join(ignored, second))
		}), quit.Ignore(ignored))
	}
	err := q.Shutdown(t.Context())
	if n := strings.Count(fmt.Sprint(err), "kept"); n != 2 {
		t.Errorf("Shutdown() = %v, want both that are kept", err)
	}
	lines := strings.Split(fmt.Sprint(err), "\n")
	if n := len(lines); n != 3 { // an error that wraps a join cannot be taken apart
		t.Errorf("Shutdown() has %d lines, want 3: %v", n, err)
	}
}

func TestSignalAmongFailures(t *testing.T) {
	failure := errors.New("failure")
	for _, test := range []struct {
		name string
		fire func(q *quit.QuitEvent)
		want error
	}{
		{
			name: "wrapped",
			fire: func(q *quit.QuitEvent) {
				q.Fail(fmt.Errorf("stopped: %w", &quit.SignalError{}))
			},
		},
		{
			name: "joined",
			fire: func(q *quit.QuitEvent) { q.Fail(errors.Join(failure, &quit.SignalError{})) },
			want: failure,
		},
		{name: "of Go", fire: func(q *quit.QuitEvent) {
			q.Go(func(context.Context) error { return &quit.SignalError{} })
		}},
	} {
		q := quietEvent()
		test.fire(q)
		<-q.Done()
		err := q.Shutdown(t.Context())
		if !errors.Is(err, test.want) || (test.want == nil) != (err == nil) {
			t.Errorf("%s: Shutdown() = %v, want %v", test.name, err, test.want)
		}
	}
}

// TestNameInOneLine uses a name that contains a newline. The error must not
// break into two lines.
func TestNameInOneLine(t *testing.T) {
	q := quietEvent()
	q.RegisterCloser(closerFunc(func() error { return errors.New("failed") }),
		quit.Name("two\nlines\x1b[2J"))
	if err := q.Shutdown(t.Context()); strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("Shutdown() = %q, want one line", err)
	}
}

func TestReportErrIsTheSame(t *testing.T) {
	q := quietEvent()
	for range 2 {
		q.RegisterCloser(closerFunc(func() error { return errors.New("failed") }))
	}
	if err := q.Shutdown(t.Context()); q.Report().Err() != err {
		t.Errorf("Report().Err() is another error than Shutdown's %v", err)
	}
}

// TestIgnore makes a closer, a goroutine and a child fail with errors that hold
// an ignored one and perhaps others.
func TestIgnore(t *testing.T) {
	ignored, also, lost := errors.New("ignored"), errors.New("ignored too"), errors.New("lost")
	is := func(target error) quit.Option {
		return quit.IgnoreFunc(func(err error) bool { return errors.Is(err, target) })
	}
	same := func(target error) quit.Option {
		return quit.IgnoreFunc(func(err error) bool { return err == target })
	}
	panics := quit.IgnoreFunc(func(error) bool { panic("in the func") })
	exits := quit.IgnoreFunc(func(error) bool { runtime.Goexit(); return true })
	deep := ignored
	for range 40 {
		deep = fmt.Errorf("w: %w", deep)
	}
	for _, test := range []struct {
		name string
		err  error
		opts []quit.Option
		want string // the lines of the result, without names
	}{
		{name: "itself", err: ignored, opts: []quit.Option{quit.Ignore(ignored)}},
		{name: "none", err: ignored, opts: []quit.Option{quit.Ignore()}, want: "ignored"},
		{name: "nil", err: ignored, opts: []quit.Option{quit.Ignore(nil)}, want: "ignored"},
		{
			name: "wrapped",
			err:  fmt.Errorf("w: %w", ignored),
			opts: []quit.Option{quit.Ignore(ignored)},
		},
		{name: "wrapped deep", err: deep, opts: []quit.Option{quit.Ignore(ignored)}},
		{
			name: "several options",
			err:  errors.Join(ignored, also),
			opts: []quit.Option{quit.Ignore(ignored), quit.Ignore(also)},
		},
		{
			name: "joined",
			err:  errors.Join(ignored, lost, ignored),
			opts: []quit.Option{quit.Ignore(ignored)},
			want: "lost",
		},
		{
			name: "joined deep",
			err:  errors.Join(errors.Join(ignored, errors.Join(lost)), also),
			opts: []quit.Option{quit.Ignore(ignored, also)},
			want: "lost",
		},
		{
			name: "joined, none ignored",
			err:  errors.Join(also, lost),
			opts: []quit.Option{quit.Ignore(ignored)},
			want: "ignored too\nlost",
		},
		{
			name: "joined in a wrapper, whose text stays",
			err:  fmt.Errorf("w: %w", errors.Join(ignored, lost)),
			opts: []quit.Option{quit.Ignore(ignored)},
			want: "w: ignored\nlost",
		},
		{
			name: "two in one text",
			err:  fmt.Errorf("%w: %w", ignored, lost),
			opts: []quit.Option{quit.Ignore(ignored)},
			want: "ignored: lost",
		},
		{
			name: "two ignored in one text",
			err:  fmt.Errorf("%w: %w", ignored, also),
			opts: []quit.Option{quit.Ignore(ignored, also)},
		},
		{
			name: "slice",
			err:  sliceError{ignored, lost},
			opts: []quit.Option{quit.Ignore(ignored)},
			want: "ignored\nlost",
		},
		{
			name: "slice, in the other order",
			err:  sliceError{lost, ignored},
			opts: []quit.Option{quit.Ignore(ignored)},
			want: "lost\nignored",
		},
		{
			name: "slice, all ignored",
			err:  sliceError{ignored, ignored},
			opts: []quit.Option{quit.Ignore(ignored)},
		},
		{
			name: "wraps nil",
			err:  &wrapsNil{also, 1},
			opts: []quit.Option{quit.Ignore(ignored)},
			want: "ignored too",
		},
		{
			name: "wraps nil twice",
			err:  &wrapsNil{also, 2},
			opts: []quit.Option{quit.Ignore(ignored)},
			want: "ignored too",
		},
		{
			name: "panic among the joined",
			err:  errors.Join(ignored, &quit.PanicError{Value: ignored}),
			opts: []quit.Option{quit.Ignore(ignored)},
			want: "panic: ignored",
		},
		{
			name: "panic in a wrapper",
			err:  fmt.Errorf("w: %w", &quit.PanicError{Value: ignored}),
			opts: []quit.Option{quit.Ignore(ignored), is(ignored)},
			want: "w: quit: panic: ignored",
		},
		{name: "func", err: fmt.Errorf("w: %w", ignored), opts: []quit.Option{is(ignored)}},
		{
			name: "func of the whole",
			err:  errors.Join(ignored, lost),
			opts: []quit.Option{is(ignored)},
		},
		{
			name: "func of each",
			err:  errors.Join(ignored, lost),
			opts: []quit.Option{same(ignored)},
			want: "lost",
		},
		{
			name: "two funcs",
			err:  errors.Join(ignored, also),
			opts: []quit.Option{same(ignored), same(also)},
		},
		{
			name: "func that says no",
			err:  ignored,
			opts: []quit.Option{same(lost)},
			want: "ignored",
		},
		{
			name: "no func",
			err:  ignored,
			opts: []quit.Option{quit.IgnoreFunc(nil)},
			want: "ignored",
		},
		{
			name: "func that panics",
			err:  lost,
			opts: []quit.Option{panics},
			want: "lost\npanic: in the func",
		},
		{
			name: "func that panics and errors",
			err:  ignored,
			opts: []quit.Option{panics, quit.Ignore(ignored)},
			want: "ignored\npanic: in the func",
		},
		{
			name: "func that ends its goroutine",
			err:  lost,
			opts: []quit.Option{exits},
			want: "lost",
		},
		{
			name: "func that ends its goroutine and errors",
			err:  ignored,
			opts: []quit.Option{exits, quit.Ignore(ignored)},
			want: "ignored",
		},
		{
			name: "func that ends its goroutine, joined",
			err:  errors.Join(ignored, lost),
			opts: []quit.Option{exits},
			want: "ignored\nlost",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			check := func(what, prefix string, q *quit.QuitEvent) {
				t.Helper()
				err := q.Shutdown(t.Context())
				want := ""
				if test.want != "" {
					want = prefix + strings.ReplaceAll(test.want, "\n", "\n"+prefix)
				}
				got := ""
				if err != nil {
					got = lineNumber.ReplaceAllString(err.Error(), "_test.go:LINE")
				}
				if got != want {
					t.Errorf("%s: Shutdown() = %q, want %q", what, got, want)
				}
				if errors.Is(err, lost) != errors.Is(test.err, lost) && test.want != "" {
					t.Errorf("%s: Shutdown() = %v, and is not %q", what, err, lost)
				}
			}
			named := append(test.opts, quit.Name("n"))
			q := quietEvent()
			q.RegisterCloser(closerFunc(func() error { return test.err }), named...)
			check("closer", "quit: n (quit/errors_test.go:LINE): ", q)
			q = quietEvent()
			q.Go(func(context.Context) error { return test.err }, named...)
			q.WaitGoroutines()
			if q.HasFired() != (test.want != "") {
				t.Errorf("goroutine: HasFired() = %v", q.HasFired())
			}
			check("goroutine", "quit: goroutine n: ", q)
			// The names of both steps stay in a failure of a nested event.
			q, child := quietEvent(), quietEvent()
			child.RegisterCloser(closerFunc(func() error { return test.err }),
				quit.Name("n"))
			q.RegisterQuitCloser(child, append(test.opts, quit.Name("child"))...)
			if !strings.HasPrefix(test.name, "func that panics") { // that is not a panic of n
				check("child",
					"quit: child (quit/errors_test.go:LINE): n (quit/errors_test.go:LINE): ",
					q)
			}
		})
	}
}

// TestIgnoreHidesNoTimeout ignores context.DeadlineExceeded of a closer and of
// a child. A step that is abandoned is a failure nonetheless.
func TestIgnoreHidesNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child := quietEvent(), quietEvent()
		hang := make(chan struct{})
		defer close(hang)
		all := []quit.Option{
			quit.Ignore(context.DeadlineExceeded),
			quit.IgnoreFunc(func(err error) bool {
				return errors.Is(err, context.DeadlineExceeded)
			}),
		}
		child.RegisterStopFunc(func() { <-hang }, quit.Name("hung"))
		child.RegisterStopFunc(func() { panic(context.DeadlineExceeded) }, quit.Name("panicky"))
		child.RegisterCloser(closerFunc(func() error { return context.DeadlineExceeded }),
			quit.Name("late"))
		child.AddGoroutine() // never done
		q.RegisterQuitCloser(child, append(all, quit.Name("child"))...)
		q.RegisterStopFunc(func() { <-hang },
			append(all, quit.Timeout(time.Second), quit.Name("hung"))...)
		err := q.Shutdown(context.Background())
		const site, exceeded = " (quit/errors_test.go:LINE): ", ": context deadline exceeded"
		want := "quit: hung" + site + "abandoned after 1.125s" + exceeded + "\n" +
			"quit: child" + site + "panicky" + site + "panic" + exceeded + "\n" +
			"quit: child" + site + "hung" + site + "abandoned after 15.57s" + exceeded + "\n" +
			"quit: child" + site + "drain: 1 goroutine left after 1.384s" + exceeded
		if got := lineNumber.ReplaceAllString(fmt.Sprint(err), "_test.go:LINE"); got != want {
			t.Errorf("Shutdown() =\n%s\nwant\n%s", got, want)
		}
	})
}

// TestPanicNil makes closers and goroutines panic with nil. The recovered value
// is not nil, even if the program asks for the old behavior with GODEBUG.
func TestPanicNil(t *testing.T) {
	for _, setting := range []string{"panicnil=0", "panicnil=1"} {
		t.Run(setting, func(t *testing.T) {
			t.Setenv("GODEBUG", setting)
			q := quietEvent()
			q.RegisterStopFunc(func() { panic(nil) }, quit.Name("closer"))
			q.RegisterQuitCloser(quit.Graceful(func() { panic(nil) }, nil), quit.Name("graceful"))
			q.Go(func(context.Context) error { panic(nil) }, quit.Name("worker"))
			q.WaitGoroutines()
			if p, ok := q.Cause().(*quit.PanicError); !ok || p.Value == nil {
				t.Errorf("Cause() = %v, want a *PanicError with a value", q.Cause())
			}
			err := q.Shutdown(t.Context())
			lines := strings.Split(fmt.Sprint(err), "\n")
			for i, name := range []string{"goroutine worker: ", "graceful (", "closer ("} {
				if len(lines) != 3 || !strings.HasPrefix(lines[i], "quit: "+name) ||
					!strings.Contains(lines[i], ": panic: panic called with nil argument") {
					t.Fatalf("Shutdown() = %v, want a panic of %q in line %d of 3", err, name, i)
				}
			}
			var inner *runtime.PanicNilError
			if p := new(quit.PanicError); !errors.As(err, &p) || !errors.As(err, &inner) ||
				len(p.Stack) == 0 {
				t.Errorf("Shutdown() = %v, want a *PanicError with its stack and value", err)
			}
		})
	}
}

// countingError counts the calls to its Is method.
type countingError struct{ calls *atomic.Int64 }

func (e countingError) Error() string { return "kept" }
func (e countingError) Is(error) bool { e.calls.Add(1); return false }

// TestIgnoreOfManyJoined joins errors one by one, so that each list is nested
// in the next one. Ignore must look at each error only a few times.
func TestIgnoreOfManyJoined(t *testing.T) {
	const n = 20_000
	ignored := errors.New("ignored")
	for _, test := range []struct {
		name string
		opt  func(calls *atomic.Int64) quit.Option
	}{
		{name: "Ignore", opt: func(*atomic.Int64) quit.Option { return quit.Ignore(ignored) }},
		{name: "IgnoreFunc", opt: func(calls *atomic.Int64) quit.Option {
			return quit.IgnoreFunc(func(err error) bool { calls.Add(1); return err == ignored })
		}},
	} {
		for _, by := range []string{"closer", "goroutine"} {
			t.Run(test.name+"/"+by, func(t *testing.T) {
				var calls atomic.Int64
				errs := errors.Join(ignored)
				for i := range n {
					e := error(countingError{&calls})
					if i%1000 == 0 {
						e = ignored
					}
					errs = errors.Join(errs, e)
				}
				q := quietEvent()
				if by == "closer" {
					q.RegisterCloser(closerFunc(func() error { return errs }), test.opt(&calls))
				} else {
					q.Go(func(context.Context) error { return errs }, test.opt(&calls))
					q.WaitGoroutines()
				}
				err := q.Shutdown(t.Context())
				if got := calls.Load(); got > 4*n {
					t.Errorf("%d calls for %d errors, want %d at most", got, n, 4*n)
				}
				text := fmt.Sprint(err)
				kept := strings.Count(text, "kept")
				if strings.Contains(text, "ignored") || kept != n-n/1000 {
					t.Errorf("Shutdown() has %d errors, want %d", kept, n-n/1000)
				}
			})
		}
	}
}

// TestReportErrBeforeEnd checks that Err returns nil until the shutdown has
// ended, even if something has failed.
func TestReportErrBeforeEnd(t *testing.T) {
	q := quietEvent()
	failure := errors.New("failure")
	q.Fail(failure)
	if err := q.Report().Err(); err != nil {
		t.Errorf("Err() before the shutdown = %v, want nil", err)
	}
	q.RegisterStopFunc(func() {
		if err := q.Report().Err(); err != nil {
			t.Errorf("Err() during the shutdown = %v, want nil", err)
		}
	})
	if err := q.Shutdown(t.Context()); err != failure || q.Report().Err() != failure {
		t.Errorf("Shutdown() = %v, Err() after it = %v, want %v", err, q.Report().Err(), failure)
	}
}

// numbered is an error type with several values.
type numbered int

func (e numbered) Error() string { return fmt.Sprint("error ", int(e)) }

// TestFirstOfFailures checks that errors.As finds the first of several failures
// of one type, as it does in the result of errors.Join. Unwrap returns all of
// them.
func TestFirstOfFailures(t *testing.T) {
	q := quietEvent()
	q.Fail(fmt.Errorf("two: %w, %w", numbered(1), numbered(2)))
	q.Fail(numbered(3))
	q.RegisterCloser(closerFunc(func() error { return numbered(4) }), quit.Name("db"))
	err := q.Shutdown(t.Context())
	var first numbered
	if !errors.As(err, &first) || first != 1 {
		t.Errorf("errors.As finds %v, want error 1", first)
	}
	all := err.(interface{ Unwrap() []error }).Unwrap()
	if len(all) != 3 {
		t.Fatalf("Unwrap() = %q, want 3 errors", all)
	}
	for i, want := range []numbered{1, 3, 4} {
		var n numbered
		if !errors.As(all[i], &n) || n != want || !errors.Is(all[i], want) || all[i].Error() == "" {
			t.Errorf("error %d of Unwrap() is %v, want one that is %v", i, all[i], want)
		}
	}
}

// alike is io.EOF for errors.Is, and numbered(7) for errors.As.
type alike struct{}

func (alike) Error() string        { return "alike" }
func (alike) Is(target error) bool { return target == io.EOF }
func (alike) As(target any) bool {
	n, ok := target.(*numbered)
	if ok {
		*n = 7
	}
	return ok
}

// TestMethodsOfFailure checks that the result is what the Is and As methods of
// a failure say, and nothing else. It is so even if the failure is joined with
// another error that has broken methods, wraps others without end, or cannot be
// compared.
func TestMethodsOfFailure(t *testing.T) {
	text := errors.New("broken")
	ways := map[string]func(q *quit.QuitEvent, err error){
		"Fail": func(q *quit.QuitEvent, err error) { q.Fail(err) },
		"closer": func(q *quit.QuitEvent, err error) {
			q.RegisterCloser(closerFunc(func() error { return err }))
		},
		"two failures": func(q *quit.QuitEvent, err error) {
			q.Fail(errors.New("another"))
			q.Fail(err)
		},
	}
	for way, fails := range maps.Clone(ways) {
		ways["closer with the result of "+way] = func(q *quit.QuitEvent, err error) {
			q.RegisterCloser(closerFunc(func() error {
				other := quietEvent()
				fails(other, err)
				return other.Shutdown(t.Context())
			}))
		}
	}
	for way, fails := range ways {
		for _, broken := range []error{
			nil, panickingError{}, &panicsInIs{text}, &panicsInAs{text}, &panicsInUnwrap{text},
			&wrapsItself{text}, &wrapsMany{text}, &wrapsNil{text, 2}, sliceError{text},
		} {
			q := quietEvent()
			fails(q, errors.Join(broken, alike{}))
			err := q.Shutdown(t.Context())
			if !strings.Contains(err.Error(), "alike") && broken != (panickingError{}) {
				t.Errorf("%s with %T: the text is %q", way, broken, err)
			}
			if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s with %T: errors.Is finds no io.EOF, or more", way, broken)
			}
			var n numbered
			if !errors.As(err, &n) || n != 7 || errors.As(err, new(*quit.SignalError)) {
				t.Errorf("%s with %T: errors.As finds %v, want error 7 alone", way, broken, n)
			}
		}
	}
}

// hangingError is an error whose Error method does not return until hang is
// closed.
type hangingError struct{ hang chan int }

func (e hangingError) Error() string { <-e.hang; return "" }

// exitingError is an error whose Error method ends its goroutine.
type exitingError struct{}

func (exitingError) Error() string { runtime.Goexit(); return "" }

// TestErrorThatHangs uses a single failure whose Error method does not return.
// Shutdown returns it nonetheless, and at once if the method does not hang. A
// nested event does not use up the time of its parent.
func TestErrorThatHangs(t *testing.T) {
	for _, test := range []struct{ hangs, nested bool }{
		{hangs: true, nested: false}, {hangs: false, nested: false}, {hangs: true, nested: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			hang := hangingError{make(chan int)}
			defer close(hang.hang)
			failure := error(exitingError{})
			if test.hangs {
				failure = hang
			}
			q := quietEvent()
			fails, most := q, time.Second
			if test.nested {
				fails, most = quietEvent(), 100*ms
				q.RegisterQuitCloser(fails)
			} else if !test.hangs {
				most = 0
			}
			fails.Fail(failure)
			start := time.Now()
			if err := q.Shutdown(context.Background()); err == nil || !errors.Is(err, failure) {
				t.Errorf("%+v: Shutdown() does not return the failure", test)
			}
			if took := time.Since(start); took > most {
				t.Errorf("%+v: Shutdown took %v, want %v at most", test, took, most)
			}
		})
	}
}
