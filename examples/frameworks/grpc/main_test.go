//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

// start starts the program and returns its address.
func start(t *testing.T, args ...string) (*process.Process, string) {
	t.Helper()
	p := process.Start(t, append([]string{"-addr=127.0.0.1:0", "-timeout=2m"}, args...)...)
	return p, p.Line("listening on ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client has a connection of its own.
type client struct {
	testpb.TestServiceClient
	health healthpb.HealthClient
	t      *testing.T
	ctx    context.Context
	sent   sent
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c := &client{t: t, sent: make(sent, 100)}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(c.sent))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	c.TestServiceClient, c.health, c.ctx = testpb.NewTestServiceClient(conn),
		healthpb.NewHealthClient(conn), ctx
	return c
}

// sent gets a value for each message that was sent.
type sent chan struct{}

func (sent) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (sent) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sent) HandleConn(context.Context, stats.ConnStats)                       {}
func (s sent) HandleRPC(_ context.Context, event stats.RPCStats) {
	if _, ok := event.(*stats.OutPayload); ok {
		s <- struct{}{}
	}
}

func (c *client) work(d string) error {
	res, err := c.UnaryCall(c.ctx, &testpb.SimpleRequest{Payload: payload(d)})
	if got := string(res.GetPayload().GetBody()); err == nil && got != d {
		return errors.New("UnaryCall(" + d + ") = " + got)
	}
	return err
}

func (c *client) subscribe(body string) testpb.TestService_StreamingOutputCallClient {
	c.t.Helper()
	stream, err := c.StreamingOutputCall(c.ctx,
		&testpb.StreamingOutputCallRequest{Payload: payload(body)})
	must(c.t, err)
	return stream
}

func (c *client) watch() healthpb.Health_WatchClient {
	c.t.Helper()
	stream, err := c.health.Watch(c.ctx, new(healthpb.HealthCheckRequest))
	must(c.t, err)
	return stream
}

func (c *client) talk() testpb.TestService_FullDuplexCallClient {
	c.t.Helper()
	stream, err := c.FullDuplexCall(c.ctx)
	must(c.t, err)
	wantEcho(c.t, stream, "hello")
	return stream
}

func payload(body string) *testpb.Payload { return &testpb.Payload{Body: []byte(body)} }

func wantEcho(t *testing.T, stream testpb.TestService_FullDuplexCallClient, text string) {
	t.Helper()
	must(t, stream.Send(&testpb.StreamingOutputCallRequest{Payload: payload(text)}))
	res, err := stream.Recv()
	if got := string(res.GetPayload().GetBody()); got != text || err != nil {
		t.Fatalf("echo of %q = %q, %v", text, got, err)
	}
}

func wantStatus(
	t *testing.T, stream healthpb.Health_WatchClient,
	want healthpb.HealthCheckResponse_ServingStatus,
) {
	t.Helper()
	res, err := stream.Recv()
	if got := res.GetStatus(); got != want || err != nil {
		t.Fatalf("Watch: %v, %v, want %v", got, err, want)
	}
}

func wantStderr(t *testing.T, p *process.Process, want string) {
	t.Helper()
	if got := p.Stderr(); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("stderr = %q, want %v", got, want)
	}
}

// wantForced checks the error of a shutdown that has to cut off the calls made
// by begin.
func wantForced(t *testing.T, begin func(addr string) (check func())) {
	t.Helper()
	// A tenth of the timeout is left to cut the calls off.
	process.Patiently(t, 10*time.Second, func(timeout time.Duration) bool {
		p, addr := start(t, fmt.Sprint("-timeout=", timeout))
		check := begin(addr)
		p.Signal(syscall.SIGTERM)
		p.WantExit(1)
		if check != nil {
			check()
		}
		if strings.Contains(p.Stderr(), "abandoned") {
			return false
		}
		wantStderr(t, p, `(?m)^grpc: .*grpc server \(grpc/main\.go:\d+\): forced to stop: `+
			`context deadline exceeded\n\z`)
		return true
	})
}

// TestInFlight uses calls of all kinds in flight. Those with an end reach it,
// after the port was closed, and the one without an end is told to go
// elsewhere.
func TestInFlight(t *testing.T) {
	t.Parallel()
	p, addr := start(t)
	c := dial(t, addr)

	talk, subscription := c.talk(), c.subscribe("news")
	for range 2 {
		if res, err := subscription.Recv(); err != nil || string(res.Payload.Body) != "news" {
			t.Fatalf("Recv() = %v, %v, want news", res, err)
		}
	}
	for len(c.sent) > 0 {
		<-c.sent
	}
	var work sync.WaitGroup
	for range 10 {
		work.Go(func() {
			if err := c.work("2s"); err != nil {
				t.Errorf("the call in flight was not answered: %v", err)
			}
		})
	}
	for range 10 {
		<-c.sent
	}
	must(t, c.work("0s")) // sent after the others, on the same connection

	p.Signal(syscall.SIGTERM)
	for {
		_, err := subscription.Recv()
		if err == nil {
			continue // sent before the fire
		}
		if got := status.Convert(err); got.Code() != codes.Unavailable ||
			got.Message() != "the server is going away" {
			t.Errorf("the end of the subscription = %v, want that the server is going away", err)
		}
		break
	}
	p.AwaitPortClosed(addr)
	wantEcho(t, talk, "still there?")
	must(t, talk.CloseSend())
	if _, err := talk.Recv(); err != io.EOF {
		t.Errorf("the end of the conversation = %v, want EOF", err)
	}
	work.Wait()
	p.WantExit(0)
}

