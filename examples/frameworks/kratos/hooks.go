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

	"github.com/gracefulgo/graceful/quit"
)

// withHooks has a kratos App, which owns the process: it takes the signals, runs
// the servers and registers them. quit stops what is not a server.
//
// What would go wrong in the obvious way is avoided here (as of kratos v2.8.3):
//
//   - If a deregistration fails, Stop stops nothing, unless it was a signal that called
//     it, and the hooks of AfterStop are not called; and a second call of Stop
//     deregisters once more. A registration that was given up, but has arrived, stays.
//     See registrar.
//   - The gRPC server's Stop waits for streams without end, whatever StopTimeout is. See
//     grpcServer. And for connections that say nothing: see silence.
//   - A hook of AfterStop is not called if a server fails or is not stopped in time, and its
//     context is always cancelled already. So q.Shutdown is called after Run.
//   - SIGQUIT, which dumps all stacks, is a signal to stop by default; and a
//     second Ctrl-C is swallowed. Hence Signal, and NotifySignal.
//
// What remains: a call of the registrar that ignores its context holds up everything,
// until the second Ctrl-C; a registration that fails ends the program without a stop
// of the servers; if one server fails, the others are stopped before it is deregistered; and the
// HTTP server goes on with a request for which there was no time, while what it uses is closed.
func withHooks(o options) error {
	// The deregistration, the servers and what quit stops come one after the other, each
	// with a time of its own.
	part := (o.timeout - o.linger) / 3
	q := &quit.QuitEvent{Timeout: part}
	q.NotifySignal() // both hear of a signal; quit's part is the second Ctrl-C

	httpSrv := khttp.NewServer(khttp.Address(o.http), khttp.Timeout(0)) // its default for a request is 1 s
	grpcSrv := grpcServer{kgrpc.NewServer(kgrpc.Address(o.grpc),
		kgrpc.Options(grpc.ConnectionTimeout(silence)))}
	httpSrv.HandleFunc("/hello", o.hello)
	httpURL, err := httpSrv.Endpoint() // listens
	if err != nil {
		return err
	}
	grpcURL, err := grpcSrv.Endpoint()
	if err != nil {
		return err
	}
	fmt.Printf("http on %v\ngrpc on %v\n", httpURL.Host, grpcURL.Host)

	q.RegisterCloser(database{}, quit.AfterDrain(), quit.Name("database"))
	q.Go(o.worker, quit.Name("worker"))

	var app *kratos.App
	app = kratos.New(
		kratos.ID(o.ID), kratos.Name(o.Name), kratos.Version(o.Version),
		kratos.Server(httpSrv, grpcSrv),
		kratos.Registrar(&registrar{Registrar: o.registrar, q: q, linger: o.linger}),
		kratos.RegistrarTimeout(min(part, o.registrarLimit)),
		kratos.StopTimeout(part),
		kratos.Signal(os.Interrupt, syscall.SIGTERM),
		// Requests have this as their context: it is cancelled last.
		kratos.Context(q.WorkContext()),
		// Whatever stops the app stops the worker,
		kratos.BeforeStop(func(context.Context) error {
			q.Fire()
			return nil
		}),
		// and whatever fires q stops the app: a worker that fails, a signal while it
		// started. It is counted, so that it is awaited also where Run does not.
		kratos.AfterStart(func(context.Context) error {
			q.AddGoroutine()
			context.AfterFunc(q.Context(), func() {
				defer q.DoneGoroutine()
				app.Stop()
			})
			fmt.Println("started")
			return nil
		}),
	)
	err = app.Run()
	return errors.Join(err, q.Shutdown(context.Background()))
}

// registrar deregisters once, also what was given up, and tells q of the failure
// instead of kratos.
type registrar struct {
	registry.Registrar
	q      *quit.QuitEvent
	linger time.Duration
	once   sync.Once
}

func (r *registrar) Register(ctx context.Context, in *registry.ServiceInstance) error {
	err := r.Registrar.Register(ctx, in)
	if err != nil && ctx.Err() != nil { // given up: it may have arrived all the same
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

// grpcServer is kratos' server with an end to its patience, and for which it is no
// failure to be stopped before it has begun to serve.
type grpcServer struct{ *kgrpc.Server }

func (s grpcServer) Start(ctx context.Context) error {
	if err := s.Server.Start(ctx); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

func (s grpcServer) Stop(ctx context.Context) error {
	stop := func() { s.Server.Stop(ctx) }
	return quit.Graceful(stop, s.Server.Server.Stop).Shutdown(ctx)
}
