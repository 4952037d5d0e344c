package quit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/gracefulgo/graceful/internal/stacks"
	"github.com/gracefulgo/graceful/internal/text"
	"github.com/gracefulgo/graceful/quit"
)

var update = flag.Bool("update", false, "write the golden files anew")

// at returns a time on the axis of the reports in this file.
func at(d time.Duration) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(d)
}

// ran returns a step that ran.
func ran(phase quit.Phase, name, site string, start, end time.Duration) quit.Step {
	return quit.Step{Name: name, Site: site, Phase: phase, Start: at(start), End: at(end)}
}

func failed(s quit.Step, err error) quit.Step { s.Err = err; return s }

func abandoned(s quit.Step, stacks string) quit.Step {
	s.Abandoned, s.Stacks = true, stacks
	s.Err = fmt.Errorf("abandoned after %v: %w", s.End.Sub(s.Start), context.DeadlineExceeded)
	return s
}

const (
	sec = time.Second
	ms  = time.Millisecond
	us  = time.Microsecond
)

// reports returns the reports that the golden files show.
func reports() map[string]quit.Report {
	stack := "1 goroutine of *kafka.Reader:\n" +
		"\tsync.(*WaitGroup).Wait\n\t\t/usr/local/go/src/sync/waitgroup.go:118\n" +
		"\texample.com/shop/kafka.(*Reader).Close\n\t\t/src/shop/kafka/reader.go:214\n"
	sigterm := errors.New("quit: received signal: terminated")
	reader := abandoned(
		ran(quit.PhaseClosers, "*kafka.Reader", "shop/main.go:58", 3050*ms, 3050*ms+19755*ms),
		stack,
	)
	refused := errors.New("write tcp 10.0.0.7:5432: broken pipe")

	stuck := quit.Report{
		Cause: sigterm, Fired: at(0), Started: at(0), Deadline: at(25 * sec), Ended: at(24800 * ms),
		Goroutines: 2,
		Steps: []quit.Step{
			ran(quit.PhaseDelay, "delay", "", 0, 3*sec),
			ran(quit.PhaseClosers, "*http.Server", "shop/main.go:71", 3*sec, 3050*ms),
			reader,
			{
				Name: "workers", Site: "shop/main.go:49", Phase: quit.PhaseClosers,
				Start: at(22805 * ms), End: at(22900 * ms),
				Steps: []quit.Step{
					ran(quit.PhaseClosers, "pool", "worker/pool.go:31", 22806*ms, 22850*ms),
					ran(quit.PhaseDrain, "drain", "", 22850*ms, 22899*ms),
				},
			},
			failed(
				ran(quit.PhaseDrain, "drain", "", 22900*ms, 24600*ms),
				errors.New("2 goroutines left after 1.7s: context deadline exceeded"),
			),
			failed(
				ran(quit.PhaseAfterDrain, "*sql.DB", "shop/main.go:44", 24600*ms, 24800*ms),
				refused,
			),
		},
	}.Taken(at(30*sec), errors.Join(
		quit.NamedError(reader.Name, reader.Site, reader.Err),
		quit.NamedError("drain", "",
			errors.New("2 goroutines left after 1.7s: context deadline exceeded")),
		quit.NamedError("*sql.DB", "shop/main.go:44", refused),
		quit.NamedError("goroutine shop.(*mailer).run", "", errors.New("smtp: no such host")),
	))

	running := quit.Report{
		Cause: sigterm, Fired: at(0), Started: at(0), Deadline: at(25 * sec), Goroutines: 14,
		Steps: []quit.Step{
			ran(quit.PhaseClosers, "*http.Server", "shop/main.go:71", 0, 900*ms),
			{
				Name: "*kafka.Reader", Site: "shop/main.go:58", Phase: quit.PhaseClosers,
				Start: at(900 * ms), Stacks: stack,
			},
			{Name: "cache", Site: "shop/main.go:40", Phase: quit.PhaseClosers},
			{Name: "drain", Phase: quit.PhaseDrain},
			{Name: "*sql.DB", Site: "shop/main.go:44", Phase: quit.PhaseAfterDrain},
		},
	}.Taken(at(7*sec), nil)

	plan := quit.Report{
		Deadline: at(25 * sec), Goroutines: 1,
		Steps: []quit.Step{
			{Name: "*http.Server", Site: "shop/main.go:71", Phase: quit.PhaseClosers},
			{Name: "drain", Phase: quit.PhaseDrain},
			{Name: "*sql.DB", Site: "shop/main.go:44", Phase: quit.PhaseAfterDrain},
		},
	}.Taken(at(0), nil)

	odd := quit.Report{
		Cause: context.Canceled, Fired: at(0), Started: at(0), Ended: at(125 * sec),
	}
	const longSite = "a/very/long/directory/name/of_a_file_that_goes_on.go:12345"
	for i, name := range []string{
		"<b onclick='x'>&amp;</b>",
		"two\nlines\tand a tab",
		"right-to-left \u202egnp.exe",
		"数据库连接池",
		"一个名字非常非常非常长的消息队列消费者",
		"nul\x00 esc\x1b[31m bad\xff",
		strings.Repeat("long ", 2000),
		"",
		"é́́ combining",
		"🚀 rocket",
	} {
		start := time.Duration(i) * 12 * sec
		odd.Steps = append(odd.Steps,
			ran(quit.PhaseClosers, name, longSite, start, start+12*sec))
	}
	odd.Steps = append(odd.Steps, failed(
		ran(quit.PhaseClosers, "last\nname", "x/y.go:1", 124*sec, 125*sec),
		errors.New("a\x1b[2Jb\nsecond line"),
	))
	odd = odd.Taken(at(200*sec), nil)

	many := quit.Report{
		Cause: context.Canceled, Fired: at(0), Started: at(0), Deadline: at(10 * sec),
		Ended: at(400 * ms),
	}
	for i := range 300 {
		start := time.Duration(i) * ms
		s := ran(quit.PhaseClosers, "*net.TCPConn", "proxy/conn.go:88", start, start+ms)
		if i == 120 {
			s = failed(s, errors.New("connection reset"))
		}
		many.Steps = append(many.Steps, s)
	}
	many.Steps = append(many.Steps, ran(quit.PhaseDrain, "drain", "", 300*ms, 300*ms+12*us))
	many = many.Taken(at(sec), nil)

	instant := quit.Report{
		Cause: context.Canceled, Fired: at(0), Started: at(0), Deadline: at(sec), Ended: at(0),
		Steps: []quit.Step{ran(quit.PhaseDrain, "drain", "", 0, 0)},
	}.Taken(at(0), nil)

	fired := quit.Report{
		Cause: sigterm, Fired: at(0), Deadline: at(30 * sec),
		Steps: []quit.Step{{Name: "drain", Phase: quit.PhaseDrain}},
	}.Taken(at(5*sec), nil)

	fast := quit.Report{
		Cause: sigterm, Fired: at(0), Started: at(0), Deadline: at(25 * sec), Ended: at(431 * us),
		Steps: []quit.Step{
			ran(quit.PhaseClosers, "*http.Server", "server/main.go:71", 12*us, 300*us),
			ran(quit.PhaseDrain, "drain", "", 301*us, 301*us+700),
			ran(quit.PhaseAfterDrain, "journal", "server/main.go:40", 302*us, 431*us),
		},
	}.Taken(at(sec), nil)

	unlimited := quit.Report{
		Cause: context.Canceled, Fired: at(0), Started: at(0), Ended: at(3 * time.Hour),
		Steps: []quit.Step{
			ran(quit.PhaseClosers, "backup", "tool/main.go:9", 0, 2*time.Hour),
			ran(quit.PhaseDrain, "drain", "", 2*time.Hour, 3*time.Hour),
		},
	}.Taken(at(4*time.Hour), nil)

	return map[string]quit.Report{
		"nothing":   quit.Report{}.Taken(at(0), nil),
		"plan":      plan,
		"fired":     fired,
		"running":   running,
		"stuck":     stuck,
		"odd":       odd,
		"many":      many,
		"instant":   instant,
		"fast":      fast,
		"unlimited": unlimited,
	}
}

