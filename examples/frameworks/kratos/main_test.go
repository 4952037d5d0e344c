//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/gracefulgo/graceful/examples/frameworks/internal/advertise"
	"github.com/gracefulgo/graceful/internal/process"
)

// If this variable is set, the program has another registrar, another worker,
// or other hooks.
const faultVar = "EXAMPLE_KRATOS_FAULT"

func TestMain(m *testing.M) {
	process.Main(m, func() {
		fault := os.Getenv(faultVar)
		service.registrar = &faulty{fault: fault}
		if strings.HasPrefix(fault, "worker ") {
			service.worker = func(ctx context.Context) error {
				io.Copy(io.Discard, os.Stdin)
				if fault == "worker slow" {
					return work(ctx)
				}
				return errors.New("the worker failed")
			}
		}
		for name, hook := range map[string]*func(context.Context) error{
			"before start": &service.beforeStart,
			"after start":  &service.afterStart,
			"before stop":  &service.beforeStop,
			"after stop":   &service.afterStop,
		} {
			done := *hook
			*hook = func(ctx context.Context) error {
				if err := done(ctx); err != nil {
					return err
				}
				if fault == name+" waits" {
					<-ctx.Done()
				}
				if err := ctx.Err(); err != nil {
					return err // kratos' own AfterStop has a context that is done
				}
				if fault == name+" fails" {
					return errors.New("the hook failed")
				}
				return nil
			}
		}
		main()
	})
}

// faulty is a registrar that fails in the way that its fault names.
type faulty struct {
	printer
	fault string
}

func (f *faulty) Register(ctx context.Context, in *registry.ServiceInstance) error {
	switch f.fault {
	case "probe":
		fmt.Println("at the registration:", probe(in))
	case "register fails":
		return errors.New("registrar is down")
	case "register fails late":
		fmt.Println("registering")
		io.Copy(io.Discard, os.Stdin)
		return errors.New("registrar is down")
	case "register hangs":
		fmt.Println("registering")
		<-ctx.Done()
		return ctx.Err()
	case "register unheard", "register unheard, probe": // it arrives, but its answer does not
		f.printer.Register(ctx, in)
		<-ctx.Done()
		if f.fault == "register unheard, probe" {
			io.Copy(io.Discard, os.Stdin)
		}
		return ctx.Err()
	case "register late":
		fmt.Println("registering")
		io.Copy(io.Discard, os.Stdin)
	}
	return f.printer.Register(ctx, in)
}

func (f *faulty) Deregister(ctx context.Context, in *registry.ServiceInstance) error {
	switch f.fault {
	case "probe", "register unheard, probe":
		fmt.Println("at the deregistration:", probe(in))
	case "deregister fails", "worker fails, deregister fails":
		return errors.New("registrar is down")
	case "deregister hangs":
		<-ctx.Done()
		return ctx.Err()
	case "deregister deaf":
		fmt.Println("deregistering")
		select {}
	}
	return f.printer.Deregister(ctx, in)
}

// probe asks both ports of the instance, over new connections.
func probe(in *registry.ServiceInstance) string {
	var of [2]string // the part after the scheme
	for _, e := range in.Endpoints {
		scheme, addr, _ := strings.Cut(e, "://")
		of[slices.Index([]string{"http", "grpc"}, scheme)] = addr
	}
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 3 * time.Minute}).Get(
		"http://" + of[0] + "/hello")
	if err != nil {
		return err.Error()
	}
	resp.Body.Close()
	conn, err := grpc.NewClient(of[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_, err = grpc_health_v1.NewHealthClient(conn).Check(context.Background(),
		new(grpc_health_v1.HealthCheckRequest))
	return fmt.Sprintf("http %d, grpc %v", resp.StatusCode, err)
}

// both runs test in each of the two modes.
func both(t *testing.T, test func(t *testing.T, with string)) {
	t.Parallel()
	for with := range modes {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			test(t, with)
		})
	}
}

type program struct {
	*process.Process
	http, grpc string // addresses
	instance   string
	stdin      io.Closer
}

