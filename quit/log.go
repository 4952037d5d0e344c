// # Logging
//
// An event logs to its [QuitEvent.Logger], or to [slog.Default]. The records
// and their attributes are:
//
//	Info   quit: fired                        cause
//	Info   quit: stopped                      took, failures
//	Debug  quit: step begins                  step, site, share
//	Debug  quit: step ended                   step, site, took
//	Warn   quit: step still running           step, site, for, left
//	Error  quit: step failed                  step, site, took, err
//	Error  quit: step abandoned               step, site, took, err
//	Error  quit: stacks                       step, site, stacks
//	Debug  quit: abandoned step returned      step, site, took
//	Error  quit: abandoned step failed        step, site, took, err
//	Error  quit: goroutine failed             goroutine, err
//	Error  quit: failed                       err
//	Error  quit: failure after the shutdown   err
//	Info   quit: signal stays ignored         signal
//	Warn   quit: log records lost             records
//
// The attribute site is the place where the closer was registered. The delay
// and the drain have none. The record of a panic also has the attribute stack.
// The attribute stacks has the stacks of a step that was abandoned, or of a
// drain that was given up. A step that still runs is logged after 5, 10, 20
// seconds and so on. A nested event adds the attribute event to each record,
// with the name under which it is registered.
//
// Misuse is logged at level Warn, with the site of the call:
//
//   - a nil closer, or a nil func passed to Go
//   - a func passed to Go after the fire, once for each func
//   - a call to Shutdown with a context that is done
//   - a closer passed to RegisterCloser that also has a Shutdown method
//   - a call to WaitSignal in a program that closes and awaits nothing
//
// A record is made at the moment of the event that it describes. A goroutine of
// the event hands the records to the handler, in that order. A handler that is
// slow, blocks or panics changes nothing for any closer. At its end the
// shutdown waits for the last record, within its time, or for a second if it
// has no limit. If the handler does not keep up, further records are counted
// and not kept. Before the fire, the goroutine of the caller hands over the
// warnings of misuse.
//
// A failure that the handler itself reports with Fail counts, but is not
// logged. Misuse by the handler is not logged either. If the handler starts a
// shutdown, its call does not wait for the end.
package quit

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	msgFired       = "quit: fired"
	msgStopped     = "quit: stopped"
	msgIgnored     = "quit: signal stays ignored"
	msgBegins      = "quit: step begins"
	msgEnded       = "quit: step ended"
	msgRunning     = "quit: step still running"
	msgFailed      = "quit: step failed"
	msgAbandoned   = "quit: step abandoned"
	msgStacks      = "quit: stacks"
	msgLateReturn  = "quit: abandoned step returned"
	msgLateFailure = "quit: abandoned step failed"
	msgGoroutine   = "quit: goroutine failed"
	msgFailure     = "quit: failed"
	msgAfterEnd    = "quit: failure after the shutdown"
	msgNil         = "quit: nil ignored"
	msgNotStarted  = "quit: goroutine not started, the event has fired"
	msgDone        = "quit: Shutdown was called with a context that is done"
	msgHasShutdown = "quit: closer has Shutdown too, RegisterCloser calls Close"
	msgUnused      = "quit: nothing was closed or awaited"
	msgRecordsLost = "quit: log records lost"
)

const (
	mostRecords     = 4096            // records that wait for the handler
	mostDebug       = mostRecords / 2 // records of level Debug among them
	mostEventLevels = 8               // names in the attribute event
)

// record is a log record that waits to be handed over. Its attributes are made
// only when it is handed over, so a record that the handler does not want costs
// little.
type record struct {
	at     time.Time
	level  slog.Level
	msg    string
	logger *slog.Logger
	step   *step // or nil
	attrs  []slog.Attr
}

// records are the log records of an event that wait to be handed over. While
// there are any, one goroutine hands them over in order.
type records struct {
	// ending is held shared while a step ends, from before the schedule is told
	// until its record is here. The end of the shutdown locks it once. So the
	// record of a step never comes after that of the end, and is always waited
	// for.
	ending sync.RWMutex

	mu        sync.Mutex // guards the fields below; a leaf
	waiting   []record
	lost      int           // since the last record about lost ones
	lostDebug int           // the same, of level Debug
	logger    *slog.Logger  // of the last record that was taken
	handing   bool          // handOver runs
	empty     chan struct{} // closed when handOver ends; nil if nobody waits

	// noDebug is set while the handler is known to want no Debug records. It is
	// only a hint, so an outdated value does no harm.
	noDebug atomic.Bool
}

// log queues a record for handOver, and starts handOver if it does not run.
func (q *QuitEvent) log(r record) {
	l := &q.records
	r.logger = q.logger()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch n := len(l.waiting); {
	case r.level < slog.LevelInfo && n >= mostDebug:
		l.lostDebug++
	case n >= mostRecords:
		l.lost++
	default:
		l.waiting = append(l.waiting, r)
	}
	if !l.handing {
		l.handing = true
		go q.handOver() // ends when nothing waits
	}
}