func TestReportString(t *testing.T) {
	for name, report := range reports() {
		t.Run(name, func(t *testing.T) {
			got := report.String()
			file := filepath.Join("testdata", "report", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
				t.Errorf("String() =\n%s\nwant\n%s", got, want)
			}
			table, _, _ := strings.Cut(got, "\n\n")
			for _, line := range strings.Split(table, "\n")[1:] {
				if w := text.Width(line); w > 80 {
					t.Errorf("a line of the table has %d columns, want 80 at most: %q", w, line)
				}
			}
			for _, r := range got {
				if r != '\n' && (r < ' ' || r == 0x7f || r == 0x202e) {
					t.Errorf("String() has %U", r)
				}
			}
			if !utf8.ValidString(got) {
				t.Error("String() is not UTF-8")
			}
		})
	}
}

func TestReportJSON(t *testing.T) {
	report := reports()["stuck"]
	report.Started, report.Steps[1].Deadline = at(ms), at(20*sec)
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Cause                           string
		Fired, Started, Deadline, Ended time.Time
		Goroutines                      int
		Failures                        []string
		Steps                           []struct {
			Name, Site, Phase    string
			Start, Deadline, End time.Time
			Err, Stacks          string
			Abandoned            bool
			Steps                []struct{ Name string }
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Cause != report.Cause.Error() ||
		!got.Fired.Equal(report.Fired) || !got.Started.Equal(report.Started) ||
		!got.Deadline.Equal(report.Deadline) || !got.Ended.Equal(report.Ended) ||
		got.Goroutines != report.Goroutines ||
		len(got.Steps) != len(report.Steps) || len(got.Failures) != 4 {
		t.Errorf("MarshalJSON() = %s", text)
	}
	for i, s := range report.Steps {
		g := got.Steps[i]
		errText := ""
		if s.Err != nil {
			errText = s.Err.Error()
		}
		if g.Name != s.Name || g.Site != s.Site || g.Phase != s.Phase.String() ||
			!g.Start.Equal(s.Start) || !g.Deadline.Equal(s.Deadline) || !g.End.Equal(s.End) ||
			g.Err != errText || g.Abandoned != s.Abandoned || g.Stacks != s.Stacks ||
			len(g.Steps) != len(s.Steps) {
			t.Errorf("step %d of MarshalJSON() = %+v, want %+v", i, g, s)
		}
	}
	plan, err := json.Marshal(reports()["plan"])
	if err != nil || bytes.Contains(plan, []byte("0001-01-01")) {
		t.Errorf("MarshalJSON() of a plan = %s, %v, want no zero times", plan, err)
	}
}

// TestReportLife takes reports of one event before, during and after its
// shutdown.
func TestReportLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child := quietEvent(), quietEvent()
		q.Delay = time.Second
		failure := errors.New("failure")
		q.RegisterCloser(closerFunc(func() error { return failure }),
			quit.Name("db"), quit.AfterDrain())
		child.RegisterStopFunc(func() { time.Sleep(time.Second) }, quit.Name("inner"))
		q.RegisterQuitCloser(child, quit.Name("child"))
		q.RegisterStopFunc(func() {}, quit.Name("first"))
		q.AddGoroutine()

		names := func(steps []quit.Step) string {
			var list []string
			for _, s := range steps {
				state := "planned"
				switch {
				case s.Err != nil:
					state = "failed"
				case !s.End.IsZero():
					state = "ok"
				case !s.Start.IsZero():
					state = "running"
				}
				list = append(list, s.Name+" "+state)
			}
			return strings.Join(list, ", ")
		}
		phases := []quit.Phase{quit.PhaseDelay, quit.PhaseClosers, quit.PhaseClosers,
			quit.PhaseDrain, quit.PhaseAfterDrain}
		check := func(when, want, wantInner string) quit.Report {
			t.Helper()
			r := q.Report()
			if got := names(r.Steps); got != want {
				t.Errorf("%s: steps = %s, want %s", when, got, want)
			}
			for i, s := range r.Steps {
				if s.Name == "child" && names(s.Steps) != wantInner {
					t.Errorf("%s: inner steps = %s, want %s", when, names(s.Steps), wantInner)
				}
				if i < len(phases) && s.Phase != phases[i] {
					t.Errorf("%s: the phase of %s is %v, want %v", when, s.Name, s.Phase, phases[i])
				}
			}
			return r
		}
		const plan = "delay planned, first planned, child planned, drain planned, db planned"
		r := check("before", plan, "inner planned, drain planned")
		if !r.Fired.IsZero() || !r.Started.IsZero() || !r.Steps[0].Deadline.IsZero() ||
			r.Cause != nil || r.Err() != nil || r.Goroutines != 1 ||
			time.Until(r.Deadline) != quit.DefaultTimeout {
			t.Errorf("before: %+v", r)
		}

		began := time.Now()
		q.Fire()
		time.Sleep(500 * time.Millisecond)
		r = check("fired", plan, "inner planned, drain planned")
		if !r.Fired.Equal(began) || !r.Started.IsZero() {
			t.Errorf("fired: %+v, want Started zero", r)
		}
		began = time.Now()
		go q.GracefulStop()
		time.Sleep(time.Second)
		r = check("during",
			"delay ok, first ok, child running, drain planned, db planned",
			"inner running, drain planned")
		if r.Fired.IsZero() || !r.Started.Equal(began) || r.Cause != context.Canceled ||
			!r.Ended.IsZero() || r.Err() != nil {
			t.Errorf("during: %+v", r)
		}
		want := began.Add((quit.DefaultTimeout - time.Second) / 5 * 4)
		if got := r.Steps[0].Deadline; !got.Equal(want) || !r.Steps[3].Deadline.IsZero() {
			t.Errorf("during: deadlines of the delay and the drain = %v, %v, want %v and zero",
				got, r.Steps[3].Deadline, want)
		}
		time.Sleep(time.Second)
		check("in the drain",
			"delay ok, first ok, child ok, drain running, db planned",
			"inner ok, drain ok")
		q.DoneGoroutine()
		err := q.Shutdown(context.Background())
		r = check("after",
			"delay ok, first ok, child ok, drain ok, db failed",
			"inner ok, drain ok")
		if r.Err() != err || !errors.Is(r.Err(), failure) ||
			r.Ended.Sub(r.Fired) != 2500*time.Millisecond || r.Goroutines != 0 {
			t.Errorf("after: Err() = %v, want %v; %+v", r.Err(), err, r)
		}
		if db := r.Steps[4]; db.Err != failure || db.Phase != quit.PhaseAfterDrain ||
			!strings.HasPrefix(db.Site, "quit/report_test.go:") {
			t.Errorf("the step of db = %+v", db)
		}
	})
}