// command returns the program and its stdin.
func command(t *testing.T, with, fault string, args ...string) (*exec.Cmd, io.Closer) {
	t.Helper()
	cmd := process.Command(t, append([]string{"-with=" + with, "-http=127.0.0.1:0",
		"-grpc=127.0.0.1:0", "-timeout=3m", "-registrar-timeout=1m"}, args...)...)
	cmd.Env = append(cmd.Env, faultVar+"="+fault)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	return cmd, stdin
}

func start(t *testing.T, with, fault string, args ...string) *program {
	t.Helper()
	cmd, stdin := command(t, with, fault, args...)
	s := &program{Process: process.StartCommand(t, cmd), stdin: stdin}
	s.http, s.grpc = s.Line("http on "), s.Line("grpc on ")
	s.instance = s.Line("starting ")
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hello returns once the handler has written its first word.
func (s *program) hello(t *testing.T, query string) *http.Response {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := (&http.Client{Transport: transport, Timeout: 3 * time.Minute}).Get(
		"http://" + s.http + "/hello" + query)
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (s *program) wantHello(t *testing.T, resp *http.Response) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if want := "Hello from " + s.instance + "\n"; string(body) != want || err != nil {
		t.Errorf("GET %v = %q, %v, want %q", resp.Request.URL, body, err, want)
	}
}

// dial returns a connection of its own.
func (s *program) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// watch opens a watch of the health service, and returns after its first
// message.
func (s *program) watch(t *testing.T) grpc_health_v1.Health_WatchClient {
	t.Helper()
	stream, err := grpc_health_v1.NewHealthClient(s.dial(t)).Watch(t.Context(),
		new(grpc_health_v1.HealthCheckRequest))
	must(t, err)
	_, err = stream.Recv()
	must(t, err)
	return stream
}

// wantWatchEnd checks that the watch gets NOT_SERVING, and then ends.
func wantWatchEnd(t *testing.T, watch grpc_health_v1.Health_WatchClient) {
	t.Helper()
	if got, err := watch.Recv(); got.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("Watch: %v, %v, want NOT_SERVING", got, err)
	}
	if got, err := watch.Recv(); err == nil {
		t.Errorf("Watch: %v, want its end", got)
	}
}

// stream opens a stream that never ends, and returns after its first message.
func (s *program) stream(
	t *testing.T, ctx context.Context,
) testpb.TestService_StreamingOutputCallClient {
	t.Helper()
	stream, err := testpb.NewTestServiceClient(s.dial(t)).StreamingOutputCall(ctx,
		new(testpb.StreamingOutputCallRequest))
	must(t, err)
	res, err := stream.Recv()
	must(t, err)
	if got, want := string(res.GetPayload().GetBody()), "Hello from "+s.instance; got != want {
		t.Errorf("StreamingOutputCall: %q, want %q", got, want)
	}
	return stream
}

// call makes a call that takes d, and returns its error.
func (s *program) call(t *testing.T, d string) error {
	t.Helper()
	res, err := testpb.NewTestServiceClient(s.dial(t)).UnaryCall(t.Context(),
		&testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte(d)}})
	if got, want := string(res.GetPayload().GetBody()),
		"Hello from "+s.instance; err == nil && got != want {
		t.Errorf("UnaryCall: %q, want %q", got, want)
	}
	return err
}

// wantStdout checks that there is one line with each of these beginnings, in
// this order.
func (s *program) wantStdout(t *testing.T, beginnings ...string) {
	t.Helper()
	stdout := "\n" + s.Stdout()
	at := -1
	for _, b := range beginnings {
		i := strings.Index(stdout, "\n"+b)
		if n := strings.Count(stdout, "\n"+b); n != 1 || i <= at {
			t.Errorf("stdout has %d lines with %q, want one, and in the order of %q",
				n, b, beginnings)
		}
		at = i
	}
}

// wantError checks that the program's own error on stderr contains all of
// these.
func (s *program) wantError(t *testing.T, texts ...string) {
	t.Helper()
	_, err, _ := strings.Cut("\n"+s.Stderr(), "\nkratos: ")
	for _, text := range texts {
		if !strings.Contains(err, text) {
			t.Errorf("error = %q, want it to have %q", err, text)
		}
	}
}

// wantClosed checks that nothing of the program is left.
func (s *program) wantClosed() {
	s.AwaitPortClosed(s.http)
	s.AwaitPortClosed(s.grpc)
}

