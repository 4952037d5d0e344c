// Command grpc is a gRPC server that SIGTERM or Ctrl-C stops without a call lost.
//
//	go run ./grpc -delay=10s                    # in examples/frameworks
//	grpc_health_probe -addr=127.0.0.1:9090      # or any client, in a second terminal
//
// Press Ctrl-C in the first terminal, and ask again in the second: the server still
// serves, and says NOT_SERVING. So load balancers have the delay to send new calls
// elsewhere. Then the port is closed, the calls in flight are finished, and the
// program ends with status 0.
//
// A stream without an end is told to call elsewhere. One that does not end even so, or
// a client that does not read, is cut off when the time has run out: the program
// says so, and its status is 1.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	addr := flag.String("addr", "127.0.0.1:9090", "listen on `address`; port 0 picks one")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	flag.DurationVar(&q.Delay, "delay", 0, "time between the signal and the closing of the port")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(2, fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}

	// From now on no signal ends the program halfway.
	q.NotifySignal()

	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		exit(1, err)
	}
	s := grpc.NewServer(
		// A connection that says nothing holds up the stop for that long, and not
		// even Stop can cut it off. By default that is two minutes.
		grpc.ConnectionTimeout(5 * time.Second),
	)
	testpb.RegisterTestServiceServer(s, &service{quitting: q.Done()})

	watches, endWatches := context.WithCancel(context.Background())
	hs := &healthServer{health.NewServer(), watches}
	healthpb.RegisterHealthServer(s, hs)
	context.AfterFunc(q.Context(), hs.Shutdown) // NOT_SERVING, from the fire on

	// The last registered is called first, after the delay.
	q.RegisterQuitCloser(quit.Graceful(s.GracefulStop, s.Stop), quit.Name("grpc server"))
	q.RegisterStopFunc(endWatches, quit.Name("health watches"))

	// With a signal as early as here, GracefulStop comes before Serve: that is no failure.
	q.Go(func(context.Context) error { return s.Serve(ln) },
		quit.Name("serve"), quit.Ignore(grpc.ErrServerStopped))

	fmt.Printf("listening on %v\n", ln.Addr())
	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "grpc:", err)
	os.Exit(status)
}

// healthServer is a health.Server whose watches end when ctx does. Otherwise each
// would hold up GracefulStop until its client leaves.
type healthServer struct {
	*health.Server
	ctx context.Context
}

func (h *healthServer) Watch(req *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	return h.Server.Watch(req, &watch{stream, ctx})
}

type watch struct {
	healthpb.Health_WatchServer
	ctx context.Context
}

func (w *watch) Context() context.Context { return w.ctx }
