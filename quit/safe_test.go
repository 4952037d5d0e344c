package quit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// panicsInIs and the types after it are errors with one method that panics or
// never ends.
type panicsInIs struct{ error }

func (*panicsInIs) Is(error) bool { panic("in Is") }

type panicsInAs struct{ error }

func (*panicsInAs) As(any) bool { panic("in As") }

type panicsInUnwrap struct{ error }

func (*panicsInUnwrap) Unwrap() error { panic("in Unwrap") }

// wrapsItself wraps errors without end, and so do the next two types.
type wrapsItself struct{ error }

func (e *wrapsItself) Unwrap() error { return e }

// wrapsNew wraps another error each time.
type wrapsNew struct{ n int }

func (e *wrapsNew) Error() string { return "one of many" }
func (e *wrapsNew) Unwrap() error { return &wrapsNew{n: e.n + 1} }

// wrapsMany wraps itself more than once.
type wrapsMany struct{ error }

func (e *wrapsMany) Unwrap() []error { return []error{e, e} }

// wrapsNil wraps n errors that are nil.
type wrapsNil struct {
	error
	n int
}

func (e *wrapsNil) Unwrap() []error { return make([]error, e.n) }

// sliceError, structError and hiddenError cannot be compared. For hiddenError,
// that depends on the value and not on the type.
type sliceError []error

func (e sliceError) Error() string   { return errors.Join(e...).Error() }
func (e sliceError) Unwrap() []error { return e }

type structError struct{ lines []string }

func (e structError) Error() string { return strings.Join(e.lines, "; ") }

type hiddenError struct{ detail any }

func (e hiddenError) Error() string { return fmt.Sprint(e.detail) }