// TestOrder asks both ports in the middle of the registration and of the
// deregistration.
func TestOrder(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			both(t, func(t *testing.T, with string) {
				if with == "hooks" && sig == syscall.SIGHUP {
					t.Skip("not one of its signals")
				}
				s := start(t, with, "probe")
				s.AwaitStdout("\nstarted")
				s.Signal(sig)
				s.WantExit(0)
				s.wantStdout(t, "at the registration: http 200, grpc <nil>", "registered hello-",
					"at the deregistration: http 200, grpc <nil>", "deregistered hello-",
					"database closed")
				s.wantStdout(t, "starting "+s.instance, "at the registration",
					"started "+s.instance, "stopping "+s.instance, "at the deregistration",
					"stopped "+s.instance, "database closed")
				s.wantStdout(t, "worker of "+s.instance, "worker ended", "stopped")
			})
		})
	}
}

// TestInstance checks that all parts know the app: see wantHello and stream
// too.
func TestInstance(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "")
		want := regexp.MustCompile(`^hello-[A-Z2-7]{26} v1\.0\.0 map\[weight:10\] at \[http://` +
			s.http + ` grpc://` + s.grpc + `\]$`)
		if !want.MatchString(s.instance) {
			t.Errorf("the instance is %q, want %v", s.instance, want)
		}
		s.AwaitStdout("\nstarted " + s.instance + "\n")
		s.AwaitStdout("\nworker of " + s.instance + "\n")
		s.wantHello(t, s.hello(t, ""))
		must(t, s.call(t, "0s"))
		s.stream(t, t.Context())

		other := start(t, with, "") // the same program, on the same machine
		id, _, _ := strings.Cut(s.instance, " ")
		if strings.HasPrefix(other.instance, id) {
			t.Errorf("two instances have the id %s", id)
		}
	})
}

// TestWildcard checks that no wildcard is registered.
func TestWildcard(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		args := []string{"-with=" + with, "-http=:0", "-grpc=0.0.0.0:0"}
		if _, err := advertise.Host(":0"); err != nil {
			process.WantBadStart(t, 1, "no network interface has an address for others", args...)
			return
		}
		s := start(t, with, "", args...)
		_, endpoints, _ := strings.Cut(s.Line("registered "), " at [")
		httpURL, grpcURL, _ := strings.Cut(strings.TrimSuffix(endpoints, "]"), " ")
		for scheme, endpoint := range map[string]string{"http": httpURL, "grpc": grpcURL} {
			u, err := url.Parse(endpoint)
			must(t, err)
			if ip := net.ParseIP(u.Hostname()); u.Scheme != scheme || ip == nil ||
				ip.IsUnspecified() || ip.IsLoopback() {
				t.Errorf("registered %q, want %s:// and an address for others", endpoint, scheme)
			}
		}
		if got := probe(&registry.ServiceInstance{
			Endpoints: []string{httpURL, grpcURL}}); got != "http 200, grpc <nil>" {
			t.Errorf("at %s and %s: %s", httpURL, grpcURL, got)
		}
		s.Signal(syscall.SIGTERM)
		s.WantExit(0)
	})
}

// TestHookFails checks that the failure of a hook is in the error, and that
// everything begun is undone.
func TestHookFails(t *testing.T) {
	for hook, stdout := range map[string][]string{
		"before start": {"starting", "stopped", "database closed"},
		"after start": {"starting", "registered", "started", "stopping", "deregistered", "stopped",
			"database closed"},
		"before stop": {"starting", "registered", "started", "stopping", "deregistered", "stopped",
			"database closed"},
		"after stop": {"starting", "registered", "started", "stopping", "deregistered", "stopped",
			"database closed"},
	} {
		t.Run(hook, func(t *testing.T) {
			both(t, func(t *testing.T, with string) {
				s := start(t, with, hook+" fails")
				if strings.Contains(hook, "stop") {
					s.AwaitStdout("\nstarted")
					s.Signal(syscall.SIGTERM)
				}
				s.WantExit(1)
				s.wantError(t, hook, "the hook failed")
				s.wantStdout(t, stdout...)
				if hook == "before start" && strings.Contains(s.Stdout(), "registered") {
					t.Error("registered after BeforeStart has failed")
				}
				s.wantClosed()
			})
		})
	}
}

