package quit

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/pprof"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
)

// step is the record of one step of a shutdown: what runs, since when, for how
// long it may, and what became of it. Errors, logs and reports are made of it.
type step struct {
	*entry
	phase phase

	start time.Time
	share time.Duration // the step's context expires at its end; 0: no limit
	watch *time.Timer   // calls look; stopped when the step is over

	// Guarded by q.mu:
	end       time.Time // zero while the step runs
	abandoned bool
	cut       error  // what Shutdown returned before Close was called, as it counts
	err       error  // as it counts
	told      string // the stacks that came with the error of Shutdown
	held      bool   // the stacks of what holds it up are taken, or being taken
	stacks    string // those, or what was told

	over chan struct{} // closed at the end, for one who waits; or nil
}

// newStep begins the step of e. Its share is 4/5 of what is left to deadline, or
// the entry's own timeout if that is shorter. Since a step is abandoned after a
// share and an eighth, none takes more than 9/10 of what was left, and something
// is left for all that follow: until the deadline itself has passed, and then
// each that follows still gets a moment to show that it does not hang.
func newStep(e *entry, p phase, deadline time.Time) *step {
	const moment = time.Millisecond
	s := &step{entry: e, phase: p, start: time.Now()}
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
// The delay and the drain, which are nobody's closers, end by themselves.
func (s *step) abandonAfter() time.Duration {
	if s.site == 0 {
		return 0
	}
	return s.share + s.share/8
}

// run calls the closer and reports whether the caller is to go on with the next
// step: false if the step was abandoned, since then another goroutine has.
func (s *step) run(base context.Context) (goOn bool) {
	ctx, cancel := stacks.Label(base, s.title(), stacks.ID(s)), context.CancelFunc(func() {})
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
		if goOn = s.finish(err, false); goOn && err == errGoexit {
			go s.q.loop() // ends when no step is left
		}
	}()
	err = caught(func() error { return s.call(ctx) })
	return
}

// call calls the closer, and closes one that could not shut down in its time. It
// returns the error that counts: to ignore an error is not to ignore a panic.
func (s *step) call(ctx context.Context) error {
	err := s.closer.Shutdown(ctx)
	if e, ok := err.(*stacks.Error); ok {
		err = e.Err
		s.q.mu.Lock()
		s.told = e.Stacks
		s.q.mu.Unlock()
	}
	c, closes := s.closer.(io.Closer)
	if err == nil || ctx.Err() == nil || !closes {
		return without(err, s.ignored...)
	}
	err = without(err, s.ignored...)
	s.q.mu.Lock()
	s.cut = err // it counts even if Close never returns
	s.q.mu.Unlock()
	return without(c.Close(), s.ignored...)
}

// finish ends the step: once, by its return or by being abandoned, and reports
// whether this call did. Whoever did goes on with the shutdown.
func (s *step) finish(err error, abandoned bool) bool {
	panicked, _ := err.(*PanicError)

	q := s.q
	q.mu.Lock()
	first := s.end.IsZero()
	if abandoned && !first { // it returned just in time
		q.mu.Unlock()
		return false
	}
	if first {
		err = join(s.cut, err)
	}
	held := ""
	if err != nil {
		held = s.told
		err = &namedError{name: s.title(), site: s.siteText(), err: err}
		if q.phase != phaseEnded {
			q.failures = append(q.failures, err)
		}
	}
	if first {
		s.end, s.abandoned, s.err = time.Now(), abandoned, err
		if !abandoned {
			s.stacks = held // and not those of one that did return after its share
		}
		held = s.stacks
		q.running--
	}
	q.mu.Unlock()

	if first {
		s.watch.Stop()
	}
	s.logEnd(first, abandoned, err, panicked, held)
	if first && s.over != nil {
		close(s.over)
	}
	return first
}

