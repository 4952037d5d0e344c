package quit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

func TestGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		ran := false
		if !q.Go(func(ctx context.Context) error {
			<-ctx.Done()
			if context.Cause(ctx) != q.Cause() {
				t.Errorf("context.Cause(ctx) = %v, want %v", context.Cause(ctx), q.Cause())
			}
			time.Sleep(time.Second)
			ran = true
			return ctx.Err() // context.Canceled: no failure
		}) {
			t.Error("Go() = false before the fire")
		}
		if err := q.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
		if !ran {
			t.Error("the shutdown did not wait for the goroutine")
		}
		if q.Go(func(context.Context) error { t.Error("started after the fire"); return nil }) {
			t.Error("Go() = true after the fire")
		}
	})
}

func TestGoError(t *testing.T) {
	failure, other, ignored := errors.New("failure"), errors.New("other"), errors.New("ignored")
	wrapped := fmt.Errorf("wrapped: %w", failure)
	lost := fmt.Errorf("half a file: %w", context.Canceled)
	sig := &quit.SignalError{Signal: someSignal{}}
	fire := func(q *quit.QuitEvent) { q.Fire() }
	fail := func(q *quit.QuitEvent) { q.Fail(failure) }
	signal := func(q *quit.QuitEvent) { q.Fail(sig) }
	wait := func(err error) func(context.Context) error {
		return func(ctx context.Context) error { <-ctx.Done(); return err }
	}
	ofEvent := func(errs ...error) error { // a result that names the closers
		q := quietEvent()
		for _, err := range errs {
			q.RegisterCloser(closerFunc(func() error { return err }))
		}
		return q.Shutdown(t.Context())
	}
	for _, test := range []struct {
		name  string
		first func(q *quit.QuitEvent) // fires
		then  error                   // returned by a goroutine after the fire
		cause error
		want  []error
		not   []error
		lines int // of the error; 0: any number
	}{
		{
			name:  "fires",
			first: func(q *quit.QuitEvent) { q.Go(func(context.Context) error { return failure }) },
			cause: failure,
			want:  []error{failure},
		},
		{
			name: "its own cancellation fires",
			first: func(q *quit.QuitEvent) {
				q.Go(func(context.Context) error { return context.Canceled })
			},
			cause: context.Canceled,
			want:  []error{context.Canceled},
		},
		{
			name:  "after the fire",
			first: fire,
			then:  failure,
			cause: context.Canceled,
			want:  []error{failure},
		},
		{
			name:  "canceled",
			first: fail,
			then:  context.Canceled,
			cause: failure,
			want:  []error{failure},
			not:   []error{context.Canceled},
		},
		{
			name:  "the cause again",
			first: fail,
			then:  failure,
			cause: failure,
			want:  []error{failure},
			not:   []error{wrapped},
			lines: 1,
		},
		{
			name:  "wraps the cause",
			first: fail,
			then:  wrapped,
			cause: failure,
			want:  []error{failure, wrapped},
		},
		{
			name:  "wraps the cancellation",
			first: fire,
			then:  lost,
			cause: context.Canceled,
			want:  []error{lost},
		},
		{
			name:  "wraps the signal",
			first: signal,
			then:  fmt.Errorf("stopped: %w", sig),
			cause: sig,
			want:  []error{sig},
		},
		{name: "the signal", first: signal, then: sig, cause: sig},
		{name: "another signal", first: signal, then: &quit.SignalError{}, cause: sig},
		{name: "two", first: fail, then: other, cause: failure, want: []error{failure, other}},
		{
			name:  "joined",
			first: fail,
			then:  errors.Join(context.Canceled, other, ignored),
			cause: failure,
			want:  []error{failure, other},
			not:   []error{ignored, context.Canceled},
		},
		{
			name:  "a list of one",
			first: fail,
			then:  errors.Join(failure),
			cause: failure,
			want:  []error{failure},
			lines: 1,
		},
		{
			name:  "of another event",
			first: fire,
			then:  ofEvent(context.Canceled),
			cause: context.Canceled,
			want:  []error{context.Canceled},
		},
		{
			name:  "list of another event",
			first: fail,
			then:  ofEvent(failure, errors.New("third")),
			cause: failure,
			want:  []error{failure},
			lines: 3,
		},
		{
			name:  "ignored",
			first: fail,
			then:  fmt.Errorf("%w", ignored),
			cause: failure,
			want:  []error{failure},
			not:   []error{ignored},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quietEvent()
				q.Go(wait(test.then), quit.Name("then"), quit.Ignore(ignored))
				test.first(q)
				<-q.Done()
				if q.Cause().Error() != test.cause.Error() {
					t.Errorf("Cause() = %v, want %v", q.Cause(), test.cause)
				}
				err := q.Shutdown(t.Context())
				for _, want := range test.want {
					if !errors.Is(err, want) {
						t.Errorf("Shutdown() = %v, want it to be %v", err, want)
					}
				}
				for _, not := range test.not {
					if errors.Is(err, not) {
						t.Errorf("Shutdown() = %v, want it not to be %v", err, not)
					}
				}
				n := strings.Count(fmt.Sprint(err), "\n") + 1
				if test.lines > 0 && n != test.lines {
					t.Errorf("Shutdown() = %v, want %d lines", err, test.lines)
				}
				if len(test.want) == 0 && err != nil {
					t.Errorf("Shutdown() = %v, want nil", err)
				}
				if errors.Is(err, other) &&
					!strings.Contains(err.Error(), "quit: goroutine then: other") {
					t.Errorf("Shutdown() = %v, want the goroutine's name", err)
				}
			})
		})
	}
	t.Run("ignored before the fire", func(t *testing.T) {
		q := quietEvent()
		q.Go(func(context.Context) error { return ignored }, quit.Ignore(ignored))
		q.WaitGoroutines()
		if q.HasFired() {
			t.Error("an ignored error fired the event")
		}
	})
}

func TestGoPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		q.Go(func(context.Context) error { panic("boom") }, quit.Name("worker"))
		<-q.Done()
		var p *quit.PanicError
		if p, _ = q.Cause().(*quit.PanicError); p == nil || p.Value != "boom" ||
			!strings.Contains(string(p.Stack), "TestGoPanic") {
			t.Errorf("Cause() = %#v, want a *PanicError with the stack", q.Cause())
		}
		q.WaitGoroutines() // it is no longer counted, in spite of the panic
		synctest.Wait()
		const record = `level=ERROR msg="quit: goroutine failed" goroutine=worker ` +
			`err="quit: panic: boom"`
		if log := logged(); !strings.Contains(log, record) ||
			!strings.Contains(log, "TestGoPanic") {
			t.Errorf("the panic is not logged with name and stack:\n%s", log)
		}
		err := q.Shutdown(t.Context())
		if !errors.As(err, &p) || err.Error() != "quit: goroutine worker: panic: boom" {
			t.Errorf("Shutdown() = %v", err)
		}
	})
}

// slowError is an error whose Unwrap does not return until release is closed.
type slowError struct{ release chan struct{} }

func (e *slowError) Error() string { return "slow" }

func (e *slowError) Unwrap() error {
	<-e.release
	return nil
}

// TestGoErrorBeforeEnd makes a func return an error that cannot be examined at
// once. Its goroutine is counted until the error is recorded, so the drain does
// not end before that.
func TestGoErrorBeforeEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, want := quietEvent(), &slowError{make(chan struct{})}
		q.Go(func(ctx context.Context) error { <-ctx.Done(); return want })
		done := make(chan error, 1)
		go func() { done <- q.Shutdown(context.Background()) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("Shutdown() = %v, before the error was recorded", err)
		default:
		}
		close(want.release)
		if err := <-done; !errors.Is(err, want) {
			t.Errorf("Shutdown() = %v, want %v", err, want)
		}
	})
}

