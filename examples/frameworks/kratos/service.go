package main

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/registry"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// The code in this file stands for yours. withAlone and withHooks share it.

// instance returns the app in ctx, as text. It is the context of a request, of
// a worker or of a hook.
func instance(ctx context.Context) string {
	app, ok := kratos.FromContext(ctx)
	if !ok {
		return "nobody"
	}
	return fmt.Sprintf("%s-%s %s %v at %v",
		app.Name(), app.ID(), app.Version(), app.Metadata(), app.Endpoint())
}

// say returns a hook that prints a line.
func say(what string) func(context.Context) error {
	return func(ctx context.Context) error {
		fmt.Println(what, instance(ctx))
		return nil
	}
}

// hello writes its first word at once, and the rest after d, if the request has
// one.
func hello(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.FormValue("d"))
	if err != nil && r.FormValue("d") != "" {
		http.Error(w, "d is a duration", http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, "Hello")
	http.NewResponseController(w).Flush()
	select {
	case <-time.After(d):
		fmt.Fprintln(w, " from", instance(r.Context()))
	case <-r.Context().Done(): // the client is gone, or time has run out
		panic(http.ErrAbortHandler)
	}
}

// greeter is hello for gRPC.
type greeter struct {
	testpb.UnimplementedTestServiceServer
}

// UnaryCall takes the time that its payload says.
func (greeter) UnaryCall(ctx context.Context, req *testpb.SimpleRequest) (
	*testpb.SimpleResponse, error,
) {
	d, err := time.ParseDuration(string(req.GetPayload().GetBody()))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	select {
	case <-time.After(d):
		return &testpb.SimpleResponse{Payload: greeting(ctx)}, nil
	case <-ctx.Done(): // the client is gone, or time has run out
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// StreamingOutputCall says hello, and never ends by itself.
func (greeter) StreamingOutputCall(
	_ *testpb.StreamingOutputCallRequest, stream testpb.TestService_StreamingOutputCallServer,
) error {
	ctx := stream.Context()
	if err := stream.Send(&testpb.StreamingOutputCallResponse{Payload: greeting(ctx)}); err != nil {
		return err
	}
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

func greeting(ctx context.Context) *testpb.Payload {
	return &testpb.Payload{Body: []byte("Hello from " + instance(ctx))}
}

// work stands for any part that is not a server.
func work(ctx context.Context) error {
	fmt.Println("worker of", instance(ctx))
	<-ctx.Done()
	fmt.Println("worker ended")
	return nil
}

// database stands for the things that the worker and the servers use.
type database struct{}

func (database) Close() error {
	fmt.Println("database closed")
	return nil
}

// printer stands for a service discovery.
type printer struct {
	registered atomic.Bool
}

func (p *printer) Register(_ context.Context, in *registry.ServiceInstance) error {
	fmt.Printf("registered %v at %v\n", in, in.Endpoints)
	p.registered.Store(true)
	return nil
}

func (p *printer) Deregister(_ context.Context, in *registry.ServiceInstance) error {
	if p.registered.Swap(false) {
		fmt.Printf("deregistered %v\n", in)
	}
	return nil
}
