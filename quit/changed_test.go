package quit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// TestChanged goes through the life of an event and its child. It checks which
// operations close the channel of a report that was taken just before.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child, inner := quietEvent(), quietEvent(), quietEvent()
		failure := errors.New("failure")
		var unregister, unregisterInner func() bool
		step := make(chan struct{}) // lets a closer return
		wait := func() { <-step }
		var began, ended bool
		for _, test := range []struct {
			name string
			do   func()
			not  bool // nothing changes, so the channel stays open
		}{
			{name: "registration", do: func() { unregister = q.RegisterStopFunc(func() {}) }},
			{name: "unregister", do: func() { unregister() }},
			{name: "unregister again", do: func() { unregister() }, not: true},
			{name: "nil", do: func() { q.RegisterStopFunc(nil) }, not: true},
			{
				name: "registration of an event",
				do:   func() { q.RegisterQuitCloser(child, quit.Name("child")) },
			},
			{
				name: "registration in it",
				do:   func() { unregisterInner = child.RegisterStopFunc(func() {}) },
			},
			{name: "unregister in it", do: func() { unregisterInner() }},
			{
				name: "registration of an event in it",
				do:   func() { child.RegisterQuitCloser(inner, quit.Name("inner")) },
			},
			{name: "registration in that", do: func() { inner.RegisterStopFunc(wait) }},
			{
				name: "counting",
				do:   func() { q.AddGoroutine(); child.AddGoroutine(); inner.AddGoroutine() },
				not:  true,
			},
			{
				name: "counting down",
				do:   func() { child.DoneGoroutine(); inner.DoneGoroutine() },
				not:  true,
			},
			{
				name: "Go",
				do:   func() { q.Go(func(context.Context) error { return nil }) },
				not:  true,
			},
			{
				name: "a report",
				do:   func() { _ = q.Report().String(); q.Report().Changed() },
				not:  true,
			},
			{name: "fire in it", do: func() { inner.Fire() }},
			{name: "fire", do: func() { q.Fire() }},
			{name: "fire again", do: func() { q.Fire() }, not: true},
			{name: "failure", do: func() { q.Fail(failure) }},
			{
				name: "begin of steps",
				do:   func() { go q.GracefulStop(); synctest.Wait(); began = true },
			},
			{name: "nothing", do: func() { time.Sleep(time.Second) }, not: true},
			{
				name: "end of a step in the innermost",
				do:   func() { step <- struct{}{}; synctest.Wait() },
			},
			{
				name: "registration in the drain",
				do:   func() { q.RegisterStopFunc(wait); synctest.Wait() },
			},
			{name: "end of the drain", do: func() { q.DoneGoroutine(); synctest.Wait() }},
			{
				name: "end of a step, and the end",
				do:   func() { step <- struct{}{}; synctest.Wait(); ended = true },
			},
			{name: "failure after the end", do: func() { q.Fail(failure) }, not: true},
			{
				name: "registration after the end",
				do:   func() { q.RegisterStopFunc(func() { panic("late") }) },
				not:  true,
			},
			{name: "time", do: func() { time.Sleep(time.Hour) }, not: true},
		} {
			before := q.Report()
			watched, also := before.Changed(), before.Changed()
			if isClosed(watched) {
				t.Errorf("before %s: closed", test.name)
			}
			if r := q.Report(); began == r.Started.IsZero() || ended == r.Ended.IsZero() {
				t.Errorf("before %s: Started = %v, Ended = %v", test.name, r.Started, r.Ended)
			}
			test.do()
			if got := isClosed(watched); got == test.not || isClosed(also) != got {
				t.Errorf("%s: closed = %v and %v, want %v",
					test.name, got, isClosed(also), !test.not)
			}
			// The same holds if Changed is called only after the change.
			if got := isClosed(before.Changed()); got == test.not {
				t.Errorf("%s: closed = %v when it is asked after, want %v",
					test.name, got, !test.not)
			}
		}
	})
}

// TestChangedNever checks reports that can never change: the zero one, and one
// whose event is gone.
func TestChangedNever(t *testing.T) {
	if c := (quit.Report{}).Changed(); c == nil || isClosed(c) {
		t.Error("the channel of the zero Report is closed, or nil")
	}
	gone := make(chan struct{})
	report := func() quit.Report {
		q := quietEvent()
		runtime.AddCleanup(q, func(c chan struct{}) { close(c) }, gone)
		return q.Report()
	}()
	changed := report.Changed()
	waitFor(t, gone)
	if isClosed(changed) || isClosed(report.Changed()) {
		t.Error("the channel of an event that is gone is closed")
	}
}