// holds reports whether err is an E or wraps one.
func holds[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// realError is the error beside a broken one.
type realError struct{ text string }

func (e *realError) Error() string { return e.text }

// ways are the ways in which an error gets into the result of a shutdown. The
// error comes before the fire, or after it if late is set and that is possible.
var ways = []struct {
	name  string
	fails func(q *quit.QuitEvent, late bool, err error, opts ...quit.Option)
}{
	{
		name: "Fail",
		fails: func(q *quit.QuitEvent, late bool, err error, _ ...quit.Option) {
			if late {
				q.Fire()
			}
			q.Fail(err)
		},
	},
	{name: "Go", fails: goFails},
	{
		name: "panic in Go",
		fails: func(q *quit.QuitEvent, late bool, err error, opts ...quit.Option) {
			goDoes(q, late, func() error { panic(err) }, opts...)
		},
	},
	{
		name: "closer",
		fails: func(q *quit.QuitEvent, _ bool, err error, opts ...quit.Option) {
			q.RegisterCloser(closerFunc(func() error { return err }), opts...)
		},
	},
	{
		name: "panic in a closer",
		fails: func(q *quit.QuitEvent, _ bool, err error, opts ...quit.Option) {
			q.RegisterStopFunc(func() { panic(err) }, opts...)
		},
	},
	{
		name: "Fail of a child",
		fails: func(q *quit.QuitEvent, late bool, err error, opts ...quit.Option) {
			child := quietEvent()
			q.RegisterQuitCloser(child, opts...)
			if late {
				q.Fire()
			}
			child.Fail(err)
		},
	},
	{
		name: "Go of a child",
		fails: func(q *quit.QuitEvent, late bool, err error, opts ...quit.Option) {
			child := quietEvent()
			q.RegisterQuitCloser(child, opts...)
			goFails(child, late, err)
		},
	},
	{
		name: "closer of a child",
		fails: func(q *quit.QuitEvent, _ bool, err error, opts ...quit.Option) {
			child := quietEvent()
			q.RegisterQuitCloser(child, opts...)
			child.RegisterCloser(closerFunc(func() error { return err }))
			child.RegisterCloser(closerFunc(func() error { return errors.New("another") }))
		},
	},
}

func goFails(q *quit.QuitEvent, late bool, err error, opts ...quit.Option) {
	goDoes(q, late, func() error { return err }, opts...)
}

// goDoes makes a goroutine of q call do, at once or after the fire.
func goDoes(q *quit.QuitEvent, late bool, do func() error, opts ...quit.Option) {
	q.Go(func(ctx context.Context) error {
		if late {
			<-ctx.Done()
		}
		return do()
	}, opts...)
	if !late {
		q.WaitGoroutines()
	}
}

// TestBrokenErrors uses errors with methods that cannot be called, in all of
// these ways. The process survives, and each closer is called. Shutdown returns
// an error in which errors.Is and errors.As find the errors that they should.
func TestBrokenErrors(t *testing.T) {
	text := errors.New("broken")
	for _, broken := range []struct {
		name    string
		err     error
		holds   func(error) bool
		endless bool
	}{
		{name: "nil OpError", err: (*net.OpError)(nil), holds: holds[*net.OpError]},
		{name: "panics in Error", err: (*brokenError)(nil), holds: holds[*brokenError]},
		{name: "panics in Is", err: &panicsInIs{text}, holds: holds[*panicsInIs]},
		{name: "panics in As", err: &panicsInAs{text}, holds: holds[*panicsInAs]},
		{
			name:  "panics in Unwrap",
			err:   &panicsInUnwrap{text},
			holds: holds[*panicsInUnwrap],
		},
		{
			name:    "wraps itself",
			err:     &wrapsItself{text},
			holds:   holds[*wrapsItself],
			endless: true,
		},
		{name: "wraps ever new", err: &wrapsNew{}, holds: holds[*wrapsNew], endless: true},
		{
			name:    "wraps itself twice",
			err:     &wrapsMany{text},
			holds:   holds[*wrapsMany],
			endless: true,
		},
		{name: "wraps nil", err: &wrapsNil{text, 2}, holds: holds[*wrapsNil]},
		{
			name:  "slice",
			err:   sliceError{text, context.Canceled},
			holds: holds[sliceError],
		},
		{
			name:  "struct with a slice",
			err:   structError{lines: []string{"broken"}},
			holds: holds[structError],
		},
		{
			name:  "hidden slice",
			err:   hiddenError{detail: []int{1}},
			holds: holds[hiddenError],
		},
		{
			name:  "hidden func",
			err:   hiddenError{detail: func() {}},
			holds: holds[hiddenError],
		},
	} {
		for _, way := range ways {
			t.Run(broken.name+"/"+way.name, func(t *testing.T) {
				for _, opts := range [][]quit.Option{
					{quit.Ignore(context.DeadlineExceeded, errors.New("another"))},
					{quit.IgnoreFunc(func(error) bool { return false })},
					nil,
				} {
					for _, late := range []bool{false, true} {
						for _, beside := range []string{"alone", "beside", "joined"} {
							q, _ := loggedEvent()
							fails := func(err error) { way.fails(q, late, err, opts...) }
							testBroken(t, q, broken.err, broken.holds, beside, fails)
							if t.Failed() {
								t.Fatalf("%d options; late: %v; the real error: %s",
									len(opts), late, beside)
							}
						}
					}
					if broken.endless { // each look at it takes long
						break
					}
				}
			})
		}
	}
}

func testBroken(
	t *testing.T,
	q *quit.QuitEvent,
	err error,
	holdsIt func(error) bool,
	beside string,
	fails func(error),
) {
	t.Helper()
	var called atomic.Int32
	count := func() { called.Add(1) }
	q.RegisterStopFunc(count)
	q.RegisterStopFunc(count, quit.AfterDrain())
	lost := &realError{text: "lost"}
	whole := err
	if beside == "joined" {
		whole = errors.Join(err, lost)
	}
	fails(whole)
	if beside == "beside" {
		q.RegisterCloser(closerFunc(func() error { return lost }))
	}
	q.RegisterStopFunc(count)

	got := q.Shutdown(t.Context())
	if n := called.Load(); n != 3 {
		t.Errorf("%d closers were called, want 3", n)
	}
	if got == nil || !holdsIt(got) {
		t.Fatalf("Shutdown() = %v, and does not hold the error", got)
	}
	wantLost := beside != "alone"
	if is, as := errors.Is(got, lost), holds[*realError](got); is != wantLost || as != wantLost {
		t.Errorf("the error beside it is found: %v by errors.Is, %v by errors.As; want %v",
			is, as, wantLost)
	}
	if errors.Is(got, errors.New("none")) || holds[*json.SyntaxError](got) {
		t.Errorf("an error is found that is not there")
	}
	if !errors.Is(got, got) {
		t.Errorf("errors.Is(err, err) = false")
	}
	errors.Is(got, err) // must not panic; an error that cannot be compared is not found
	if text := got.Error(); beside == "beside" && !strings.Contains(text, "lost") {
		t.Errorf("Error() = %q does not have the error beside", text)
	}
	report := q.Report()
	if drawn := report.String(); !strings.Contains(drawn, "✗") {
		t.Errorf("the report does not tell of a failure:\n%s", drawn)
	}
	var decoded struct{ Failures []string }
	b, err := json.Marshal(report)
	if err != nil || json.Unmarshal(b, &decoded) != nil || len(decoded.Failures) == 0 {
		t.Errorf("the report as JSON: %s, %v", b, err)
	}
}

// brokenContext is a context whose Value panics.
type brokenContext struct{ context.Context }

func (brokenContext) Value(any) any { panic("in Value") }

// TestBrokenContext gives Shutdown a context whose Value panics.
func TestBrokenContext(t *testing.T) {
	q := quietEvent()
	ctx := brokenContext{t.Context()}
	called := 0
	q.RegisterQuitCloser(quit.ShutdownFunc(func(own context.Context) error {
		called++
		if v := own.Value(key{}); v != nil {
			t.Errorf("Value() = %v, want nil", v)
		}
		derived, cancel := context.WithTimeout(own, time.Hour)
		defer cancel()
		return q.Shutdown(brokenContext{derived}) // known only by its goroutine
	}))
	child := quietEvent()
	child.RegisterStopFunc(func() { called++ })
	child.RegisterStopFunc(func() { called++ }, quit.AfterDrain())
	q.RegisterQuitCloser(child)
	if err := q.Shutdown(ctx); err != nil || called != 3 {
		t.Errorf("Shutdown() = %v, %d closers were called, want 3", err, called)
	}
	q.RegisterStopFunc(func() { called++ })
	if err := q.Shutdown(ctx); err != nil || called != 4 {
		t.Errorf("after the end: Shutdown() = %v, %d closers were called, want 4", err, called)
	}
}
