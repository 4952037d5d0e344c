package quit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/pprof"
	"time"
)

// step is the record of one step of a shutdown: what runs, since when, for how
// long it may, and what became of it. Errors, logs and reports are made of it.
type step struct {
	q *QuitEvent
	*entry
	phase phase

	start time.Time
	share time.Duration // the step's context expires at its end; 0: no limit
	watch *time.Timer   // calls look; stopped when the step is over

	// Guarded by q.mu:
	end       time.Time // zero while the step runs
	abandoned bool
	err       error  // as it counts; nil if ignored
	stacks    string // of the goroutines that held it up

	over chan struct{} // closed at the end, for one who waits; or nil
}

// newStep begins the step of e. Its share is 4/5 of what is left to deadline, or
// the entry's own timeout if that is shorter. Since a step is abandoned after a
// share and an eighth, none takes more than 9/10 of what was left, and something
// is left for all that follow: until the deadline itself has passed, and then
// each that follows still gets a moment to show that it does not hang.
func newStep(q *QuitEvent, e *entry, p phase, deadline time.Time) *step {
	const moment = time.Millisecond
	s := &step{q: q, entry: e, phase: p, start: time.Now()}
	if !deadline.IsZero() {
		if s.share = deadline.Sub(s.start) / 5 * 4; s.share <= 0 {
			s.share = moment
		}
	}
	if e.timeout > 0 && (s.share == 0 || e.timeout < s.share) {
		s.share = e.timeout
	}
	return s
}

// abandonAfter returns how long after its start the step is abandoned; 0: never.
// The drain is not: it gives up by itself, and knows better than a timer why.
func (s *step) abandonAfter() time.Duration {
	if s.phase == phaseDrain {
		return 0
	}
	return s.share + s.share/8
}

// run calls the closer and reports whether the caller is to go on with the next
// step: false if the step was abandoned, since then another goroutine has.
func (s *step) run(base context.Context) (goOn bool) {
	ctx, cancel := label(base, s.title(), ownerID(s)), context.CancelFunc(func() {})
	pprof.SetGoroutineLabels(ctx)
	if s.share > 0 {
		ctx, cancel = context.WithDeadline(ctx, s.start.Add(s.share))
	}
	defer cancel()

	// The timer is made stopped and then started, so that look finds it.
	const never = 1<<63 - 1
	s.watch = time.AfterFunc(never, s.look)
	s.watch.Reset(s.nextLook(0))

	s.logBegin()
	err := errGoexit
	defer func() {
		// This goroutine ends here if the closer called Goexit, and cannot go on.
		goOn = s.finish(err, false)
		switch {
		case !goOn:
			s.q.log(slog.LevelDebug, "quit: abandoned step returned", s.attrs(slog.Any("err", err))...)
		case err == errGoexit:
			go s.q.loop() // ends when no step is left
		}
	}()
	err = caught(func() error { return s.call(ctx) })
	return
}

// call calls the closer, and closes one that could not shut down in its time. It
// returns the errors that count: to ignore an error is not to ignore a panic.
func (s *step) call(ctx context.Context) error {
	err := s.closer.Shutdown(ctx)
	c, closes := s.closer.(io.Closer)
	if err == nil || ctx.Err() == nil || !closes {
		return without(err, s.ignored...)
	}
	return errors.Join(without(err, s.ignored...), caught(func() error { return without(c.Close(), s.ignored...) }))
}

// finish ends the step: once, by its return or by being abandoned, and reports
// whether this call did. Whoever did goes on with the shutdown.
func (s *step) finish(err error, abandoned bool) bool {
	var stacks string
	if held, ok := err.(*heldUp); ok {
		stacks, err = held.stacks, held.err
	}
	if err != nil {
		err = &namedError{name: s.title(), site: s.siteText(), err: err}
	}
	q := s.q
	q.mu.Lock()
	first := s.end.IsZero()
	if first {
		s.end, s.abandoned, s.err, s.stacks = time.Now(), abandoned, err, stacks
		q.running--
		if err != nil && q.phase != phaseEnded {
			q.failures = append(q.failures, err)
		}
	}
	q.mu.Unlock()

	if !first {
		return false
	}
	s.watch.Stop()
	s.logEnd()
	if s.over != nil {
		close(s.over)
	}
	return true
}

// heldUp is the error of a step that did not end in time, with the stacks of the
// goroutines that it waited for.
type heldUp struct {
	err    error
	stacks string
}

func (h *heldUp) Error() string { return h.err.Error() }

// look is called while the step runs: it warns when the step takes long, ever
// rarer, and abandons it when its time is over.
func (s *step) look() {
	age := time.Since(s.start)
	if max := s.abandonAfter(); max > 0 && age >= max {
		err := fmt.Errorf("abandoned after %v: %w", max.Round(time.Millisecond), context.DeadlineExceeded)
		if s.finish(&heldUp{err, stacks()[ownerID(s)]}, true) {
			s.q.loop()
		}
		return
	}
	if s.phase != phaseDelay { // which is meant to take its time
		s.q.warn("quit: step still running", s.attrs(
			slog.Duration("for", age.Round(time.Millisecond)), slog.String("left", s.left(age)))...)
	}
	s.q.mu.Lock()
	defer s.q.mu.Unlock()
	if s.end.IsZero() { // else finish has stopped the timer, or will
		s.watch.Reset(s.nextLook(age))
	}
}

// nextLook returns the time from age, which is zero or when look was called, to
// the next look: at 5 s, 10 s, 20 s and so on, and when the step is to be abandoned.
func (s *step) nextLook(age time.Duration) time.Duration {
	next := 5 * time.Second
	for next <= age {
		next *= 2
	}
	if max := s.abandonAfter(); max > 0 {
		next = min(next, max)
	}
	return next - age
}

func (s *step) left(age time.Duration) string {
	if s.share == 0 {
		return "no limit"
	}
	return (s.share + s.share/8 - age).Round(time.Millisecond).String()
}

// title returns the step's name: the one it was given, or the default.
func (e *entry) title() string {
	if e.name != "" {
		return e.name
	}
	return closerName(e.closer)
}

// siteText returns where the closer was registered; "" if the step is not a closer's.
func (e *entry) siteText() string {
	if e.site == 0 {
		return ""
	}
	return siteName(e.site)
}

func (s *step) attrs(more ...slog.Attr) []slog.Attr {
	attrs := []slog.Attr{slog.String("step", s.title())}
	if s.site != 0 {
		attrs = append(attrs, slog.String("site", s.siteText()))
	}
	return append(attrs, more...)
}

func (s *step) logBegin() {
	if s.q.logs(slog.LevelDebug) {
		s.q.log(slog.LevelDebug, "quit: step begins", s.attrs(slog.Duration("share", s.share))...)
	}
}

// logEnd is called once the step has ended, when its fields do not change anymore.
func (s *step) logEnd() {
	level, msg := slog.LevelDebug, "quit: step ended"
	switch {
	case s.abandoned:
		level, msg = slog.LevelError, "quit: step abandoned"
	case s.err != nil:
		level, msg = slog.LevelError, "quit: step failed"
	}
	if !s.q.logs(level) {
		return
	}
	attrs := s.attrs(slog.Duration("took", s.end.Sub(s.start).Round(time.Microsecond)))
	if s.err != nil {
		attrs = append(attrs, slog.Any("err", s.err))
	}
	if p := (*PanicError)(nil); errors.As(s.err, &p) {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	if s.stacks != "" {
		attrs = append(attrs, slog.String("stacks", s.stacks))
	}
	s.q.log(level, msg, attrs...)
}
