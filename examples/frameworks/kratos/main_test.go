//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gracefulgo/graceful/internal/process"
)

// With this variable the program has another registrar, or another worker.
const faultVar = "EXAMPLE_KRATOS_FAULT"

func TestMain(m *testing.M) {
	process.Main(m, func() {
		fault := os.Getenv(faultVar)
		discovery = faulty{fault: fault}
		if strings.HasPrefix(fault, "worker ") {
			run := modes[strings.TrimPrefix(os.Args[1], "-with=")]
			in := registry.ServiceInstance{ID: "hello-1", Name: "hello"}
			worker := func(ctx context.Context) error {
				io.Copy(io.Discard, os.Stdin)
				if fault == "worker slow" {
					return work(ctx)
				}
				return errors.New("the worker failed")
			}
			o := options{in, discovery, worker, "127.0.0.1:0", "127.0.0.1:0", 3 * time.Minute, 0, time.Minute}
			if err := run(o); err != nil {
				exit(1, err)
			}
			return
		}
		main()
	})
}

// faulty is a registrar that fails where its fault says so.
type faulty struct {
	printer
	fault string
}

func (f faulty) Register(ctx context.Context, in *registry.ServiceInstance) error {
	switch f.fault {
	case "probe":
		fmt.Println("at the registration:", probe(in))
	case "register fails":
		return errors.New("registrar is down")
	case "register hangs":
		fmt.Println("registering")
		<-ctx.Done()
		return ctx.Err()
	case "register unheard": // it arrives, its answer does not
		f.printer.Register(ctx, in)
		<-ctx.Done()
		return ctx.Err()
	case "register late":
		fmt.Println("registering")
		io.Copy(io.Discard, os.Stdin)
	}
	return f.printer.Register(ctx, in)
}

func (f faulty) Deregister(ctx context.Context, in *registry.ServiceInstance) error {
	switch f.fault {
	case "probe":
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
	var of [2]string // what follows the scheme
	for _, e := range in.Endpoints {
		scheme, addr, _ := strings.Cut(e, "://")
		of[slices.Index([]string{"http", "grpc"}, scheme)] = addr
	}
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 3 * time.Minute}).Get("http://" + of[0] + "/hello")
	if err != nil {
		return err.Error()
	}
	resp.Body.Close()
	conn, err := grpc.NewClient(of[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_, err = grpc_health_v1.NewHealthClient(conn).Check(context.Background(), new(grpc_health_v1.HealthCheckRequest))
	return fmt.Sprintf("http %d, grpc %v", resp.StatusCode, err)
}

// both runs test in either mode.
func both(t *testing.T, test func(t *testing.T, with string)) {
	t.Parallel()
	for with := range modes {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			test(t, with)
		})
	}
}

type service struct {
	*process.Process
	http, grpc string // addresses
	stdin      io.Closer
}

func start(t *testing.T, with, fault string, args ...string) *service {
	t.Helper()
	cmd := process.Command(t, append([]string{"-with=" + with, "-http=127.0.0.1:0", "-grpc=127.0.0.1:0", "-timeout=3m", "-registrar-timeout=1m"}, args...)...)
	cmd.Env = append(cmd.Env, faultVar+"="+fault)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	s := &service{Process: process.StartCommand(t, cmd), stdin: stdin}
	s.http, s.grpc = s.Line("http on "), s.Line("grpc on ")
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hello returns once the handler has written its first word.
func (s *service) hello(t *testing.T, query string) *http.Response {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := (&http.Client{Transport: transport, Timeout: 3 * time.Minute}).Get("http://" + s.http + "/hello" + query)
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func wantHello(t *testing.T, resp *http.Response) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if want := "Hello from hello-hello-1 v1.0.0\n"; string(body) != want || err != nil {
		t.Errorf("GET %v = %q, %v, want %q", resp.Request.URL, body, err, want)
	}
}

// watch opens a stream that never ends, and returns after its first message.
func (s *service) watch(t *testing.T) grpc_health_v1.Health_WatchClient {
	t.Helper()
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	stream, err := grpc_health_v1.NewHealthClient(conn).Watch(t.Context(), new(grpc_health_v1.HealthCheckRequest))
	must(t, err)
	_, err = stream.Recv()
	must(t, err)
	return stream
}

// wantStdout wants lines with these beginnings, each once, in this order.
func (s *service) wantStdout(t *testing.T, beginnings ...string) {
	t.Helper()
	stdout := "\n" + s.Stdout()
	at := -1
	for _, b := range beginnings {
		i := strings.Index(stdout, "\n"+b)
		if n := strings.Count(stdout, "\n"+b); n != 1 || i <= at {
			t.Errorf("stdout has %d lines with %q, want one, and in the order of %q", n, b, beginnings)
		}
		at = i
	}
}

// wantError wants the program's own error on stderr to have all of these.
func (s *service) wantError(t *testing.T, texts ...string) {
	t.Helper()
	_, err, _ := strings.Cut("\n"+s.Stderr(), "\nkratos: ")
	for _, text := range texts {
		if !strings.Contains(err, text) {
			t.Errorf("error = %q, want it to have %q", err, text)
		}
	}
}

// wantClosed wants nothing to be left of the program.
func (s *service) wantClosed() {
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
				s.wantStdout(t, "at the registration: http 200, grpc <nil>", "registered hello-hello-1 at [",
					"at the deregistration: http 200, grpc <nil>", "deregistered hello-hello-1", "database closed")
				s.wantStdout(t, "worker ended", "database closed")
				if with == "alone" {
					s.wantStdout(t, "registered", "stopping", "at the deregistration")
				}
			})
		})
	}
}