// TestReportAnytime takes reports continuously, for the race detector.
func TestReportAnytime(t *testing.T) {
	for range 8 {
		q, child := quietEvent(), quietEvent()
		q.Concurrent = true
		q.RegisterQuitCloser(child)
		child.RegisterQuitCloser(q) // a ring, in which each event is shown once
		hang := make(chan struct{})
		for i := range 20 {
			q.RegisterCloser(closerFunc(func() error { return errors.New("failed") }))
			child.RegisterStopFunc(func() {
				q.RegisterStopFunc(func() {})
				if i == 0 {
					<-hang
				}
			}, quit.Timeout(time.Millisecond))
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for !isClosed(stop) {
					for _, r := range []quit.Report{q.Report(), child.Report()} {
						_ = r.String()
						if _, err := json.Marshal(r); err != nil {
							t.Error(err)
						}
					}
					yield()
				}
			})
		}
		q.Go(func(ctx context.Context) error { <-ctx.Done(); return errors.New("failed too") })
		q.GracefulStop()
		close(stop)
		wg.Wait()
		close(hang)
	}
}

//go:noinline
func hangHere(c chan struct{}) { <-c }

// TestStacks makes a closer hang among many goroutines. Its stack alone is
// found, whether the stacks are taken before the closer is abandoned or after.
func TestStacks(t *testing.T) {
	for name, timeout := range map[string]time.Duration{
		"before": 10 * time.Millisecond,
		"after":  1,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testStacks(t, timeout) })
		})
	}
}