// TestGoPanicCounts panics with an error that would not count if the func
// returned it.
func TestGoPanicCounts(t *testing.T) {
	q := quietEvent()
	q.Go(func(ctx context.Context) error { <-ctx.Done(); panic(ctx.Err()) },
		quit.Ignore(context.Canceled))
	var p *quit.PanicError
	if err := q.Shutdown(t.Context()); !errors.As(err, &p) {
		t.Errorf("Shutdown() = %v, want a *PanicError", err)
	}
}

func TestGoGoexit(t *testing.T) {
	q := quietEvent()
	q.Go(func(context.Context) error { runtime.Goexit(); return nil })
	q.WaitGoroutines()
	if err := q.Shutdown(t.Context()); err != nil || q.Cause() != context.Canceled {
		t.Errorf("Shutdown() = %v, Cause() = %v, want no failure", err, q.Cause())
	}
}

func TestPanicErrorUnwrap(t *testing.T) {
	inner := errors.New("inner")
	err := &quit.PanicError{Value: inner}
	if !errors.Is(err, inner) || err.Error() != "quit: panic: inner" {
		t.Errorf("PanicError of an error: %v, Unwrap %v", err, err.Unwrap())
	}
	if err := (&quit.PanicError{Value: 1}).Unwrap(); err != nil {
		t.Errorf("PanicError{1}.Unwrap() = %v, want nil", err)
	}
}

// labelsNow returns the labels of the goroutines that run park.
func labelsNow(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, record := range strings.Split(b.String(), "\n\n") {
		if strings.Contains(record, "quit_test.park") {
			_, labels, _ := strings.Cut(record, "# labels: ")
			labels, _, _ = strings.Cut(labels, "\n")
			found = append(found, labels)
		}
	}
	return strings.Join(found, " ")
}

//go:noinline
func park(parked *sync.WaitGroup, c chan struct{}) {
	parked.Done()
	<-c
}

// parking keeps one goroutine in park while its labels are read.
type parking struct {
	parked, left sync.WaitGroup
	release      chan struct{}
}

func newParking() *parking {
	p := &parking{release: make(chan struct{})}
	p.parked.Add(1)
	p.left.Add(1)
	return p
}

// enter returns once leave is called.
func (p *parking) enter() {
	defer p.left.Done()
	park(&p.parked, p.release)
}

// labels returns the labels of the goroutine that has called enter.
func (p *parking) labels(t *testing.T) string {
	t.Helper()
	p.parked.Wait()
	return labelsNow(t)
}

// leave makes enter return, and waits until the goroutine has left park.
func (p *parking) leave() {
	close(p.release)
	p.left.Wait()
}

var ownerLabel = regexp.MustCompile(`, "quit.id":"[0-9a-f]+"`)

var closureNumber = regexp.MustCompile(`func\d+`)

func TestLabels(t *testing.T) {
	q := quietEvent()
	check := func(name string, p *parking, want string) {
		t.Helper()
		got := closureNumber.ReplaceAllString(p.labels(t), "funcN")
		got = ownerLabel.ReplaceAllString(got, "")
		if got != want {
			t.Errorf("labels of %s = %s, want %s", name, got, want)
		}
		p.leave()
	}

	named := newParking()
	q.Go(func(context.Context) error { named.enter(); return nil }, quit.Name("named"))
	check("Go with a name", named, `{"quit":"named"}`)

	unnamed := newParking()
	q.Go(func(context.Context) error { unnamed.enter(); return nil })
	check("Go", unnamed, `{"quit":"quit_test.TestLabels.funcN"}`)

	started := newParking()
	q.Go(func(ctx context.Context) error {
		pprof.Do(ctx, pprof.Labels("other", "label"), func(context.Context) {
			go started.enter()
		})
		return nil
	}, quit.Name("parent"))
	check("a goroutine started by Go's", started, `{"other":"label", "quit":"parent"}`)

	closing := newParking()
	q.RegisterStopFunc(closing.enter, quit.Name("closer"))
	go q.GracefulStop()
	check("a closer", closing, `{"quit":"closer"}`)
	q.GracefulStop()
}

