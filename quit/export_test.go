package quit

import (
	"os"
	"time"

	"github.com/gracefulgo/graceful/internal/stacks"
)

// What tests need of the inside.
var (
	ShortSymbol = shortSymbol
	GoroutineID = goroutineID
)

// Taken returns r as a snapshot taken at that time, with err as what failed so far.
func (r Report) Taken(at time.Time, err error) Report {
	r.taken, r.err = at, err
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		r.failures = joined.Unwrap()
	} else if err != nil {
		r.failures = []error{err}
	}
	return r
}

// Left returns the time from when r was taken to its deadline.
func (r Report) Left() time.Duration { return r.Deadline.Sub(r.taken) }

// NamedError returns the error of a step.
func NamedError(name, site string, err error) error { return &namedError{name, site, err} }

// ReportWithStacks is what a forced end writes.
func ReportWithStacks(q *QuitEvent) string {
	return q.report(make(map[*QuitEvent]bool), stacks.All()).String()
}

// Handler returns a handler that gets its signals from the caller: take reports
// whether one ends the process.
func Handler(q *QuitEvent, since time.Time) (take func(s os.Signal, now time.Time) bool) {
	return (&handler{q: q, since: since}).take
}

// HoldCounter keeps the first of all adds, and all waits, from what they do until release.
func (q *QuitEvent) HoldCounter() (release func()) {
	q.count.mu.Lock()
	return q.count.mu.Unlock
}