func testStacks(t *testing.T, timeout time.Duration) {
	const crowd = 10_000 // BenchmarkReport has ten times as many
	hang := make(chan struct{})
	for range crowd {
		go func() { <-hang }()
	}

	q, logged := loggedEvent()
	q.RegisterStopFunc(func() {}, quit.Name("stuck")) // has the same name, and returns
	q.RegisterStopFunc(func() {
		inner := make(chan struct{})
		go func() { hangHere(hang); close(inner) }() // belongs to the closer
		<-inner
	}, quit.Name("stuck"), quit.Timeout(timeout))
	q.Go(func(context.Context) error { <-hang; return nil }, quit.Name("innocent"))
	time.AfterFunc(time.Second, func() { close(hang) })
	q.GracefulStop()

	r := q.Report()
	text := r.String()
	for _, want := range []string{
		"✗ stuck",
		"ABANDONED",
		"1 goroutine of stuck:",
		"quit_test.hangHere",
		"quit/report_test.go:",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report does not have %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "innocent") || strings.Count(text, "goroutine of") != 2 {
		t.Errorf("the report has stacks of others:\n%s", text)
	}
	if len(text) > 4096 {
		t.Errorf("the report has %d bytes, want 4096 at most", len(text))
	}
	if !strings.Contains(logged(), "quit_test.hangHere") {
		t.Error("the stack is not in the log")
	}
	for _, s := range r.Steps {
		if (s.Stacks != "") != s.Abandoned {
			t.Errorf("step %s: stacks %q", s.Name, s.Stacks)
		}
	}
}

// TestStacksOfDrain uses counted goroutines that never end. The report has the
// stacks of the event's own goroutines, folded into one, and no others.
func TestStacksOfDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, other := quietEvent(), quietEvent()
		q.Timeout = 50 * time.Millisecond
		hang := make(chan struct{})
		for range 50 {
			q.Go(func(context.Context) error { hangHere(hang); return nil },
				quit.Name("worker"))
		}
		other.Go(func(context.Context) error { hangHere(hang); return nil },
			quit.Name("of another"))
		err := q.Shutdown(context.Background())
		text := q.Report().String()
		if !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(text, "50 goroutines of worker:") ||
			!strings.Contains(text, "hangHere") || strings.Contains(text, "of another") {
			t.Errorf("Shutdown() = %v, report:\n%s", err, text)
		}
		close(hang)
		other.GracefulStop()
	})
}