// handOver passes records to the handler until none is left.
func (q *QuitEvent) handOver() {
	l := &q.records
	// A handler may start a shutdown, but not wait for one. The end of q waits
	// for the handler. If the handler waited for an event that waits for q, all
	// of q's time would pass.
	defer walk(q.logStep())()
	pprof.SetGoroutineLabels(context.Background()) // not the caller's labels
	done := false
	defer func() {
		if !done { // the handler called Goexit
			go q.handOver() // ends when nothing waits
		}
	}()
	for asked := false; ; asked = true {
		r, ok := l.take()
		if !ok {
			done = true
			return
		}
		if !asked {
			// This comes after take, so an Enabled method that calls Goexit
			// loses one record each time, and is not called for ever. It asks
			// the record's Logger, since q.Logger may have been set since.
			l.noDebug.Store(!enabled(r.logger, slog.LevelDebug))
		}
		r.handle(q)
	}
}

// logStep returns the step that stands for a call to the handler.
func (q *QuitEvent) logStep() *step { return &step{q: q, node: &q.node, isLog: true} }

// take takes the next record. It reports false if handOver may end.
func (l *records) take() (r record, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := l.lost
	if !l.noDebug.Load() {
		lost += l.lostDebug
	}
	switch {
	case len(l.waiting) > 0:
		r = l.waiting[0]
		l.waiting[0] = record{} // to be collected
		l.waiting = l.waiting[1:]
		l.logger = r.logger
		return r, true
	case lost > 0:
		l.lost, l.lostDebug = 0, 0
		return record{
			at:     time.Now(),
			level:  slog.LevelWarn,
			msg:    msgRecordsLost,
			logger: l.logger,
			attrs:  []slog.Attr{slog.Int("records", lost)},
		}, true
	}
	l.waiting, l.lostDebug, l.handing = nil, 0, false
	if l.empty != nil {
		close(l.empty)
		l.empty = nil
	}
	return record{}, false
}

// idle returns a channel that is closed when all records have been handed over,
// or nil if none waits.
func (l *records) idle() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handing && l.empty == nil {
		l.empty = make(chan struct{})
	}
	return l.empty
}

// byHandler reports whether the caller is a log handler that handOver of any
// event called.
func byHandler() bool {
	return slices.ContainsFunc(callers(context.Background()), func(s *step) bool { return s.isLog })
}

// handle calls the handler. It drops a panic of the handler, since there is no
// other log to report it to.
func (r *record) handle(q *QuitEvent) {
	defer func() { _ = recover() }()
	logger := r.logger
	if logger == nil {
		logger = q.logger()
	}
	ctx := context.Background()
	if !logger.Enabled(ctx, r.level) {
		return
	}
	var pc [1]uintptr
	runtime.Callers(1, pc[:])
	out := slog.NewRecord(r.at, r.level, r.msg, pc[0])
	if s := r.step; s != nil {
		out.AddAttrs(slog.String("step", s.title))
		if s.site != 0 {
			out.AddAttrs(slog.String("site", s.siteText()))
		}
		r.addTimes(&out)
	}
	out.AddAttrs(r.attrs...)
	if name := q.path(); name != "" {
		out.AddAttrs(slog.String("event", name))
	}
	_ = logger.Handler().Handle(ctx, out)
}

// addTimes adds the attributes that depend on the time and the step.
func (r *record) addTimes(out *slog.Record) {
	s, age := r.step, r.at.Sub(r.step.start)
	switch r.msg {
	case msgBegins:
		if s.deadline.IsZero() {
			out.AddAttrs(slog.Duration("share", 0))
			return
		}
		out.AddAttrs(slog.Duration("share", s.deadline.Sub(s.start)))
	case msgRunning:
		left := "no limit"
		if !s.last.IsZero() {
			left = s.last.Sub(r.at).Round(time.Millisecond).String()
		}
		out.AddAttrs(slog.Duration("for", age.Round(time.Millisecond)), slog.String("left", left))
	case msgStacks:
	default:
		out.AddAttrs(slog.Duration("took", age.Round(time.Microsecond)))
	}
}

// enabled reports whether the handler wants records of the level. A handler
// that panics wants none.
func enabled(l *slog.Logger, level slog.Level) (yes bool) {
	defer func() { _ = recover() }()
	return l.Enabled(context.Background(), level)
}

// logger returns the logger of q. Its methods are user code.
func (q *QuitEvent) logger() *slog.Logger {
	if q.Logger != nil {
		return q.Logger
	}
	return slog.Default()
}

// path returns the names under which the event and its parents are registered,
// the outermost first, or "" if the event has no parent.
func (q *QuitEvent) path() string {
	path := ""
	for level := 0; ; level++ {
		title, up := q.parent()
		if title == "" {
			return path
		}
		if level == mostEventLevels {
			return "…: " + path
		}
		if path != "" {
			title += ": " + path
		}
		path, q = title, up
	}
}