// TestSignalWhileStarting uses a hook that the shutdown cancels. That is not
// a failure.
func TestSignalWhileStarting(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "after start waits")
		s.AwaitStdout("\nstarted")
		s.Signal(syscall.SIGTERM)
		s.WantExit(0)
		s.wantStdout(t, "registered", "started", "stopping", "deregistered", "stopped",
			"database closed")
	})
	t.Run("before start", func(t *testing.T) { // kratos gets no signal then
		t.Parallel()
		s := start(t, "alone", "before start waits")
		s.Signal(syscall.SIGTERM)
		s.WantExit(0)
		s.wantStdout(t, "starting", "stopped", "database closed")
		if strings.Contains(s.Stdout(), "registered") {
			t.Error("registered after a signal")
		}
	})
}

// TestAtOnce uses a request and a call in flight, so that neither server has
// stopped when the ports of both are closed.
func TestAtOnce(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "")
		s.AwaitStdout("\nstarted")
		ctx, cancel := context.WithCancel(t.Context())
		s.stream(t, ctx)
		resp := s.hello(t, "?d=1000h")
		s.Signal(syscall.SIGTERM)
		s.wantClosed()
		cancel()
		resp.Body.Close()
		s.WantExit(0)
	})
}

func TestInFlight(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "")
		s.AwaitStdout("\nstarted")
		resp := s.hello(t, "?d=2s")
		called := make(chan error, 1)
		go func() { called <- s.call(t, "2s") }()
		must(t, s.call(t, "1s")) // the request has arrived by then
		s.Signal(syscall.SIGTERM)
		s.AwaitPortClosed(s.http)
		s.wantHello(t, resp)
		must(t, <-called)
		s.WantExit(0)
		s.wantStdout(t, "deregistered", "database closed")
	})
}

// TestLinger asks the ports after the deregistration.
func TestLinger(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "", "-linger=10m", "-timeout=20m")
		s.AwaitStdout("\nstarted")
		s.Signal(os.Interrupt)
		s.AwaitStdout("\nderegistered")
		s.wantHello(t, s.hello(t, ""))
		s.watch(t)
		s.InterruptAgain()
		s.WantExit(130)
	})
}

func TestShortLinger(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "", "-linger=100ms")
		s.AwaitStdout("\nstarted")
		s.Signal(syscall.SIGTERM)
		s.WantExit(0)
		s.wantStdout(t, "deregistered", "database closed")
	})
}

// TestLingerCutShort gives the program too little time for the whole linger.
// The program says so.
func TestLingerCutShort(t *testing.T) {
	t.Parallel()
	s := start(t, "alone", "", "-linger=4s", "-timeout=4500ms")
	s.AwaitStdout("\nstarted")
	s.Signal(syscall.SIGTERM)
	s.WantExit(1)
	s.wantError(t, "linger (", "context deadline exceeded")
}

func TestRegisterFails(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "register fails")
		s.WantExit(1)
		s.wantError(t, "registrar is down")
		s.wantStdout(t, "worker ended", "database closed")
		if strings.Contains(s.Stdout(), "deregistered") {
			t.Error("deregistered what was not registered")
		}
		s.wantClosed()
	})
}

// TestRegisterFailsLate makes the registration fail while a request is in
// flight.
func TestRegisterFailsLate(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "register fails late")
		s.AwaitStdout("registering")
		resp := s.hello(t, "?d=1s")
		s.stdin.Close()
		s.wantHello(t, resp)
		s.WantExit(1)
		s.wantError(t, "registrar is down")
		if strings.Contains(s.Stdout(), "deregistered") {
			t.Error("deregistered what was not registered")
		}
	})
}

