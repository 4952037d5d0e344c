package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// withAlone has what a kratos App offers, with quit alone. Beside each part is the option
// of kratos that it stands for.
//
// What is registered last is stopped first, so the source reads like the start,
// and the stop runs from its end to its beginning.
func withAlone(o options) error {
	q := &quit.QuitEvent{Timeout: o.timeout} // StopTimeout; here for the whole stop

	// Signal. As early as this, so that none ends the program halfway.
	q.NotifySignal(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)

	// BeforeStart: whatever comes here.

	httpLn, err := net.Listen("tcp", o.http)
	if err != nil {
		return err
	}
	grpcLn, err := net.Listen("tcp", o.grpc)
	if err != nil {
		return err
	}
	o.Endpoints = []string{"http://" + httpLn.Addr().String(), "grpc://" + grpcLn.Addr().String()}
	fmt.Printf("http on %v\ngrpc on %v\n", httpLn.Addr(), grpcLn.Addr())

	// AfterStop: once the servers are stopped and the worker has ended.
	q.RegisterCloser(database{}, quit.AfterDrain(), quit.Name("database"))
	q.Go(o.worker, quit.Name("worker"))

	// Server. Each has what is left of the time, and then is cut off.
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", o.hello)
	quithttp.Serve(q, &http.Server{
		Handler:     mux,
		ReadTimeout: 10 * time.Second, // a client that is slow to send must not hold up the stop
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	}, httpLn, quit.Name("http"))

	srv := grpc.NewServer(grpc.ConnectionTimeout(silence))
	hs := health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, hs)
	stop := func() {
		hs.Shutdown() // NOT_SERVING
		srv.GracefulStop()
	}
	q.RegisterQuitCloser(quit.Graceful(stop, srv.Stop), quit.Name("grpc"))
	q.Go(func(context.Context) error { return srv.Serve(grpcLn) }, quit.Name("grpc"),
		quit.Ignore(grpc.ErrServerStopped)) // stopped before it has begun

	// What kratos has no option for: the clients need a moment to notice. It comes
	// after the deregistration, where q.Delay, before all closers, would be too early.
	if o.linger > 0 {
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			select {
			case <-time.After(o.linger):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}), quit.Name("linger"))
	}

	// Registrar. The ports are open. Its context is cancelled by a signal, and if it
	// registers all the same, the closer is called, since every closer is.
	q.Go(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, o.registrarLimit)
		defer cancel()
		err := o.registrar.Register(ctx, &o.ServiceInstance)
		if err != nil && ctx.Err() == nil {
			return err
		}
		// Also if that was given up: it may have arrived all the same.
		q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			return o.registrar.Deregister(ctx, &o.ServiceInstance)
		}), quit.Name("deregister"), quit.Timeout(o.registrarLimit)) // RegistrarTimeout
		if err != nil {
			return err
		}

		// BeforeStop: registered last, called first.
		q.RegisterStopFunc(func() { fmt.Println("stopping") }, quit.Name("before stop"))

		fmt.Println("started") // AfterStart
		return nil
	}, quit.Name("register"))

	return q.WaitSignal()
}