// owner is a closer that waits for a goroutine of its own, in Close too.
type owner struct{ hang chan struct{} }

func (o *owner) Owner() stacks.OwnerID { return stacks.OwnerID(stacks.ID(o)) }
func (o *owner) Detail() string        { return "a silence" }

func (o *owner) Shutdown(ctx context.Context) error {
	labels := stacks.Label(ctx, "owned", stacks.ID(o))
	go func() {
		pprof.SetGoroutineLabels(labels)
		hangHere(o.hang)
	}()
	<-ctx.Done()
	return &stacks.Error{Err: ctx.Err(), Stacks: "told"}
}

func (o *owner) Close() error { <-o.hang; return nil }

// TestStacksOfOwner uses a closer that knows the goroutines it waits for. Their
// stacks are shown while it runs, as in a forced end, even if it has returned
// earlier ones with a failure, and when it is abandoned after that.
func TestStacksOfOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		o := &owner{make(chan struct{})}
		q.RegisterQuitCloser(o)
		go q.GracefulStop()
		time.Sleep(time.Second)
		check := func(when, text, at string) {
			t.Helper()
			if !strings.Contains(text, "1 goroutine of owned:") ||
				!strings.Contains(text, "quit_test.hangHere\n") ||
				!strings.Contains(text, "1 goroutine of *quit_test.owner:") ||
				!strings.Contains(text, at) || strings.Count(text, " of owned") != 1 {
				t.Errorf("%s:\n%s", when, text)
			}
		}
		check("while it runs", quit.ReportWithStacks(q), "quit_test.(*owner).Shutdown\n")
		r := q.Report()
		if detail := r.Steps[0].Detail; detail != "a silence" ||
			!strings.Contains(r.String(), ": running for 1s of 19.2s, a silence\n") {
			t.Errorf("while it runs, it waits for %q:\n%v", detail, r)
		}
		time.Sleep(19 * time.Second) // its Shutdown has failed, and Close hangs
		if got := q.Report().Steps[0].Stacks; got != "told" {
			t.Errorf("after its failure, its stacks are %q", got)
		}
		check("after its failure", quit.ReportWithStacks(q), "quit_test.(*owner).Close\n")
		time.Sleep(time.Minute)
		if d := q.Report().Steps[0].Detail; d != "" {
			t.Errorf("after its end, it waits for %q", d)
		}
		check("when it was abandoned", q.Report().String(), "quit_test.(*owner).Close\n")
		close(o.hang)
		synctest.Wait()
		if text := logged(); !q.Report().Steps[0].Abandoned ||
			strings.Count(text, "stacks=") != 2 || strings.Count(text, "stacks=told") != 1 {
			t.Errorf("the log:\n%s", text)
		}
	})
}

// lock is a closer with an Owner method of its own, which must not be called.
type lock struct{ hang chan struct{} }

func (*lock) Owner() string                      { panic("not locked") }
func (l *lock) Shutdown(_ context.Context) error { hangHere(l.hang); return nil }

// TestStacksOfDrainInTime makes the look at the stacks of a drain take long. It
// begins a sixteenth of the drain's share before the end of the share. Neither
// the end of WorkContext nor a closer waits for it. The end of the shutdown
// does, as long as there is time.
func TestStacksOfDrainInTime(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	for _, test := range []struct{ had, ended time.Duration }{
		{had: 6750 * ms, ended: 8100 * ms},
		{had: 9 * s, ended: 9 * s},
		{had: 12 * s, ended: 9950 * ms}, // shortly before the deadline
	} {
		synctest.Test(t, func(t *testing.T) {
			q := quietEvent()
			q.Timeout = 10 * s
			start := time.Now()
			var mu sync.Mutex
			var taken []time.Duration
			defer quit.OnStacks(func() {
				mu.Lock()
				taken = append(taken, time.Since(start))
				mu.Unlock()
				time.Sleep(time.Until(start.Add(test.had)))
			})()
			var worked, closed time.Duration
			q.RegisterStopFunc(func() { closed = time.Since(start) }, quit.AfterDrain())
			context.AfterFunc(q.WorkContext(), func() { worked = time.Since(start) })
			hang := make(chan struct{})
			for range 2 {
				q.Go(func(context.Context) error { hangHere(hang); return nil },
					quit.Name("worker"))
			}
			q.Go(func(context.Context) error { time.Sleep(7 * s); return nil })
			err := q.Shutdown(context.Background())
			if took := time.Since(start); took != test.ended {
				t.Errorf("the stacks are had after %v: Shutdown took %v, want %v",
					test.had, took, test.ended)
			}
			synctest.Wait() // for the func that the end of WorkContext calls
			want := "drain: 2 goroutines left after 7.2s"
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("Shutdown() = %v, want %q", err, want)
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(taken, []time.Duration{6750 * ms}) || worked != 7200*ms ||
				closed != 8100*ms {
				t.Errorf("stacks taken at %v, WorkContext ended at %v, "+
					"the next closer was called at %v; want 6.75s, 7.2s, 8.1s",
					taken, worked, closed)
			}
			stacks := q.Report().Steps[0].Stacks
			if had := strings.Contains(stacks, "hangHere"); had != (test.had <= test.ended) {
				t.Errorf("the stacks are had after %v, and in the report at the end: %v",
					test.had, had)
			}
			close(hang)
			time.Sleep(time.Minute)
		})
	}
}