// TestChangedInRing watches two events that are registered with each other.
func TestChangedInRing(t *testing.T) {
	a, b := quietEvent(), quietEvent()
	a.RegisterQuitCloser(b)
	b.RegisterQuitCloser(a)
	b.RegisterQuitCloser(b)
	for _, q := range []*quit.QuitEvent{a, b} {
		for _, other := range []*quit.QuitEvent{a, b} {
			c := q.Report().Changed()
			if isClosed(c) {
				t.Error("closed before the change")
			}
			other.RegisterStopFunc(func() {})
			if !isClosed(c) {
				t.Error("not closed after the change")
			}
		}
	}
}

// TestWatchersDoNotPileUp watches all events of a tree of which only one
// changes, again and again.
func TestWatchersDoNotPileUp(t *testing.T) {
	q, child, still := quietEvent(), quietEvent(), quietEvent()
	q.RegisterQuitCloser(child)
	q.RegisterQuitCloser(still)
	for _, busy := range []*quit.QuitEvent{q, child} {
		for range 1000 {
			changed := q.Report().Changed()
			busy.RegisterStopFunc(func() {})()
			<-changed
		}
		for name, event := range map[string]*quit.QuitEvent{
			"parent":          q,
			"child":           child,
			"the other child": still,
		} {
			if n := event.Watchers(); n > 2 {
				t.Errorf("%d watchers of the %s", n, name)
			}
		}
	}
}

// TestChangedTellsAll lets watchers follow events that change at random. Each
// watcher must see the end, and its last report must be complete.
func TestChangedTellsAll(t *testing.T) {
	seed := rand.Uint64()
	for round := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, round))
		q, child := quietEvent(), quietEvent()
		q.Concurrent = random.IntN(2) == 0
		q.RegisterQuitCloser(child)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				limit := time.After(time.Minute)
				for {
					r := q.Report()
					if !r.Ended.IsZero() {
						if want := fmt.Sprint(q.Report().Steps); fmt.Sprint(r.Steps) != want {
							t.Errorf("seed %d, round %d: the last report = %v, want %v",
								seed, round, r.Steps, want)
						}
						return
					}
					select {
					case <-r.Changed():
					case <-limit:
						t.Errorf("seed %d, round %d: nobody told of the end", seed, round)
						return
					}
				}
			})
		}
		for range random.IntN(20) {
			e := []*quit.QuitEvent{q, child}[random.IntN(2)]
			unregister := e.RegisterStopFunc(runtime.Gosched)
			switch random.IntN(4) {
			case 0:
				unregister()
			case 1:
				e.Fail(errors.New("failed"))
			case 2:
				e.RegisterStopFunc(func() { e.RegisterStopFunc(func() {}) })
			}
		}
		q.GracefulStop()
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}

// TestReportIsOneMoment takes reports while an event fires, shuts down and
// ends. Everything in a report must have been true at one moment.
func TestReportIsOneMoment(t *testing.T) {
	rounds := 300
	if testing.Short() || quit.UnderRace {
		rounds = 100
	}
	for round := range rounds {
		q, child := quietEvent(), quietEvent()
		q.Concurrent = round%2 == 0
		for range 3 {
			q.RegisterCloser(closerFunc(func() error {
				runtime.Gosched()
				return errors.New("failed")
			}))
			child.RegisterStopFunc(runtime.Gosched, quit.AfterDrain())
		}
		q.RegisterQuitCloser(child)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for {
					r := q.Report()
					wrong := func(format string, args ...any) {
						t.Errorf(format+": %+v", append(args, r)...)
					}
					begun, running, lastEnd := 0, 0, time.Time{}
					for _, s := range r.Steps {
						if !s.Start.IsZero() {
							begun++
							if s.Deadline.IsZero() || s.Deadline.Before(s.Start) ||
								s.Start.Before(r.Started) {
								wrong("step %s: from %v, until %v", s.Name, s.Start, s.Deadline)
							}
						}
						if !s.Start.IsZero() && s.End.IsZero() {
							running++
						}
						if s.Err != nil && s.Start.IsZero() {
							wrong("step %s has failed before it has begun", s.Name)
						}
						if s.End.After(lastEnd) {
							lastEnd = s.End
						}
					}
					switch {
					case begun > 0 && (r.Fired.IsZero() || r.Cause == nil || r.Started.IsZero()):
						wrong("%d steps have begun in an event that has not fired", begun)
					case !r.Started.IsZero() && (r.Fired.IsZero() || r.Cause == nil):
						wrong("the shutdown has started, but the event has not fired")
					case (r.Cause == nil) != r.Fired.IsZero():
						wrong("Cause without Fired, or Fired without Cause")
					case r.Started.Before(r.Fired) && !r.Started.IsZero():
						wrong("the shutdown has started before the fire")
					case !r.Ended.IsZero() && (running > 0 || begun < len(r.Steps)):
						wrong("the shutdown has ended with %d steps that run, of %d begun",
							running, begun)
					case !r.Ended.IsZero() && (r.Ended.Before(lastEnd) || r.Err() == nil):
						wrong("the shutdown has ended before a step, or without its failures")
					case r.Ended.IsZero() && r.Err() != nil:
						wrong("Err() = %v before the end", r.Err())
					case len(r.Steps) != 5:
						wrong("%d steps, want 5", len(r.Steps))
					}
					if !r.Ended.IsZero() || t.Failed() {
						return
					}
					yield()
				}
			})
		}
		wg.Go(func() { q.Fail(errors.New("the cause")) })
		wg.Go(q.GracefulStop)
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}