// TestDelay checks that the server says NOT_SERVING, and still serves.
func TestDelay(t *testing.T) {
	t.Parallel()
	p, addr := start(t, "-delay=10m", "-timeout=20m")
	c := dial(t, addr)
	watch := c.watch()
	wantStatus(t, watch, healthpb.HealthCheckResponse_SERVING)
	p.Signal(syscall.SIGTERM)
	wantStatus(t, watch, healthpb.HealthCheckResponse_NOT_SERVING)

	late := dial(t, addr)
	if err := late.work("1ms"); err != nil {
		t.Errorf("a call in the delay: %v", err)
	}
	res, err := late.health.Check(late.ctx, new(healthpb.HealthCheckRequest))
	if res.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING || err != nil {
		t.Errorf("Check in the delay = %v, %v, want NOT_SERVING", res, err)
	}
	if _, err := late.subscribe("news").Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("a subscription in the delay: %v, want Unavailable", err)
	}
	p.Signal(syscall.SIGTERM) // changes nothing
	if err := late.work("1ms"); err != nil {
		t.Errorf("a call in the delay: %v", err)
	}
	p.InterruptAgain() // ends the delay, and not the program at once
	p.WantExit(0)
}

// TestDelayEnds checks that the watches that the delay keeps open end with it.
func TestDelayEnds(t *testing.T) {
	t.Parallel()
	p, addr := start(t, "-delay=3s")
	watch := dial(t, addr).watch()
	wantStatus(t, watch, healthpb.HealthCheckResponse_SERVING)
	p.Signal(syscall.SIGTERM)
	wantStatus(t, watch, healthpb.HealthCheckResponse_NOT_SERVING)
	if _, err := watch.Recv(); err == nil {
		t.Error("Watch has one more status, want its end")
	}
	p.WantExit(0)
}

// TestWatch checks that no watch prolongs the shutdown, even if there is no
// Delay, and that each watch gets the status before it ends.
func TestWatch(t *testing.T) {
	t.Parallel()
	p, addr := start(t)
	var watches []healthpb.Health_WatchClient
	for range 10 {
		watch := dial(t, addr).watch()
		wantStatus(t, watch, healthpb.HealthCheckResponse_SERVING)
		watches = append(watches, watch)
	}
	p.Signal(syscall.SIGTERM)
	for _, watch := range watches {
		wantStatus(t, watch, healthpb.HealthCheckResponse_NOT_SERVING)
		if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("the end of the watch = %v, want Canceled", err)
		}
	}
	p.WantExit(0)
}

// TestStreamWithoutEnd uses a client that never closes its side of the stream.
func TestStreamWithoutEnd(t *testing.T) {
	t.Parallel()
	wantForced(t, func(addr string) func() {
		talk := dial(t, addr).talk()
		return func() {
			if _, err := talk.Recv(); status.Code(err) != codes.Unavailable {
				t.Errorf("the stream that was cut off: %v, want Unavailable", err)
			}
		}
	})
}

// TestClientNeverReads lets flow control block the server's Send, which then
// does not notice the fire.
func TestClientNeverReads(t *testing.T) {
	t.Parallel()
	wantForced(t, func(addr string) func() {
		c := dial(t, addr)
		subscription := c.subscribe(strings.Repeat("x", 1<<20))
		if _, err := subscription.Header(); err != nil { // comes with the first message
			t.Fatal(err)
		}
		for range 10 {
			must(t, c.work("100ms")) // at least a tick
		}
		return nil
	})
}

// TestOutOfTime uses a call that takes longer than the shutdown may.
func TestOutOfTime(t *testing.T) {
	t.Parallel()
	wantForced(t, func(addr string) func() {
		c := dial(t, addr)
		failed := make(chan error, 1)
		go func() { failed <- c.work("1h") }()
		<-c.sent
		must(t, c.work("0s"))
		return func() {
			if err := <-failed; status.Code(err) != codes.Unavailable &&
				status.Code(err) != codes.Canceled {
				t.Errorf("the call that was cut off: %v, want Unavailable or Canceled", err)
			}
		}
	})
}

// TestSilentConnection uses a client that connects and sends nothing, like a
// port scanner. The client delays the shutdown, but does not make it fail.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	p, addr := start(t)
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	must(t, dial(t, addr).work("0s")) // accepted after the other
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	p, addr := start(t)
	dial(t, addr).talk()
	p.Signal(os.Interrupt)
	p.AwaitFired()
	p.InterruptAgain()
	p.WantExit(130)
	wantStderr(t, p, "grpc server")
}

// TestStopAtStart sends the signal while the server may not serve yet.
func TestStopAtStart(t *testing.T) {
	t.Parallel()
	for range 5 {
		p, _ := start(t)
		p.Signal(syscall.SIGTERM)
		p.WantExit(0)
	}
}

func TestBadPayload(t *testing.T) {
	t.Parallel()
	_, addr := start(t)
	if err := dial(t, addr).work("soon"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("UnaryCall(soon) = %v, want InvalidArgument", err)
	}
}

func TestBadStart(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	for _, test := range []struct {
		arg    string
		status int
		stderr string
	}{
		{"-addr=" + taken, 1, "address already in use"},
		{"-addr=127.0.0.1", 1, "missing port in address"},
		{"-timeout=soon", 2, "invalid value"},
		{"-port=9090", 2, "not defined: -port"},
		{"serve", 2, `unexpected argument "serve"`},
	} {
		process.WantBadStart(t, test.status, test.stderr, test.arg)
	}
}