// TestStacksOfError makes a closer return an error with the stacks of the
// goroutines that it gave up waiting for.
func TestStacksOfError(t *testing.T) {
	q, logged := loggedEvent()
	failure := errors.New("gave up")
	q.RegisterCloser(closerFunc(func() error {
		return &stacks.Error{Err: failure, Stacks: "1 goroutine of handler:\nmain.handle()"}
	}), quit.Name("server"))
	err := q.Shutdown(t.Context())
	if !errors.Is(err, failure) || strings.Contains(err.Error(), "\n") {
		t.Errorf("Shutdown() = %v, want %v, once", err, failure)
	}
	if s := q.Report().Steps[0]; s.Err != failure ||
		s.Stacks != "1 goroutine of handler:\nmain.handle()" {
		t.Errorf("the step has the error %v and the stacks %q", s.Err, s.Stacks)
	}
	log := logged()
	if strings.Count(log, "gave up") != 1 || !strings.Contains(log, "main.handle()") {
		t.Errorf("the log does not tell of it once, with the stacks:\n%s", log)
	}
}

// TestStacksOfLikeName uses a closer with an Owner method that is not the
// package's.
func TestStacksOfLikeName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logged := loggedEvent()
		l := &lock{make(chan struct{})}
		q.RegisterQuitCloser(l)
		q.GracefulStop()
		if s := q.Report().Steps[0]; !s.Abandoned ||
			!strings.Contains(s.Stacks, "quit_test.(*lock).Shutdown\n") ||
			!strings.Contains(logged(), "hangHere") {
			t.Errorf("the step: %+v", s)
		}
		close(l.hang)
	})
}

// TestStacksOfReturned makes a closer return after its share. The closer does
// not hang, although its stacks were taken.
func TestStacksOfReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quietEvent()
		q.RegisterCloser(closerFunc(func() error {
			time.Sleep(1100 * time.Millisecond)
			return errors.New("late")
		}), quit.Timeout(time.Second))
		q.GracefulStop()
		if s := q.Report().Steps[0]; s.Abandoned || s.Err == nil || s.Stacks != "" {
			t.Errorf("the step: %+v", s)
		}
	})
}

// TestReportOutlives keeps a report of an event that is freed.
func TestReportOutlives(t *testing.T) {
	gone := make(chan struct{})
	report := func() quit.Report {
		q := quietEvent()
		q.RegisterStopFunc(func() {}, quit.Name("closer"))
		q.GracefulStop()
		runtime.AddCleanup(q, func(struct{}) { close(gone) }, struct{}{})
		return q.Report()
	}()
	for !isClosed(gone) {
		runtime.GC()
	}
	if text, err := json.Marshal(report); err != nil ||
		!strings.Contains(string(text), "closer") ||
		!strings.Contains(report.String(), "closer") {
		t.Errorf("MarshalJSON() = %s, %v; String() = %s", text, err, report)
	}
}

// TestReportTellsOnce uses names and errors that have to be escaped. The report
// has each failure once.
func TestReportTellsOnce(t *testing.T) {
	q, child := quietEvent(), quietEvent()
	child.RegisterCloser(closerFunc(func() error { return errors.New("boom\n") }),
		quit.Name("a\nb"))
	q.RegisterQuitCloser(child, quit.Name("c\td"))
	q.GracefulStop()
	if text := q.Report().String(); strings.Count(text, "boom") != 1 ||
		strings.Count(text, "\n✗ ") != 3 || !strings.Contains(text, ", 1 failure\n") {
		t.Errorf("a failure in a child is not told once, with its two steps:\n%s", text)
	}
}

