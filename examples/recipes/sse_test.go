package recipes_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gracefulgo/graceful/examples/recipes"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// three returns the next of three events, and then waits.
func three(ctx context.Context, last string) (id, data string, err error) {
	n := len(last) // ids are x, xx and xxx
	if n == 3 {
		<-ctx.Done()
		return "", "", ctx.Err()
	}
	return strings.Repeat("x", n+1), fmt.Sprint("event ", n+1), nil
}

const (
	begin  = "retry: 1000\n\n"
	events = "id: x\ndata: event 1\n\nid: xx\ndata: event 2\n\nid: xxx\ndata: event 3\n\n"
	end    = "event: restart\ndata: come back\n\n"
)

// serveEvents serves an EventStream, and returns a function that requests it.
func serveEvents(t *testing.T, q *quit.QuitEvent) (open func(last string) *http.Response) {
	t.Helper()
	srv := &http.Server{Addr: "127.0.0.1:0", Handler: recipes.EventStream(q, three)}
	addr, err := quithttp.ListenAndServe(q, srv)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: new(http.Transport), Timeout: 3 * time.Minute}
	t.Cleanup(client.CloseIdleConnections)
	return func(last string) *http.Response {
		t.Helper()
		req, err := http.NewRequest("GET", "http://"+addr.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Last-Event-ID", last)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		kind := res.Header.Get("Content-Type")
		if res.StatusCode != http.StatusOK || kind != "text/event-stream" {
			t.Errorf("answer: %s, %s, want 200 and an event stream", res.Status, kind)
		}
		return res
	}
}

func TestEventStream(t *testing.T) {
	q := newEvent()
	open := serveEvents(t, q)

	// One client has received all events, another one connects again.
	streams := map[string]*http.Response{begin + events: open("")}
	streams[begin+events[strings.Index(events, "id: xxx"):]] = open("xx")
	for want, res := range streams {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
			t.Errorf("stream = %q, %v, want %q", got, err, want)
		}
	}

	// A client connects when the event has fired and the server still serves.
	q.Fire()
	late, err := io.ReadAll(open("xxx").Body)
	if want := begin + end; err != nil || string(late) != want {
		t.Errorf("stream after the fire = %q, %v, want %q", late, err, want)
	}

	if err := q.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	for _, res := range streams {
		// No error: the stream ends regularly.
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != end {
			t.Errorf("end of the stream = %q, %v, want %q", got, err, end)
		}
	}
}

// pipes is a listener whose connections are in memory, for a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// TestEventStreamSlow uses events that are far apart, in each version of HTTP.
func TestEventStreamSlow(t *testing.T) {
	for _, version := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			var protocols http.Protocols
			protocols.SetHTTP1(version == 1)
			protocols.SetUnencryptedHTTP2(version == 2)
			q := newEvent()
			slow := func(ctx context.Context, last string) (id, data string, err error) {
				select {
				case <-time.After(time.Minute):
				case <-ctx.Done():
					return "", "", ctx.Err()
				}
				return three(ctx, last)
			}
			ln := pipes{make(chan net.Conn), make(chan struct{})}
			quithttp.Serve(q, &http.Server{
				Handler:      recipes.EventStream(q, slow),
				Protocols:    &protocols,
				WriteTimeout: 10 * time.Second,
			}, ln)
			transport := &http.Transport{
				Protocols: &protocols,
				DialContext: func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					ln.conns <- server
					return client, nil
				},
			}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			res, err := client.Get("http://pipes/")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			stopped := make(chan error, 1)
			time.AfterFunc(5*time.Minute, func() { stopped <- q.Shutdown(context.Background()) })
			got, err := io.ReadAll(res.Body)
			if want := begin + events + end; err != nil || string(got) != want ||
				res.ProtoMajor != version {
				t.Errorf("HTTP/%d: stream = %q, %v, want %q in HTTP/%d",
					res.ProtoMajor, got, err, want, version)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEventStreamNotRead uses a client that reads only the beginning. It delays
// the shutdown no longer than a write may take.
func TestEventStreamNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newEvent()
		ln := pipes{make(chan net.Conn), make(chan struct{})}
		quithttp.Serve(q, &http.Server{Handler: recipes.EventStream(q, three)}, ln)
		client, server := net.Pipe()
		ln.conns <- server
		fmt.Fprint(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if line, err := bufio.NewReaderSize(client, 16).ReadString(
			'\n'); line != "HTTP/1.1 200 OK\r\n" {
			t.Errorf("answer: %q, %v", line, err)
		}
		start := time.Now()
		if err := q.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("the client has held up the stop for %v", took)
		}
	})
}