// TestSignalWhileRegistering sends a signal while the registrar is called.
func TestSignalWhileRegistering(t *testing.T) {
	t.Parallel()
	t.Run("heard", func(t *testing.T) {
		t.Parallel()
		s := start(t, "alone", "register hangs", "-registrar-timeout=1h")
		s.AwaitStdout("registering")
		s.Signal(syscall.SIGTERM)
		s.WantExit(0)
		s.wantStdout(t, "stopping", "stopped", "database closed")
		if strings.Contains(s.Stdout(), "registered") {
			t.Error("deregistered what was not registered")
		}
	})
	t.Run("timeout", func(t *testing.T) {
		both(t, func(t *testing.T, with string) {
			s := start(t, with, "register hangs", "-registrar-timeout=100ms")
			s.WantExit(1)
			s.wantError(t, "deadline exceeded")
		})
	})
	t.Run("arrived", func(t *testing.T) { // but its answer was lost
		t.Parallel()
		s := start(t, "alone", "register unheard, probe", "-registrar-timeout=1h")
		s.AwaitStdout("registered")
		s.Signal(syscall.SIGTERM)
		s.AwaitStdout("stopping")
		time.Sleep(500 * time.Millisecond) // time for servers that would not wait
		s.stdin.Close()
		s.WantExit(0)
		s.wantStdout(t, "registered", "at the deregistration: http 200, grpc <nil>", "deregistered",
			"database closed")
	})
	t.Run("arrived, timeout", func(t *testing.T) {
		both(t, func(t *testing.T, with string) {
			// For the deregistration too.
			s := start(t, with, "register unheard", "-registrar-timeout=2s")
			s.WantExit(1)
			s.wantError(t, "deadline exceeded")
			s.wantStdout(t, "registered", "deregistered")
		})
	})
	t.Run("not heard", func(t *testing.T) { // it registers nonetheless
		both(t, func(t *testing.T, with string) {
			s := start(t, with, "register late")
			s.AwaitStdout("registering")
			s.Signal(syscall.SIGTERM)
			s.AwaitStdout("worker ended") // so it has fired
			s.stdin.Close()
			s.WantExit(0)
			s.wantStdout(t, "registered", "deregistered", "database closed")
		})
	})
}

// TestDeregisterFails checks that the shutdown goes on.
func TestDeregisterFails(t *testing.T) {
	for fault, test := range map[string]struct{ timeout, text string }{
		"deregister fails": {"1m", "registrar is down"},
		"deregister hangs": {"1s", "context deadline exceeded"},
	} {
		t.Run(fault, func(t *testing.T) {
			both(t, func(t *testing.T, with string) {
				s := start(t, with, fault, "-registrar-timeout="+test.timeout)
				s.AwaitStdout("\nstarted")
				resp := s.hello(t, "?d=2s")
				s.Signal(syscall.SIGTERM)
				s.wantHello(t, resp)
				s.WantExit(1)
				s.wantError(t, "deregister", test.text)
				s.wantStdout(t, "registered", "worker ended", "database closed")
			})
		})
	}
}

// TestDeregisterDeaf uses a deregistration that ignores its context.
func TestDeregisterDeaf(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "deregister deaf", "-registrar-timeout=1s")
		s.AwaitStdout("\nstarted")
		s.Signal(os.Interrupt)
		if with == "alone" {
			s.WantExit(1)
			s.wantError(t, "deregister", "abandoned")
			s.wantStdout(t, "registered", "worker ended", "database closed")
			return
		}
		s.AwaitStdout("deregistering")
		s.InterruptAgain()
		s.WantExit(130)
	})
}

// TestWorkerFails checks that a worker's error stops everything, even if the
// deregistration then fails.
func TestWorkerFails(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "worker fails")
		s.AwaitStdout("\nstarted")
		s.stdin.Close()
		s.WantExit(1)
		s.wantError(t, "the worker failed")
		s.wantStdout(t, "registered", "deregistered", "database closed")
	})
}

func TestWorkerAndDeregisterFail(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "worker fails, deregister fails")
		s.AwaitStdout("\nstarted")
		s.stdin.Close()
		s.WantExit(1)
		s.wantError(t, "the worker failed", "deregister", "registrar is down")
		s.wantStdout(t, "registered", "database closed")
	})
}

// TestSlowWorker uses a worker that ends after the servers.
func TestSlowWorker(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "worker slow")
		s.AwaitStdout("\nstarted")
		s.Signal(syscall.SIGTERM)
		s.wantClosed()
		time.Sleep(100 * time.Millisecond) // time for a database that would not wait
		s.stdin.Close()
		s.WantExit(0)
		s.wantStdout(t, "deregistered", "worker ended", "stopped", "database closed")
	})
}