// labels returns the pprof labels of a context.
func labels(ctx context.Context) map[string]string {
	all := make(map[string]string)
	pprof.ForLabels(ctx, func(key, value string) bool { all[key] = value; return true })
	return all
}

// TestGoKeepsLabels makes goroutines with labels of their own start others. The
// new goroutines and their contexts have the same labels, and those of the
// package. No goroutine has labels of another one that runs the same func.
func TestGoKeepsLabels(t *testing.T) {
	q, other := quietEvent(), quietEvent()
	release := make(chan struct{})
	defer func() { // the goroutines end before the events are freed
		close(release)
		q.GracefulStop()
		other.GracefulStop()
	}()
	type started struct {
		ctx    context.Context
		labels string // of the goroutine
	}
	begun := make(chan started)
	f := func(ctx context.Context) error { // one func for all cases
		p := newParking()
		go p.enter() // has the labels of this goroutine
		begun <- started{ctx: ctx, labels: p.labels(t)}
		p.leave()
		begun <- started{}
		<-release
		return nil
	}
	const symbol = "quit_test.TestGoKeepsLabels.func2"
	ids := make(map[*quit.QuitEvent]string)
	for _, test := range []struct {
		name   string
		q      *quit.QuitEvent
		labels []string // of the goroutine that calls Go
		opts   []quit.Option
		want   map[string]string
	}{
		{name: "none", q: q, want: map[string]string{"quit": symbol}},
		{
			name:   "one",
			q:      q,
			labels: []string{"request", "1"},
			want:   map[string]string{"quit": symbol, "request": "1"},
		},
		{
			name:   "another",
			q:      q,
			labels: []string{"request", "2"},
			want:   map[string]string{"quit": symbol, "request": "2"},
		},
		{
			name:   "two",
			q:      q,
			labels: []string{"request", "2", "user", "x"},
			want:   map[string]string{"quit": symbol, "request": "2", "user": "x"},
		},
		{name: "none again", q: q, want: map[string]string{"quit": symbol}},
		{
			name: "named",
			q:    q,
			opts: []quit.Option{quit.Name("n")},
			want: map[string]string{"quit": "n"},
		},
		{
			name:   "named, one",
			q:      q,
			labels: []string{"request", "3"},
			opts:   []quit.Option{quit.Name("n")},
			want:   map[string]string{"quit": "n", "request": "3"},
		},
		{
			name:   "named otherwise, one",
			q:      q,
			labels: []string{"request", "3"},
			opts:   []quit.Option{quit.Name("m")},
			want:   map[string]string{"quit": "m", "request": "3"},
		},
		{
			name:   "options",
			q:      q,
			labels: []string{"request", "4"},
			opts:   []quit.Option{quit.Ignore(context.Canceled), quit.Name("n")},
			want:   map[string]string{"quit": "n", "request": "4"},
		},
		{
			name: "options alone",
			q:    q,
			opts: []quit.Option{quit.AfterDrain(), nil, quit.Timeout(1)},
			want: map[string]string{"quit": symbol},
		},
		{
			name:   "a label like ours",
			q:      q,
			labels: []string{"quit", "mine"},
			want:   map[string]string{"quit": symbol},
		},
		{
			name:   "another event",
			q:      other,
			labels: []string{"request", "1"},
			want:   map[string]string{"quit": symbol, "request": "1"},
		},
		{name: "another event, none", q: other, want: map[string]string{"quit": symbol}},
	} {
		for _, round := range []string{"first", "second"} { // the second may use the cache
			t.Run(test.name+"/"+round, func(t *testing.T) {
				pprof.Do(context.Background(), pprof.Labels(test.labels...), func(context.Context) {
					if !test.q.Go(f, test.opts...) {
						t.Fatal("Go() = false")
					}
				})
				s := <-begun
				<-begun
				got := labels(s.ctx)
				id := got["quit.id"]
				if id == "" || ids[test.q] != "" && ids[test.q] != id {
					t.Errorf("the label quit.id = %q, want that of the event, %q", id, ids[test.q])
				}
				ids[test.q] = got["quit.id"]
				delete(got, "quit.id")
				if !maps.Equal(got, test.want) {
					t.Errorf("labels of the context = %q, want %q", got, test.want)
				}
				for key, value := range test.want {
					if want := fmt.Sprintf("%q:%q", key, value); !strings.Contains(s.labels, want) {
						t.Errorf("labels of the goroutine = %s, want %s in them", s.labels, want)
					}
				}
				if n := strings.Count(s.labels, `":"`); n != len(test.want)+1 {
					t.Errorf("labels of the goroutine = %s, want %d", s.labels, len(test.want)+1)
				}
			})
		}
	}
	if ids[q] == ids[other] {
		t.Errorf("both events have the id %q", ids[q])
	}
}