func TestInFlight(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "")
		s.AwaitStdout("\nstarted")
		resp := s.hello(t, "?d=2s")
		s.Signal(syscall.SIGTERM)
		s.AwaitPortClosed(s.http)
		wantHello(t, resp)
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
		wantHello(t, s.hello(t, ""))
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

// TestLingerCutShort has no time for all of it, and says so.
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

// TestSignalWhileRegistering has a signal come while the registrar is called.
func TestSignalWhileRegistering(t *testing.T) {
	t.Parallel()
	t.Run("heard", func(t *testing.T) {
		t.Parallel()
		s := start(t, "alone", "register hangs", "-registrar-timeout=1h")
		s.AwaitStdout("registering")
		s.Signal(syscall.SIGTERM)
		s.WantExit(0)
	})
	t.Run("timeout", func(t *testing.T) {
		both(t, func(t *testing.T, with string) {
			s := start(t, with, "register hangs", "-registrar-timeout=100ms")
			s.WantExit(1)
			s.wantError(t, "deadline exceeded")
		})
	})
	t.Run("arrived", func(t *testing.T) { // but nobody heard of that
		t.Parallel()
		s := start(t, "alone", "register unheard", "-registrar-timeout=1h")
		s.AwaitStdout("registered")
		s.Signal(syscall.SIGTERM)
		s.WantExit(0)
		s.wantStdout(t, "registered", "deregistered")
	})
	t.Run("arrived, timeout", func(t *testing.T) {
		both(t, func(t *testing.T, with string) {
			s := start(t, with, "register unheard", "-registrar-timeout=2s") // also for the deregistration
			s.WantExit(1)
			s.wantError(t, "deadline exceeded")
			s.wantStdout(t, "registered", "deregistered")
		})
	})
	t.Run("not heard", func(t *testing.T) { // it registers all the same
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

// TestDeregisterFails wants the stop to go on without.
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
				wantHello(t, resp)
				s.WantExit(1)
				s.wantError(t, "deregister", test.text)
				s.wantStdout(t, "registered", "worker ended", "database closed")
			})
		})
	}
}

// TestDeregisterDeaf has a deregistration that does not even end with its context.
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

// TestWorkerFails wants a worker's error to stop all, also if the deregistration
// fails then.
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

// TestSlowWorker has the worker end after the servers.
func TestSlowWorker(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "worker slow")
		s.AwaitStdout("\nstarted")
		s.Signal(syscall.SIGTERM)
		s.wantClosed()
		time.Sleep(100 * time.Millisecond) // for a database that does not wait
		s.stdin.Close()
		s.WantExit(0)
		s.wantStdout(t, "deregistered", "worker ended", "database closed")
	})
}

// TestEndless has a stream and a request that would never end.
func TestEndless(t *testing.T) {
	for _, kind := range []string{"stream", "request"} {
		t.Run(kind, func(t *testing.T) {
			both(t, func(t *testing.T, with string) {
				process.Patiently(t, 9*time.Second, func(timeout time.Duration) bool { // of which a tenth is left to cut off the stream
					s := start(t, with, "", fmt.Sprint("-timeout=", timeout))
					s.AwaitStdout("\nstarted")
					name := "grpc ("
					var watch grpc_health_v1.Health_WatchClient
					if kind == "stream" {
						watch = s.watch(t)
					} else {
						s.hello(t, "?d=1000h")
						name = "http ("
					}
					s.Signal(syscall.SIGTERM)
					if kind == "stream" {
						if got, err := watch.Recv(); got.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
							t.Errorf("Watch: %v, %v, want NOT_SERVING", got, err)
						}
					}
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

// TestSilentConnection has a client that connects to the gRPC port and says nothing.
func TestSilentConnection(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "")
		s.AwaitStdout("\nstarted")
		conn, err := net.Dial("tcp", s.grpc)
		must(t, err)
		defer conn.Close()
		in := &registry.ServiceInstance{Endpoints: []string{"http://" + s.http, "grpc://" + s.grpc}}
		if got := probe(in); got != "http 200, grpc <nil>" { // has come after it
			t.Error(got)
		}
		s.Signal(syscall.SIGTERM)
		s.WantExit(0)
	})
}

func TestSecondInterrupt(t *testing.T) {
	both(t, func(t *testing.T, with string) {
		s := start(t, with, "")
		s.AwaitStdout("\nstarted")
		s.watch(t)
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
		{[]string{"-with=hooks", "-http=" + taken, "-grpc=127.0.0.1:0"}, 1, "address already in use"},
		{[]string{"-with=hooks", "-http=127.0.0.1:0", "-grpc=" + taken}, 1, "address already in use"},
		{[]string{"-with=luck"}, 2, `not "luck"`},
		{[]string{"-linger=5s", "-timeout=5s"}, 2, "longer than -linger"},
		{[]string{"-timeout=fast"}, 2, "invalid value"},
		{[]string{"-port=80"}, 2, "not defined: -port"},
		{[]string{"serve"}, 2, `unexpected argument "serve"`},
	} {
		process.WantBadStart(t, test.status, test.stderr, test.args...)
	}
}