// parent returns the parent of the event, and the name under which the event is
// registered there. The parent is the event that shuts this one down, or the
// only one that may. If there is none, the name is "".
func (q *QuitEvent) parent() (title string, parent *QuitEvent) {
	if s := q.sched.startedBy(); s != nil {
		return s.title, s.q
	}
	return q.parents.only()
}

// warn logs misuse, on the goroutine that makes the mistake. After the fire,
// handOver does it: a handler that blocks must not keep main from its end. No
// shutdown waits for the log any more once the last step is over. Misuse by the
// handler itself is not logged, since that could go on for ever.
func (q *QuitEvent) warn(msg string, attrs ...slog.Attr) {
	if byHandler() {
		return
	}
	r := newWarning(msg, attrs...)
	if !q.HasFired() {
		defer walk(q.logStep())()
		r.handle(q)
		return
	}
	q.log(r)
	if q.sched.hasEnded() {
		q.awaitLog(context.Background())
	}
}

// newWarning returns the record of a misuse.
func newWarning(msg string, attrs ...slog.Attr) record {
	return record{at: time.Now(), level: slog.LevelWarn, msg: msg, attrs: attrs}
}

func (q *QuitEvent) logFired(cause error) {
	q.log(record{
		at:    q.event.at,
		level: slog.LevelInfo,
		msg:   msgFired,
		attrs: []slog.Attr{slog.Any("cause", cause)},
	})
}

func (q *QuitEvent) logStopped(at time.Time, failures int) {
	took := at.Sub(q.event.at).Round(time.Microsecond)
	q.log(record{
		at:    at,
		level: slog.LevelInfo,
		msg:   msgStopped,
		attrs: []slog.Attr{slog.Duration("took", took), slog.Int("failures", failures)},
	})
}

func (q *QuitEvent) logUnused(at time.Time, site string) {
	q.log(record{
		at:    at,
		level: slog.LevelWarn,
		msg:   msgUnused,
		attrs: []slog.Attr{slog.String("site", site)},
	})
}

func (q *QuitEvent) logIgnored(s os.Signal) {
	q.log(record{
		at:    time.Now(),
		level: slog.LevelInfo,
		msg:   msgIgnored,
		attrs: []slog.Attr{slog.Any("signal", s)},
	})
}

func (q *QuitEvent) logBegins(s *step) {
	if !q.records.noDebug.Load() {
		q.log(record{at: s.start, level: slog.LevelDebug, msg: msgBegins, step: s})
	}
}

func (q *QuitEvent) logRunning(s *step, at time.Time) {
	q.log(record{at: at, level: slog.LevelWarn, msg: msgRunning, step: s})
}

// logFault logs a failure of a step that may go on running.
func (q *QuitEvent) logFault(s *step, err error, stacks string) {
	attrs := failureAttrs(err)
	if stacks != "" {
		attrs = append(attrs, slog.String("stacks", stacks))
	}
	q.log(record{at: time.Now(), level: slog.LevelError, msg: msgFailed, step: s, attrs: attrs})
}

// logEnd logs the end of a step, or the return of an abandoned step.
func (q *QuitEvent) logEnd(s *step, at time.Time, err error, abandoned, first bool) {
	r := record{at: at, level: slog.LevelDebug, msg: msgEnded, step: s}
	if !first {
		r.msg = msgLateReturn
	}
	if err == nil {
		if !q.records.noDebug.Load() {
			q.log(r)
		}
		return
	}
	switch {
	case abandoned:
		r.msg = msgAbandoned
	case first:
		r.msg = msgFailed
	default:
		r.msg = msgLateFailure
	}
	r.level, r.attrs = slog.LevelError, failureAttrs(err)
	q.log(r)
}

func (q *QuitEvent) logStacks(s *step, stacks string) {
	q.log(record{
		at:    time.Now(),
		level: slog.LevelError,
		msg:   msgStacks,
		step:  s,
		attrs: []slog.Attr{slog.String("stacks", stacks)},
	})
}

// logFailure logs a failure that does not belong to a step. goroutine is the
// name of the goroutine that failed, or "". A failure that the handler itself
// reports is not logged, since that could go on for ever.
func (q *QuitEvent) logFailure(err error, goroutine string, counts bool) {
	if byHandler() {
		return
	}
	r := record{at: time.Now(), level: slog.LevelError, msg: msgFailure}
	switch {
	case !counts:
		r.msg = msgAfterEnd
	case goroutine != "":
		r.msg = msgGoroutine
	}
	if goroutine != "" {
		r.attrs = append(r.attrs, slog.String("goroutine", goroutine))
	}
	r.attrs = append(r.attrs, failureAttrs(err)...)
	q.log(r)
}

// failureAttrs returns the attributes of a failure: the error, and the stack of
// a panic.
func failureAttrs(err error) []slog.Attr {
	attrs := []slog.Attr{slog.Any("err", err)}
	if p, ok := err.(*PanicError); ok {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	return attrs
}