// TestGoInGo makes goroutines of an event start others, of the same event and
// of another one. A goroutine has the label of each event that it belongs to.
func TestGoInGo(t *testing.T) {
	q, other := quietEvent(), quietEvent()
	got := make(chan map[string]string)
	own := func(ctx context.Context) error { got <- labels(ctx); return nil }
	for range 3 {
		q.Go(func(ctx context.Context) error {
			outer := labels(ctx)
			q.Go(own, quit.Name("inner"))
			inner := <-got
			if inner["quit.id"] != outer["quit.id"] || inner["quit"] != "inner" {
				t.Errorf("labels of a goroutine of the same event = %q, of its parent %q",
					inner, outer)
			}
			other.Go(own, quit.Name("other"))
			inner = <-got
			if !strings.HasPrefix(inner["quit.id"], outer["quit.id"]+" ") ||
				inner["quit"] != "other" {
				t.Errorf("labels of a goroutine of another event = %q, of its parent %q",
					inner, outer)
			}
			return nil
		}, quit.Name("outer"))
		q.WaitGoroutines()
		other.WaitGoroutines()
	}
}

// TestGoCacheKeepsIgnores starts one func with and without options that decide
// which errors count.
func TestGoCacheKeepsIgnores(t *testing.T) {
	ignored := errors.New("ignored")
	f := func(context.Context) error { return ignored }
	for _, opts := range [][]quit.Option{
		{quit.Ignore(ignored)},
		{quit.IgnoreFunc(func(err error) bool { return err == ignored })},
		{quit.Name("n"), quit.Ignore(ignored)},
	} {
		q := quietEvent()
		q.Go(f, opts...)
		q.WaitGoroutines()
		if q.HasFired() {
			t.Errorf("with options: %v has fired the event", q.Cause())
		}
		q.Go(f, opts[:len(opts)-1]...)
		q.WaitGoroutines()
		if q.Cause() != ignored {
			t.Errorf("without: Cause() = %v, want %v", q.Cause(), ignored)
		}
		if q.Go(f, opts...) {
			t.Error("Go() = true after the fire")
		}
	}
	// The cache may also know the func without the options first.
	q := quietEvent()
	count := 0
	g := func(context.Context) error {
		if count++; count < 3 {
			return nil
		}
		return ignored
	}
	q.Go(g)
	q.WaitGoroutines()
	q.Go(g, quit.Name("n"))
	q.WaitGoroutines()
	q.Go(g, quit.Name("n"), quit.Ignore(ignored))
	q.WaitGoroutines()
	if q.HasFired() {
		t.Errorf("an option was lost: %v has fired the event", q.Cause())
	}
}

