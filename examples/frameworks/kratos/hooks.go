package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/registry"
	kgrpc "github.com/go-kratos/kratos/v2/transport/grpc"
	khttp "github.com/go-kratos/kratos/v2/transport/http"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/gracefulgo/graceful/examples/frameworks/internal/health"
	"github.com/gracefulgo/graceful/quit"
)

// withHooks uses a kratos App, which owns the process: it takes the signals,
// runs the servers and registers them. quit stops everything that is not a
// server.
//
// The simplest solution has these problems, with kratos v2.8.3. withHooks
// avoids them:
//
//   - If a deregistration fails, Stop stops nothing, unless a signal has called
//     it. A second call to Stop calls the hooks of BeforeStop and deregisters
//     again. A registration that was given up, but has arrived, stays. See
//     registrar, and once.
//   - If the registration or a hook of AfterStart fails, Run returns without
//     stopping the servers, and without deregistering. So quit stops them too.
//   - The gRPC server's Stop waits for endless streams regardless of
//     StopTimeout, for example for watches of the health service: see
//     grpcServer. It waits for connections that send nothing, too: see silence.
//   - The HTTP server has no timeouts for clients, and goes on with requests
//     when the shutdown has no time left for them. See httpServer.
//   - A hook of AfterStop is not called if a server fails or is not stopped in
//     time, and its context is always cancelled by then. So quit calls it.
//   - SIGQUIT, which dumps all stacks, is a signal to stop by default, and a
//     second Ctrl-C is swallowed. Hence Signal, and NotifySignal.
//
// Two problems remain. A hook or a call to the registrar that ignores its
// context blocks everything, until the second Ctrl-C. And if one server fails,
// the others are stopped before the app is deregistered.
func withHooks(o options) error {
	// The deregistration, the servers and the closers of quit come one after
	// another, each with a time limit of its own.
	part := (o.timeout - o.linger) / 3
	q := &quit.QuitEvent{Timeout: part}
	q.NotifySignal() // both get the signals; quit handles the second Ctrl-C

	// The default of both for a request is 1 s.
	httpSrv := httpServer{khttp.NewServer(khttp.Address(o.http), khttp.Timeout(0))}
	httpSrv.ReadTimeout, httpSrv.IdleTimeout = readTimeout, idleTimeout
	httpSrv.HandleFunc("/hello", hello)
	grpcSrv := grpcServer{kgrpc.NewServer(kgrpc.Address(o.grpc), kgrpc.Timeout(0),
		kgrpc.CustomHealth(), kgrpc.Options(grpc.ConnectionTimeout(silence))), health.NewServer()}
	grpc_health_v1.RegisterHealthServer(grpcSrv, grpcSrv.health)
	testpb.RegisterTestServiceServer(grpcSrv, greeter{})
	httpURL, err := httpSrv.Endpoint() // listens
	if err != nil {
		return err
	}
	grpcURL, err := grpcSrv.Endpoint()
	if err != nil {
		return err
	}
	if httpURL.Host == "" || grpcURL.Host == "" { // for a wildcard, kratos looks for one
		return errors.New("no network interface has an address for others")
	}
	fmt.Printf("http on %v\ngrpc on %v\n", httpURL.Host, grpcURL.Host)

	var app *kratos.App
	var once sync.Once
	app = kratos.New(
		kratos.ID(o.ID), kratos.Name(o.Name), kratos.Version(o.Version),
		kratos.Metadata(o.Metadata),
		kratos.Server(httpSrv, grpcSrv),
		kratos.Registrar(&registrar{Registrar: o.registrar, q: q, linger: o.linger}),
		kratos.RegistrarTimeout(min(part, o.registrarLimit)),
		kratos.StopTimeout(part),
		kratos.Signal(os.Interrupt, syscall.SIGTERM),
		// Requests have this as their context: it is cancelled last.
		kratos.Context(q.WorkContext()),
		kratos.BeforeStart(func(ctx context.Context) error {
			if err := o.beforeStart(ctx); err != nil {
				return fmt.Errorf("before start: %w", err)
			}
			q.Go(func(ctx context.Context) error {
				return o.worker(kratos.NewContext(ctx, app))
			}, quit.Name("worker"))
			return nil
		}),
		// Stopping the app stops the worker,
		kratos.BeforeStop(func(ctx context.Context) error {
			once.Do(func() {
				if err := o.beforeStop(ctx); err != nil {
					q.Fail(fmt.Errorf("before stop: %w", err))
				}
				q.Fire()
			})
			return nil
		}),
		// and firing q stops the app: after a worker's failure, or a signal
		// during startup. Stop is called by a closer too, so that q waits for
		// it even if Run does not.
		kratos.AfterStart(func(ctx context.Context) error {
			q.RegisterStopFunc(func() { app.Stop() }, quit.Name("app"))
			context.AfterFunc(q.Context(), func() { app.Stop() })
			return failure(q, "after start", o.afterStart(ctx))
		}),
	)
	q.RegisterCloser(database{}, quit.AfterDrain(), quit.Name("database"))
	q.RegisterQuitCloser(closer(app, o.afterStop), quit.AfterDrain(), quit.Name("after stop"))
	q.RegisterQuitCloser(quit.ShutdownFunc(httpSrv.Stop), quit.Name("http"))
	q.RegisterQuitCloser(quit.ShutdownFunc(grpcSrv.Stop), quit.Name("grpc"))
	context.AfterFunc(q.Context(), grpcSrv.health.Shutdown) // NOT_SERVING

	err = app.Run()
	return errors.Join(err, q.Shutdown(context.Background()))
}

// registrar deregisters once, even after a registration that was given up, and
// reports the failure to q instead of kratos.
type registrar struct {
	registry.Registrar
	q      *quit.QuitEvent
	linger time.Duration
	once   sync.Once
}

func (r *registrar) Register(ctx context.Context, in *registry.ServiceInstance) error {
	err := r.Registrar.Register(ctx, in)
	if err != nil && ctx.Err() != nil { // given up: it may have arrived nonetheless
		r.q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
			return r.Registrar.Deregister(ctx, in)
		}), quit.Name("deregister"))
	}
	return err
}

func (r *registrar) Deregister(ctx context.Context, in *registry.ServiceInstance) error {
	r.once.Do(func() { // others wait for it
		if err := r.Registrar.Deregister(ctx, in); err != nil {
			r.q.Fail(fmt.Errorf("deregister: %w", err))
		}
		time.Sleep(r.linger) // for clients to notice
	})
	return nil
}

// httpServer is kratos' server. It cuts off requests for which there is no
// time.
type httpServer struct{ *khttp.Server }

func (s httpServer) Stop(ctx context.Context) error {
	err := s.Server.Stop(ctx)
	if err != nil {
		err = errors.Join(err, s.Close())
	}
	return err
}

// grpcServer is kratos' server. It ends its watches, limits its wait, and does
// not fail if it is stopped before it has begun to serve.
type grpcServer struct {
	*kgrpc.Server
	health *health.Server
}

func (s grpcServer) Start(ctx context.Context) error {
	if err := s.Server.Start(ctx); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

func (s grpcServer) Stop(ctx context.Context) error {
	stop := func() {
		s.health.EndWatches()
		s.Server.Stop(ctx)
	}
	return quit.Graceful(stop, s.Server.Server.Stop).Shutdown(ctx)
}