// TestEndless uses a stream and a request that would never end.
func TestEndless(t *testing.T) {
	for _, kind := range []string{"stream", "request"} {
		t.Run(kind, func(t *testing.T) {
			both(t, func(t *testing.T, with string) {
				// A tenth of the timeout is left to cut off the stream.
				process.Patiently(t, 9*time.Second, func(timeout time.Duration) bool {
					s := start(t, with, "", fmt.Sprint("-timeout=", timeout))
					s.AwaitStdout("\nstarted")
					name := "grpc ("
					if kind == "stream" {
						s.stream(t, t.Context())
					} else {
						s.hello(t, "?d=1000h")
						name = "http ("
					}
					s.Signal(syscall.SIGTERM)
					s.WantExit(1)
					s.wantError(t, "context deadline exceeded")
					if with == "alone" {
						s.wantError(t, name)
					}
					s.wantStdout(t, "deregistered", "database closed")
					return kind == "request" || strings.Contains(s.Stderr(), "forced to stop")
				})
			})
		})
	}
}

// TestIdle uses clients that would not leave: a watch of the health service, a
// connection to the gRPC port that sends nothing, and an idle connection. They
// must not delay the shutdown for long.
func TestIdle(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "")
		s.AwaitStdout("\nstarted")
		watch := s.watch(t)
		conn, err := net.Dial("tcp", s.grpc)
		must(t, err)
		defer conn.Close()
		s.wantHello(t, s.hello(t, "")) // its connection is kept
		in := &registry.ServiceInstance{Endpoints: []string{"http://" + s.http, "grpc://" + s.grpc}}
		if got := probe(in); got != "http 200, grpc <nil>" { // sent after it
			t.Error(got)
		}
		s.Signal(syscall.SIGTERM)
		wantWatchEnd(t, watch)
		s.WantExit(0)
	})
}

func TestSecondInterrupt(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "")
		s.AwaitStdout("\nstarted")
		s.stream(t, t.Context())
		s.Signal(os.Interrupt)
		s.AwaitStdout("\nderegistered")
		s.InterruptAgain()
		s.WantExit(130)
		if got := s.Stderr(); with == "alone" && !strings.Contains(got, "kratos/alone.go") {
			t.Errorf("stderr = %q, want it to name what still ran", got)
		}
	})
}

func TestClientNeverReads(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "", "-timeout=6s")
		s.AwaitStdout("\nstarted")
		process.NeverRead(t, s.http, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
		s.Signal(syscall.SIGTERM)
		s.WantExit(1)
		s.wantError(t, "context deadline exceeded")
	})
}

func TestSlowClient(t *testing.T) {
	t.Parallel()
	s := start(t, "alone", "")
	s.AwaitStdout("\nstarted")
	wantAnswer := process.SlowToSend(t, s.http, "/hello")
	s.Signal(syscall.SIGTERM)
	s.WantExit(0)
	wantAnswer()
}

func TestBadStart(t *testing.T) {
	t.Parallel()
	taken := process.TakenAddr(t)
	for _, test := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"-http=" + taken, "-grpc=127.0.0.1:0"}, 1, "address already in use"},
		{[]string{"-http=127.0.0.1:0", "-grpc=" + taken}, 1, "address already in use"},
		{[]string{"-with=hooks", "-http=" + taken, "-grpc=127.0.0.1:0"}, 1,
			"address already in use"},
		{[]string{"-with=hooks", "-http=127.0.0.1:0", "-grpc=" + taken}, 1,
			"address already in use"},
		{[]string{"-http=127.0.0.1", "-grpc=127.0.0.1:0"}, 1, "missing port in address"},
		{[]string{"-with=luck"}, 2, `not "luck"`},
		{[]string{"-linger=5s", "-timeout=5s"}, 2, "longer than -linger"},
		{[]string{"-timeout=fast"}, 2, "invalid value"},
		{[]string{"-port=80"}, 2, "not defined: -port"},
		{[]string{"serve"}, 2, `unexpected argument "serve"`},
	} {
		process.WantBadStart(t, test.status, test.stderr, test.args...)
	}
}
