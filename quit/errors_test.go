package quit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

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
		q.RegisterCloser(closerFunc(func() error { return errors.New("two\nlines") }), quit.Name("wordy"))
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
		if !errors.As(err, &p) || p.Value != inPanic || !strings.Contains(string(p.Stack), "TestErrors") {
			t.Errorf("errors.As(*PanicError) = %+v", p)
		}
		// In the order in which they happened.
		wantLines := []string{
			"the cause",
			"a second failure",
			"quit: wordy (quit/errors_test.go:LINE): two",
			"quit: wordy (quit/errors_test.go:LINE): lines",
			"quit: goexit (quit/errors_test.go:LINE): called runtime.Goexit instead of returning",
			"quit: panicky (quit/errors_test.go:LINE): panic: in a panic",
			"quit: hung (quit/errors_test.go:LINE): abandoned after 21.6s: context deadline exceeded",
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

// TestIgnoreKeepsTheRest ignores one of several errors, and what is no error of the closer.
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
		q.RegisterStopFunc(func() { <-hang }, quit.Ignore(context.DeadlineExceeded), quit.Name("hung"), quit.Timeout(1))
		q.RegisterStopFunc(func() { panic(context.Canceled) }, quit.Ignore(context.Canceled), quit.Name("panicky"))
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

// brokenError has an Error and an Unwrap method that panic if it is nil.
type brokenError struct{ text string }

func (e *brokenError) Error() string { return e.text }
func (e *brokenError) Unwrap() error { return errors.New(e.text) }

// TestBrokenError has a closer return a typed nil, the classic.
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

// TestIgnoreOfNestedJoin ignores one of the errors of an event within an event.
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
	if n := len(strings.Split(fmt.Sprint(err), "\n")); n != 3 { // what wraps a join cannot be taken apart
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
		{name: "wrapped", fire: func(q *quit.QuitEvent) { q.Fail(fmt.Errorf("stopped: %w", &quit.SignalError{})) }},
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
		if err := q.Shutdown(t.Context()); !errors.Is(err, test.want) || (test.want == nil) != (err == nil) {
			t.Errorf("%s: Shutdown() = %v, want %v", test.name, err, test.want)
		}
	}
}

// TestNameInOneLine has a name that would break the line of its error.
func TestNameInOneLine(t *testing.T) {
	q := quietEvent()
	q.RegisterCloser(closerFunc(func() error { return errors.New("failed") }), quit.Name("two\nlines\x1b[2J"))
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
