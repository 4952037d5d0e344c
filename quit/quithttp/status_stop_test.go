package quithttp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// TestStatusIdleHour checks that nothing is drawn while pages are open and
// nothing changes, nor after the end, while a page does not read it.
func TestStatusIdleHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, admin := quietEvent(), quietEvent()
		var texts atomic.Int64
		var reports [3]atomic.Int32
		ln := make(pipes)
		quithttp.Serve(admin, quietServer(quithttp.Status(q)), ln)
		for i := range reports {
			_, r := ln.open()
			go countReports(r, &reports[i])
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for i := range reports {
			if n := reports[i].Load(); n != 1 {
				t.Errorf("%d reports in an hour before the fire, want 1", n)
			}
		}
		q.Fail(&countedError{&texts})
		synctest.Wait()
		before, n := reports[0].Load(), texts.Load()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := reports[0].Load() - before; got != 0 {
			t.Errorf("%d reports in an hour without a change, want none", got)
		}
		if got := texts.Load() - n; got != 0 {
			t.Errorf("%d calls of Error in an hour without a change, want none", got)
		}
		ln.open() // never read
		go q.GracefulStop()
		synctest.Wait()
		if reports[0].Load() == before {
			t.Error("the end was not shown")
		}
		n = texts.Load()
		time.Sleep(9 * time.Second) // less than a client has time to read
		if got := texts.Load() - n; got != 0 {
			t.Errorf("%d calls of Error after the end, want none", got)
		}
		admin.GracefulStop()
	})
}

// TestStatusLastFrame uses a page whose server is closed after the drain of the
// same event. The page shows all steps but the end of its server, and then says
// that this is its last report.
func TestStatusLastFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, ln := quietEvent(), make(pipes)
		quithttp.Serve(q, quietServer(quithttp.Status(q)), ln, quit.AfterDrain(),
			quit.Name("admin"))
		q.RegisterStopFunc(func() { time.Sleep(3 * time.Second) }, quit.Name("web"))
		q.AddGoroutine()
		conn, r := ln.open()
		until(t, r, "Not shutting down")
		ended := make(chan error)
		go func() { ended <- q.Shutdown(context.Background()) }()
		until(t, r, `<div class="row running" title="web (`)
		until(t, r, `<div class="row running" title="drain`)
		q.DoneGoroutine()
		var last, report event
		for {
			e, err := readEvent(r)
			if err != nil || e.name == "" {
				break
			}
			if last = e; e.name == "report" {
				report = e
			}
		}
		if last.name != "end" || !strings.Contains(last.data, "shut down at") {
			t.Errorf("the last event = %q %s, want the end", last.name, last.data)
		}
		for _, want := range []string{
			`<div class="row ok" title="web (`,
			`<div class="row running" title="admin (`,
		} {
			if !strings.Contains(report.data, want) {
				t.Errorf("the last report does not have %s:\n%s", want, report.data)
			}
		}
		conn.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if s := q.Report().Steps[2]; s.End.Sub(s.Start) > linger {
			t.Errorf("the page held up its server for %v", s.End.Sub(s.Start))
		}
	})
}