// look is called while the step runs: it warns when the step takes long, ever
// rarer; takes the stacks of what holds it up when its share is over, unless the closer
// tells them with its error; and abandons it an eighth later.
func (s *step) look() {
	defer enterLoop(s.q)() // a log handler is user code, and may call the shutdown
	age, last := time.Since(s.start), s.abandonAfter()
	if last > 0 && age >= last {
		if s.finish(fmt.Errorf("abandoned after %v: %w", last.Round(time.Millisecond), context.DeadlineExceeded), true) {
			go s.q.loop() // ends when no step is left
			s.holdup()    // if this look is the first to come after the share
		}
		return
	}

	// The next look comes on time, also if this one takes long.
	s.q.mu.Lock()
	over := !s.end.IsZero()
	if !over { // else finish has stopped the timer, or will
		s.watch.Reset(s.nextLook(age))
	}
	s.q.mu.Unlock()
	if over || s.phase == phaseDelay { // which is meant to take its time
		return
	}
	var holdup []slog.Attr
	if _, tells := s.closer.(stacks.Owner); !tells && last > 0 && age >= s.share {
		holdup = s.holdup()
	}
	if age >= 5*time.Second {
		s.q.warn("quit: step still running", s.attrs(append(holdup,
			slog.Duration("for", age.Round(time.Millisecond)), slog.String("left", s.left(age)))...)...)
	}
}

// holdup takes the stacks of the goroutines that hold up the step, once. In a
// crowd of goroutines that may take until after the step was abandoned.
func (s *step) holdup() []slog.Attr {
	s.q.mu.Lock()
	taken := s.held
	s.held = true
	s.q.mu.Unlock()
	if taken {
		return nil
	}
	text := s.heldUpBy(stacks.All())
	attr := slog.String("stacks", text)
	s.q.mu.Lock()
	late := s.abandoned
	if late || s.end.IsZero() {
		s.stacks = text
	}
	s.q.mu.Unlock()
	if late {
		s.q.log(slog.LevelError, "quit: stacks of abandoned step", s.attrs(attr)...)
	}
	return []slog.Attr{attr}
}

// heldUpBy returns, of all stacks, those of the goroutines that hold up the step: its
// own, which are in the closer, and those that the closer waits for.
func (s *step) heldUpBy(all map[string]string) string {
	if s.phase == phaseDrain {
		return all[stacks.ID(s.q)]
	}
	text := all[stacks.ID(s)]
	if c, ok := s.closer.(stacks.Owner); ok {
		text = all[string(c.Owner())] + text
	}
	return text
}

// nextLook returns the time from age, which is zero or when look was called, to
// the next look: at 5 s, 10 s, 20 s and so on, at the end of the share, and when
// the step is to be abandoned.
func (s *step) nextLook(age time.Duration) time.Duration {
	next := 5 * time.Second
	for next <= age {
		next *= 2
	}
	if last := s.abandonAfter(); last > 0 {
		if age < s.share {
			next = min(next, s.share)
		}
		next = min(next, last)
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

// siteText returns where the closer was registered; "" if it is not a closer's.
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

// logEnd logs the end of the step, or the return of one that was abandoned.
func (s *step) logEnd(first, abandoned bool, err error, panicked *PanicError, held string) {
	level, msg := slog.LevelDebug, "quit: step ended"
	if err != nil {
		level, msg = slog.LevelError, "quit: step failed"
	}
	switch {
	case abandoned && first:
		msg = "quit: step abandoned"
	case !first && err != nil:
		msg = "quit: abandoned step failed"
	case !first:
		msg = "quit: abandoned step returned"
	}
	if !s.q.logs(level) {
		return
	}
	attrs := s.attrs(slog.Duration("took", time.Since(s.start).Round(time.Microsecond)))
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	if panicked != nil {
		attrs = append(attrs, slog.String("stack", string(panicked.Stack)))
	}
	if held != "" {
		attrs = append(attrs, slog.String("stacks", held))
	}
	s.q.log(level, msg, attrs...)
}