// TestReportOfChild uses a child with failures of its steps and its goroutine,
// some of them alike. Its parent has a failure of its own.
func TestReportOfChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, child := quietEvent(), quietEvent()
		boom := closerFunc(func() error { return errors.New("boom") })
		for range 3 {
			child.RegisterCloser(boom, quit.Name("consumer"))
		}
		child.RegisterCloser(closerFunc(func() error { return errors.Join(os.ErrClosed, io.EOF) }),
			quit.Name("pool"), quit.Ignore(io.EOF))
		child.Go(func(ctx context.Context) error { <-ctx.Done(); return errors.New("lost") },
			quit.Name("worker"))
		q.RegisterQuitCloser(child, quit.Name("child"))
		q.AddGoroutine()
		q.DoneGoroutine()
		q.DoneGoroutine()
		q.GracefulStop()
		got := q.Report().String()
		for _, want := range []string{
			", 6 failures\n",
			"✗   consumer ×3 ",
			" ×3: boom\n",
			"lost\n",
			os.ErrClosed.Error() + "\n",
			"1 time more than",
		} {
			if strings.Count(got, want) != 1 {
				t.Errorf("String() does not have %q once:\n%s", want, got)
			}
		}
		if strings.Contains(got, "counted") {
			t.Errorf("String() has a count of goroutines below zero:\n%s", got)
		}
	})
}

// endlessError wraps itself, unless its text is empty. The methods of a nil one
// panic.
type endlessError struct{ text string }

func (e *endlessError) Error() string { return e.text }

func (e *endlessError) Unwrap() error {
	if e.text == "" {
		return nil
	}
	return e
}

// TestReportOfAnything uses reports that only a mistake in a program could
// make.
func TestReportOfAnything(t *testing.T) {
	deep := failed(ran(quit.PhaseClosers, "leaf", "a.go:1", 0, sec), errors.New("boom"))
	for range 20_000 {
		outer := failed(ran(quit.PhaseClosers, "event", "b.go:1", 0, sec),
			quit.NamedError(deep.Name, deep.Site, deep.Err))
		outer.Steps = []quit.Step{deep}
		deep = outer
	}
	crowd := make([]quit.Step, 3000)
	for i := range crowd {
		end := time.Duration(i/1000+1) * sec
		s := ran(quit.PhaseClosers, "*net.TCPConn", "proxy/conn.go:88", 0, end)
		crowd[i] = abandoned(s, "1 goroutine of *net.TCPConn:\n\tmain.hang\n")
	}
	panicked := &quit.PanicError{
		Value: "oh\x1b",
		Stack: []byte("goroutine 7 [running]:\nmain.oh(\x07)\n\t/src/main.go:7\n"),
	}
	long := strings.Repeat("ten bytes\n", 1<<20)
	for name, test := range map[string]struct {
		report quit.Report
		lines  int      // in the text
		most   int      // bytes of the text
		want   []string // in the text
		json   []string // in the JSON
	}{
		"deep": {
			report: quit.Report{
				Fired:   at(0),
				Started: at(0),
				Ended:   at(sec),
				Steps:   []quit.Step{deep},
			},
			lines: 20_005,
			most:  150 * 20_000,
			want:  []string{", 1 failure\n", ": … 19993 more …: ", "): boom\n"},
			json: []string{
				"… 19001 steps more",
			},
		},
		"crowd": {
			report: quit.Report{Fired: at(0), Started: at(0), Ended: at(3 * sec), Steps: crowd},
			lines:  15,
			most:   4000,
			want: []string{
				", 3000 failures\n",
				" ×3000 ",
				") ×1000: abandoned after 1s",
				") ×1000: abandoned after 3s",
			},
		},
		"long": {
			report: quit.Report{
				Cause:   errors.New(long),
				Fired:   at(0),
				Started: at(0),
				Ended:   at(sec),
				Steps: []quit.Step{
					failed(ran(quit.PhaseDrain, "drain", "", 0, sec), errors.New(long)),
				},
			},
			lines: 415,
			most:  10_000,
			want:  []string{", 1 failure\n", "  … 10481663 bytes more\n"},
			json: []string{
				strings.ReplaceAll(long, "\n", "\\n"),
			},
		},
		"broken": {
			report: quit.Report{
				Cause:      (*endlessError)(nil),
				Fired:      at(0),
				Started:    at(0),
				Ended:      at(sec),
				Goroutines: -7,
				Steps: []quit.Step{
					failed(ran(quit.PhaseClosers, "nil", "", 0, sec), (*endlessError)(nil)),
					failed(ran(quit.PhaseClosers, "endless", "", 0, sec),
						&endlessError{text: "boom"}),
				},
			},
			lines: 8,
			most:  1000,
			want: []string{
				"cause: <nil>",
				", 2 failures\n",
				"✗ nil: <nil>\n",
				"✗ endless: boom\n",
			},
			json: []string{
				`"goroutines":0`,
				`"err":"\u003cnil\u003e"`,
			},
		},
		"ages": {
			report: quit.Report{
				Fired:   time.Date(-9999, 1, 1, 0, 0, 0, 0, time.UTC),
				Started: at(0),
				Ended:   time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC),
				Steps:   []quit.Step{ran(quit.PhaseDrain, "drain", "", 0, sec)},
			},
			lines: 3,
			most:  1000,
			json:  []string{`"fired":"0000-`, `"ended":"9999-`},
		},
		"panic": {
			report: quit.Report{
				Fired:   at(0),
				Started: at(0),
				Ended:   at(sec),
				Steps: []quit.Step{
					failed(ran(quit.PhaseClosers, "a", "", 0, sec), errors.Join(io.EOF, panicked)),
				},
			},
			lines: 9,
			most:  1000,
			want: []string{
				"✗ a: EOF\n  panic: oh\\x1b\n" +
					"    goroutine 7 [running]:\n    main.oh(\\a)\n        /src/main.go:7\n",
			},
		},
	} {
		got := test.report.String()
		n := strings.Count(got, "\n")
		if n != test.lines || len(got) > test.most || !utf8.ValidString(got) {
			t.Errorf("%s: String() has %d lines, %d bytes, want %d, and %d at most:\n%.5000s",
				name, n, len(got), test.lines, test.most, got)
		}
		for _, want := range test.want {
			if strings.Count(got, want) != 1 {
				t.Errorf("%s: String() does not have %q once:\n%.5000s", name, want, got)
			}
		}
		b, err := json.Marshal(test.report)
		if err != nil || !json.Valid(b) {
			t.Errorf("%s: Marshal() = %.300s, %v, want no error", name, b, err)
		}
		for _, want := range test.json {
			if !bytes.Contains(b, []byte(want)) {
				t.Errorf("%s: Marshal() = %.5000s, want %.300s in it", name, b, want)
			}
		}
		for _, s := range test.report.Steps[:1] {
			b, err := json.Marshal(s)
			if err != nil || !bytes.HasPrefix(b, []byte(`{"name":"`+s.Name+`"`)) {
				t.Errorf("%s: Marshal() of a step = %.300s, %v, want no error", name, b, err)
			}
		}
	}
}