// TestGoCacheKeepsRequestsOut makes a goroutine label each item of its work,
// and start the same func for each. Those labels are not seen again, so nothing
// is cached for them. Goroutines without labels of their own are still cached.
func TestGoCacheKeepsRequestsOut(t *testing.T) {
	for _, labelled := range []bool{false, true} {
		q := quietEvent()
		item := func(context.Context) error { return nil }
		each := func(ctx context.Context) {
			for i := range 200 {
				pprof.Do(ctx, pprof.Labels("item", fmt.Sprint(i)), func(context.Context) {
					q.Go(item)
				})
			}
		}
		kept := 0
		if labelled { // by Go itself
			q.Go(func(ctx context.Context) error { each(ctx); return nil }, quit.Name("dispatcher"))
			kept = 1
		} else {
			each(context.Background())
		}
		q.WaitGoroutines()
		if n := q.Routines(); n != kept {
			t.Errorf("by a goroutine of Go %v: %d are kept, want %d", labelled, n, kept)
		}
		for range 3 {
			q.Go(item)
			q.Go(func(context.Context) error { q.Go(item); return nil }, quit.Name("again"))
			q.WaitGoroutines()
		}
		if n, want := q.Routines(), kept+3; n != want {
			t.Errorf("by a goroutine of Go %v: then %d are kept, want %d", labelled, n, want)
		}
	}
}

// TestGoCacheIsBounded makes up many names. A part of the routines is cached.
func TestGoCacheIsBounded(t *testing.T) {
	q := quietEvent()
	for i := range 1000 {
		q.Go(func(context.Context) error { return nil }, quit.Name(fmt.Sprint(i)))
	}
	q.WaitGoroutines()
	if n := q.Routines(); n == 0 || n > 100 {
		t.Errorf("%d routines are cached, want 1 to 100", n)
	}
}

// drainStacks returns a report with the stacks of the goroutines that hold up
// the drain of q, once it has begun.
func drainStacks(t *testing.T, q *quit.QuitEvent) string {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		r := q.Report()
		if len(r.Steps) > 0 && !r.Steps[0].Start.IsZero() {
			return quit.ReportWithStacks(q)
		}
		select {
		case <-r.Changed():
		case <-limit:
			t.Fatalf("the drain does not begin: %v", r)
		}
	}
}

// TestStacksOfWorkerAlone makes a worker fire the event, and then hold up the
// drain, while the log handler is blocked. The report shows the worker alone.
// The goroutine of the log was started by the worker's call, but holds up no
// drain.
func TestStacksOfWorkerAlone(t *testing.T) {
	hang, handling := make(chan struct{}), make(chan struct{})
	var once sync.Once
	q := eventWith(func(slog.Record) {
		once.Do(func() { close(handling) })
		<-hang
	})
	q.Timeout = -1
	q.Go(func(context.Context) error {
		q.Fail(errors.New("lost"))
		<-hang
		return nil
	}, quit.Name("worker"))
	<-handling
	go q.GracefulStop()
	got := drainStacks(t, q)
	if strings.Count(got, "1 goroutine of worker:") != 1 || strings.Contains(got, "funcHandler") {
		t.Errorf("what holds up the drain =\n%s\nwant the worker alone", got)
	}
	close(hang)
	q.GracefulStop()
}

// TestDrainEndsAtTheLast makes a goroutine end late, but in time. Shortly
// before that, the drain takes the stacks of the remaining goroutines.
func TestDrainEndsAtTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Timeout = 10 * time.Second // the drain has 4/5 of 9 s
		q.AddGoroutine()
		go func() {
			defer q.DoneGoroutine()
			time.Sleep(7 * time.Second)
			if err := q.WorkContext().Err(); err != nil {
				t.Errorf("the context of work in flight: %v, want it alive", err)
			}
		}()
		if err := q.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v, want nil", err)
		}
	})
}

// TestFailureOfOtherEvent makes a goroutine shut down another event after the
// fire, and return its result. A closer there fails with context.Canceled. As
// the error of a goroutine it would not count, but here it is a closer's
// failure.
func TestFailureOfOtherEvent(t *testing.T) {
	q, other := quietEvent(), quietEvent()
	other.RegisterCloser(closerFunc(func() error { return context.Canceled }), quit.Name("db"))
	q.Go(func(ctx context.Context) error {
		<-ctx.Done()
		return other.Shutdown(context.Background())
	})
	q.Fire()
	if err := q.Shutdown(t.Context()); err == nil || !strings.Contains(err.Error(), "db (") ||
		!errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown() = %v, want the failure of the closer of the other event", err)
	}
}