// TestStepDeadline checks Step.Deadline for shares of all kinds. It is the
// moment at which the closer's context expires.
func TestStepDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child := quietEvent(), quietEvent()
		q.Timeout = 10 * time.Second
		ends := make(map[string]time.Time)
		look := func(name string) quit.ShutdownFunc {
			return func(ctx context.Context) error {
				ends[name], _ = ctx.Deadline()
				time.Sleep(time.Second)
				return nil
			}
		}
		q.RegisterQuitCloser(look("after"), quit.Name("after"), quit.AfterDrain())
		q.RegisterQuitCloser(look("short"), quit.Name("short"), quit.Timeout(2*time.Second))
		q.RegisterQuitCloser(child, quit.Name("child"))
		child.RegisterQuitCloser(look("inner"), quit.Name("inner"))
		start := time.Now()
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		want := map[string]time.Duration{
			"child": 7200 * time.Millisecond,
			"inner": 5184 * time.Millisecond, // 4/5 of 7.2s less the reserve of 720ms
			"short": 3 * time.Second,
			"drain": 2*time.Second + 5600*time.Millisecond,
			"after": 2*time.Second + 5600*time.Millisecond,
		}
		r := q.Report()
		if r.Started != start || r.Deadline.Sub(start) != 10*time.Second {
			t.Errorf("Started %v after the start, Deadline %v",
				r.Started.Sub(start), r.Deadline.Sub(start))
		}
		steps := append(r.Steps, r.Steps[0].Steps[0])
		if len(steps) != len(want) {
			t.Fatalf("%d steps, want %d", len(steps), len(want))
		}
		for _, s := range steps {
			if got := s.Deadline.Sub(start); got != want[s.Name] {
				t.Errorf("step %s: Deadline %v after the start, want %v",
					s.Name, got, want[s.Name])
			}
			if end, ok := ends[s.Name]; ok && !end.Equal(s.Deadline) {
				t.Errorf("step %s: Deadline %v, that of the context %v",
					s.Name, s.Deadline, end)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.Timeout = -1
		q.RegisterStopFunc(func() {})
		q.GracefulStop()
		for _, s := range q.Report().Steps {
			if !s.Deadline.IsZero() {
				t.Errorf("step %s: Deadline %v without a limit", s.Name, s.Deadline)
			}
		}
	})
}

// TestChangedOfIdle calls Changed again and again on reports of an idle event.
// One watcher serves all calls.
func TestChangedOfIdle(t *testing.T) {
	q, child := quietEvent(), quietEvent()
	child.RegisterStopFunc(func() {})
	q.RegisterQuitCloser(child)
	r := q.Report()
	watched := r.Changed()
	for range 5000 {
		if r.Changed() != watched || q.Report().Changed() != watched {
			t.Fatal("two channels for one change")
		}
	}
	for name, event := range map[string]*quit.QuitEvent{"event": q, "child": child} {
		if n := event.Watchers(); n != 1 {
			t.Errorf("%d watchers of the %s, want 1", n, name)
		}
	}
	child.Fire()
	if !isClosed(watched) {
		t.Error("the channel is not closed after the change")
	}
}

// TestChangedByLeaving unregisters children that have changed a different
// number of times. An earlier report is out of date in each case, even if the
// sums of the versions happen to be equal.
func TestChangedByLeaving(t *testing.T) {
	for changes := range 5 {
		for _, watched := range []bool{false, true} {
			q, child := quietEvent(), quietEvent()
			for range changes {
				child.RegisterStopFunc(func() {})
			}
			unregister := q.RegisterQuitCloser(child)
			r := q.Report()
			if watched {
				defer func(c <-chan struct{}) {
					if !isClosed(c) {
						t.Errorf("a child with %d changes was taken out: not closed", changes)
					}
				}(r.Changed())
			}
			unregister()
			if !isClosed(r.Changed()) {
				t.Errorf("a child with %d changes was taken out: "+
					"not closed when it is asked after", changes)
			}
		}
	}
}
