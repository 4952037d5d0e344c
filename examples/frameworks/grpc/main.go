// Command grpc is a gRPC server that loses no call when SIGTERM or Ctrl-C stops
// it.
//
//	go run ./grpc -delay=10s                # in examples/frameworks
//	grpc_health_probe -addr=127.0.0.1:9090  # in a second terminal
//
// Any other client of the health service will do. Press Ctrl-C in the first
// terminal, and ask again in the second: the server still serves, but says
// NOT_SERVING. So load balancers have the delay to send new calls elsewhere.
// Then the port is closed, the calls in flight are finished, and the program
// ends with status 0.
//
// A stream without an end is told to go elsewhere. If it does not end even so,
// or if its client does not read, it is cut off when time has run out. Then the
// program says so, and its exit status is 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/gracefulgo/graceful/examples/frameworks/internal/health"
	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	addr := parseFlags(q)

	// From now on no signal kills the process.
	q.NotifySignal()

	ln, err := net.Listen("tcp", addr)
	if err != nil {
		exit(1, err)
	}
	s := grpc.NewServer(
		// A connection that sends nothing delays the shutdown for that long,
		// and not even Stop can cut it off. The default is two minutes.
		grpc.ConnectionTimeout(5 * time.Second),
	)
	testpb.RegisterTestServiceServer(s, &service{quitting: q.Done()})

	hs := health.NewServer()
	healthpb.RegisterHealthServer(s, hs)
	context.AfterFunc(q.Context(), hs.Shutdown) // NOT_SERVING, from the fire on

	// Registered last, called first, after the delay.
	q.RegisterQuitCloser(quit.Graceful(s.GracefulStop, s.Stop), quit.Name("grpc server"))
	q.RegisterStopFunc(hs.EndWatches, quit.Name("health watches"))

	// If a signal comes this early, GracefulStop may be called before Serve.
	// That is not a failure.
	q.Go(func(context.Context) error { return s.Serve(ln) },
		quit.Name("serve"), quit.Ignore(grpc.ErrServerStopped))

	fmt.Printf("listening on %v\n", ln.Addr())
	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

// parseFlags sets the fields of q and returns the address. It ends the program
// if there is nothing to start.
func parseFlags(q *quit.QuitEvent) (addr string) {
	flags := flag.NewFlagSet("grpc", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, without the usage
	flags.StringVar(&addr, "addr", "127.0.0.1:9090", "listen on `address`; port 0 picks one")
	flags.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	flags.DurationVar(&q.Delay, "delay", 0, "time between the signal and the closing of the port")

	err := flags.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println("usage: grpc [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		exit(2, err)
	}
	return addr
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "grpc:", err)
	os.Exit(status)
}
