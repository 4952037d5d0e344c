package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-kratos/kratos/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"

	"github.com/gracefulgo/graceful/examples/frameworks/internal/advertise"
	"github.com/gracefulgo/graceful/examples/frameworks/internal/health"
	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

// withAlone has the features of a kratos App, but uses only quit. Beside each
// part is the option of kratos that it replaces. No App runs here. The types of
// kratos and its NewContext are used, so that handlers and registrars written
// for kratos fit without a change.
//
// Closers registered last are called first. So the source reads in the order of
// the startup, and the shutdown goes through it backwards. The hook of
// AfterStop is called even after a failure, and its context is alive.
func withAlone(o options) error {
	q := &quit.QuitEvent{Timeout: o.timeout} // StopTimeout; here for the whole shutdown

	// Signal. Called first, so that no signal kills the process.
	q.NotifySignal(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)

	// Endpoint. The ports are bound, but not served yet.
	httpLn, httpURL, err := listen("http", o.http)
	if err != nil {
		return err
	}
	grpcLn, grpcURL, err := listen("grpc", o.grpc)
	if err != nil {
		httpLn.Close()
		return err
	}
	o.Endpoints = []string{httpURL, grpcURL}
	fmt.Printf("http on %v\ngrpc on %v\n", httpLn.Addr(), grpcLn.Addr())

	// ID, Name, Version and Metadata, for kratos.FromContext.
	app := info{&o.ServiceInstance}

	// AfterStop: once the servers are stopped and the worker has ended.
	q.RegisterCloser(database{}, quit.AfterDrain(), quit.Name("database"))
	q.RegisterQuitCloser(closer(app, o.afterStop), quit.AfterDrain(), quit.Name("after stop"))

	// BeforeStart.
	if err := o.beforeStart(kratos.NewContext(q.Context(), app)); err != nil {
		q.Fail(failure(q, "before start", err))
		return q.WaitSignal()
	}
	q.Go(func(ctx context.Context) error {
		return o.worker(kratos.NewContext(ctx, app))
	}, quit.Name("worker"))

	// Server. All are stopped at the same time. Each is cut off if its time
	// runs out.
	servers := &quit.QuitEvent{Concurrent: true}
	q.RegisterQuitCloser(servers, quit.Name("servers"))
	serveHTTP(servers, httpLn, app)
	serveGRPC(q.Context(), servers, grpcLn, app)

	// kratos has no option for this: clients need a moment to notice the
	// deregistration. q.Delay would be too early, since it comes before all
	// closers.
	var registered atomic.Bool
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		if o.linger <= 0 || !registered.Load() {
			return nil
		}
		select {
		case <-time.After(o.linger):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}), quit.Name("linger"))

	// Registrar. It has an event of its own. So a registration under way ends,
	// and is undone, before the servers are stopped.
	registration := new(quit.QuitEvent)
	q.RegisterQuitCloser(registration, quit.Name("registration"), quit.Timeout(2*o.registrarLimit))
	q.RegisterQuitCloser(closer(app, o.beforeStop), quit.Name("before stop"))
	registration.Go(func(context.Context) error {
		if q.HasFired() {
			return nil
		}
		ctx := kratos.NewContext(q.Context(), app)                    // cancelled by a signal
		limited, cancel := context.WithTimeout(ctx, o.registrarLimit) // RegistrarTimeout
		defer cancel()
		err := o.registrar.Register(limited, &o.ServiceInstance)
		if err != nil && limited.Err() == nil {
			return err // it was refused
		}
		// Even if the registration was given up: it may have arrived
		// nonetheless.
		registered.Store(true)
		registration.RegisterQuitCloser(closer(app, func(ctx context.Context) error {
			return o.registrar.Deregister(ctx, &o.ServiceInstance)
		}), quit.Name("deregister"), quit.Timeout(o.registrarLimit))
		if q.HasFired() {
			return nil
		}
		if err == nil { // AfterStart
			err = failure(q, "after start", o.afterStart(ctx))
		}
		return err
	}, quit.Name("register"))

	return q.WaitSignal()
}

// listen returns a listener, and the endpoint to register for it.
func listen(scheme, addr string) (net.Listener, string, error) {
	host, err := advertise.Host(addr)
	if err != nil {
		return nil, "", err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, "", err
	}
	return ln, advertise.URL(scheme, host, ln.Addr()), nil
}

func serveHTTP(servers *quit.QuitEvent, ln net.Listener, app kratos.AppInfo) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", hello)
	quithttp.Serve(servers, &http.Server{
		Handler:     mux,
		ReadTimeout: readTimeout,
		IdleTimeout: idleTimeout,
		BaseContext: func(net.Listener) context.Context {
			return kratos.NewContext(context.Background(), app)
		},
	}, ln, quit.Name("http"))
}

// serveGRPC serves until servers fires. The health service says NOT_SERVING as
// soon as ctx is done.
func serveGRPC(ctx context.Context, servers *quit.QuitEvent, ln net.Listener, app kratos.AppInfo) {
	srv := grpc.NewServer(grpc.ConnectionTimeout(silence),
		grpc.UnaryInterceptor(unary(app)), grpc.StreamInterceptor(stream(app)))
	hs := health.NewServer()
	context.AfterFunc(ctx, hs.Shutdown)
	grpc_health_v1.RegisterHealthServer(srv, hs)
	testpb.RegisterTestServiceServer(srv, greeter{})
	reflection.Register(srv)
	stop := func() {
		hs.EndWatches()
		srv.GracefulStop()
	}
	servers.RegisterQuitCloser(quit.Graceful(stop, srv.Stop), quit.Name("grpc"))
	servers.Go(func(context.Context) error { return srv.Serve(ln) }, quit.Name("grpc"),
		quit.Ignore(grpc.ErrServerStopped)) // stopped before it has begun
}