// TestStatusSlowDrawing uses a report that takes long to draw. Drawing takes no
// more than a tenth of the time, and not much less. Yet the last frame has the
// latest change.
func TestStatusSlowDrawing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, admin, ln := quietEvent(), quietEvent(), make(pipes)
		slow := new(slowError)
		slow.each.Store(int64(10 * time.Millisecond))
		q.Fail(slow)
		quithttp.Serve(admin, quietServer(quithttp.Status(q)), ln)
		conn, r := ln.open()
		last := make(chan string, 1)
		go func() {
			report := ""
			for {
				e, err := readEvent(r)
				if err != nil {
					last <- report
					return
				}
				if e.name == "report" {
					report = e.data
				}
			}
		}()
		start := time.Now()
		for time.Since(start) < time.Minute {
			q.RegisterStopFunc(func() {})()
			time.Sleep(5 * time.Millisecond)
		}
		if d := time.Duration(slow.spent.Load()); d < time.Minute/12 || d > time.Minute/10 {
			t.Errorf("it was drawn for %v of a minute, want a tenth at most", d)
		}
		time.Sleep(time.Second)
		q.RegisterStopFunc(func() {}, quit.Name("early")) // drawn at once
		time.Sleep(100 * time.Millisecond)
		q.RegisterStopFunc(func() {}, quit.Name("late")) // would be drawn after a pause
		admin.GracefulStop()
		if got := <-last; !strings.Contains(got, `title="late (`) {
			t.Errorf("the last report does not have the latest change:\n%s", got)
		}
		conn.Close()
		time.Sleep(50 * time.Millisecond) // for a drawing that has begun
		drawn := slow.spent.Load()
		time.Sleep(time.Second)
		if got := time.Duration(slow.spent.Load() - drawn); got != 0 {
			t.Errorf("it was drawn for %v when no page was open, want not at all", got)
		}
	})
}

// slowError is an error whose text takes a time. It counts that time.
type slowError struct{ each, spent atomic.Int64 }

func (e *slowError) Error() string {
	each := e.each.Load()
	time.Sleep(time.Duration(each))
	e.spent.Add(each)
	return "slow"
}

// TestStatusLateDrawing uses a report whose drawing ends after that of a later
// report, which another server has as its last. The page does not go back.
func TestStatusLateDrawing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, admin, other := quietEvent(), quietEvent(), quietEvent()
		slow, h := new(slowError), quithttp.Status(q)
		q.Fail(slow)
		ln, otherLn := make(pipes), make(pipes)
		quithttp.Serve(admin, quietServer(h), ln)
		quithttp.Serve(other, quietServer(h), otherLn)
		conn, r := ln.open()
		_, last := otherLn.open()
		go io.Copy(io.Discard, last)
		until(t, r, "Shutdown requested")
		reports := make(chan string, 10)
		go func() {
			defer close(reports)
			for {
				e, err := readEvent(r)
				if err != nil {
					return
				}
				if e.name == "report" {
					reports <- e.data
				}
			}
		}()
		synctest.Wait()
		slow.each.Store(int64(time.Second))
		q.RegisterStopFunc(func() {}, quit.Name("early"))
		synctest.Wait()
		slow.each.Store(0)
		q.RegisterStopFunc(func() {}, quit.Name("late"))
		other.GracefulStop()
		synctest.Wait()
		if got := <-reports; !strings.Contains(got, `title="late (`) {
			t.Errorf("the first report is not the later one:\n%s", got)
		}
		time.Sleep(time.Minute)
		admin.GracefulStop()
		conn.Close()
		for got := range reports {
			if !strings.Contains(got, `title="late (`) {
				t.Errorf("the page went back to\n%s", got)
			}
		}
	})
}

// reportingError is an error whose text depends on a report.
type reportingError struct{ q *quit.QuitEvent }

func (e reportingError) Error() string {
	if e.q.Report().Fired.IsZero() {
		return "not fired"
	}
	return "reported"
}

// TestStatusErrorReports uses an error that calls the event. That call needs a
// lock, so no caller of the error may hold it.
func TestStatusErrorReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, admin := quietEvent(), quietEvent()
		ln := make(pipes)
		h := quithttp.Status(q)
		quithttp.Serve(admin, quietServer(h), ln)
		fails := quit.ShutdownFunc(func(context.Context) error { return reportingError{q} })
		q.RegisterQuitCloser(fails)
		conn, r := ln.open()
		until(t, r, "Not shutting down")
		q.Fail(reportingError{q})
		until(t, r, "reported")
		for _, accept := range []string{"", asBrowser, "application/json"} {
			if got := ask(h, "GET", accept).Body.String(); !strings.Contains(got, "reported") {
				t.Errorf("Accept %q: the text is missing in\n%s", accept, got)
			}
		}
		go io.Copy(io.Discard, r)
		q.GracefulStop()
		admin.GracefulStop()
		conn.Close()
	})
}