// TestReportOfPlanHasAllTime runs outside a bubble, so that real time passes.
func TestReportOfPlanHasAllTime(t *testing.T) {
	q := quietEvent()
	q.Timeout = time.Minute
	for range 100 {
		if left := q.Report().Left(); left != q.Timeout {
			t.Fatalf("before the shutdown %v is left, want %v", left, q.Timeout)
		}
	}
}

func TestReportIsNoError(t *testing.T) {
	if _, ok := any(quit.Report{}).(error); ok {
		t.Error("Report implements error")
	}
}

func BenchmarkReport(b *testing.B) {
	for _, crowd := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("stuck/goroutines=%d", crowd), func(b *testing.B) {
			hang := make(chan struct{})
			defer close(hang)
			for range crowd {
				go hangHere(hang)
			}
			q := quietEvent()
			q.Timeout = -1
			q.RegisterStopFunc(func() { hangHere(hang) })
			go q.GracefulStop()
			for len(q.Report().Steps) > 0 && q.Report().Steps[0].Start.IsZero() {
				runtime.Gosched()
			}
			for b.Loop() {
				quit.ReportWithStacks(q)
			}
		})
	}
}

// TestPhaseText checks that String and MarshalJSON name a phase alike.
func TestPhaseText(t *testing.T) {
	for phase, want := range map[quit.Phase]string{
		quit.PhaseDelay:          "delay",
		quit.PhaseClosers:        "closers",
		quit.PhaseDrain:          "drain",
		quit.PhaseAfterDrain:     "after drain",
		0:                        "none",
		quit.PhaseAfterDrain + 1: "none",
	} {
		text, err := json.Marshal(phase)
		if got := phase.String(); got != want || string(text) != `"`+want+`"` || err != nil {
			t.Errorf("phase %d: String() = %q, JSON %s, %v, want %q",
				int(phase), got, text, err, want)
		}
	}
}

// TestStepJSON checks that a step alone is marshalled as it is in its report.
func TestStepJSON(t *testing.T) {
	inner := quietEvent()
	inner.RegisterStopFunc(func() { panic("boom") }, quit.Name("inner"))
	q := quietEvent()
	q.RegisterQuitCloser(inner, quit.Name("outer"))
	q.GracefulStop()
	r := q.Report()
	var want struct{ Steps []json.RawMessage }
	if b, err := json.Marshal(r); err != nil || json.Unmarshal(b, &want) != nil ||
		len(want.Steps) != len(r.Steps) {
		t.Fatalf("the report as JSON: %s, %v", b, err)
	}
	for i, s := range r.Steps {
		if b, err := json.Marshal(s); err != nil || string(b) != string(want.Steps[i]) {
			t.Errorf("step %d as JSON: %s, %v, want %s", i, b, err, want.Steps[i])
		}
	}
}