// TestStatusBaseContext uses a server whose BaseContext is called with its own
// listener only.
func TestStatusBaseContext(t *testing.T) {
	for _, ours := range []bool{false, true} {
		q, admin := quietEvent(), quietEvent()
		var calls atomic.Int32
		srv := quietServer(quithttp.Status(q))
		srv.Addr = "127.0.0.1:0"
		srv.BaseContext = func(ln net.Listener) context.Context {
			calls.Add(1)
			type key struct{}
			return context.WithValue(context.Background(), key{}, ln.(*net.TCPListener))
		}
		var addr net.Addr
		if ours {
			var err error
			if addr, err = quithttp.ListenAndServe(admin, srv); err != nil {
				t.Fatal(err)
			}
		} else {
			ln, err := net.Listen("tcp", srv.Addr)
			if err != nil {
				t.Fatal(err)
			}
			addr = ln.Addr()
			admin.RegisterQuitCloser(srv)
			admin.Go(func(context.Context) error { return srv.Serve(ln) },
				quit.Ignore(http.ErrServerClosed))
		}
		res := streamOf(t, &http.Client{Transport: new(http.Transport)}, "http://"+addr.String())
		r := bufio.NewReader(res.Body)
		until(t, r, "Not shutting down")
		admin.Fire()
		go admin.Shutdown(context.Background())
		until(t, r, "shut down at")
		if err := admin.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("ours %v: BaseContext was called %d times, want once", ours, n)
		}
	}
}

// TestStatusRequestsInFlight checks that the step of a server shows the number
// of requests in flight, and that a live page follows it.
func TestStatusRequestsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{}, 3)
		q, ln := servePipes(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				<-release
			}
			answered(w, r)
		}), quit.Name("api"))
		h := quithttp.Status(q)
		detail := func(h http.Handler) string {
			var report struct{ Steps []struct{ Detail string } }
			body := ask(h, "GET", "application/json").Body.Bytes()
			if err := json.Unmarshal(body, &report); err != nil {
				t.Fatal(err)
			}
			return report.Steps[0].Detail
		}
		var busy []*wire
		for range 3 {
			w := ln.dial(t)
			w.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
			busy = append(busy, w)
		}
		ln.dial(t).ask(false) // an idle connection
		synctest.Wait()
		if got := detail(h); got != "" {
			t.Errorf("before the stop the step waits for %q", got)
		}
		idle, idleLn := servePipes(answered)
		idleLn.dial(t).ask(false)
		go idle.Shutdown(context.Background())
		synctest.Wait()
		if got := detail(quithttp.Status(idle)); got != "" || !idle.Report().Ended.IsZero() {
			t.Errorf("in the stop of a server without requests the step waits for %q", got)
		}
		go q.Shutdown(context.Background())
		time.Sleep(11 * time.Second) // the axis grows next after 20
		live := openStream(t, serveStatus(t, &http.Server{Handler: h}))
		for _, want := range []string{
			"3 requests in flight",
			"2 requests in flight",
			"1 request in flight",
		} {
			start := time.Now()
			until(t, live, want)
			if d := time.Since(start); d > time.Second {
				t.Errorf("the open page had %q after %v, want 1s at most", want, d)
			}
			for kind, body := range map[string]string{
				"page": page(h),
				"text": ask(h, "GET").Body.String(),
				"JSON": detail(h),
			} {
				if !strings.Contains(body, want) {
					t.Errorf("the %s does not have %q:\n%s", kind, want, body)
				}
			}
			release <- struct{}{}
			for _, w := range busy {
				w.SetReadDeadline(time.Now().Add(time.Millisecond))
				io.Copy(io.Discard, w)
			}
		}
		go io.Copy(io.Discard, live)
		q.Shutdown(t.Context())
		const flight = "in flight"
		text := ask(h, "GET").Body.String()
		if got := detail(h); got != "" || strings.Contains(page(h)+text, flight) {
			t.Errorf("after the stop the step waits for %q:\n%s", got, text)
		}
	})
}
