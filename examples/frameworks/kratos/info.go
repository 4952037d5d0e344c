package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/registry"
	"google.golang.org/grpc"

	"github.com/gracefulgo/graceful/quit"
)

// info is the kratos.AppInfo of an instance. Without a kratos App, the program
// puts it into the contexts itself: see withAlone.
type info struct{ *registry.ServiceInstance }

func (i info) ID() string                  { return i.ServiceInstance.ID }
func (i info) Name() string                { return i.ServiceInstance.Name }
func (i info) Version() string             { return i.ServiceInstance.Version }
func (i info) Metadata() map[string]string { return i.ServiceInstance.Metadata }
func (i info) Endpoint() []string          { return i.ServiceInstance.Endpoints }

// closer returns a closer that calls a hook of app.
func closer(app kratos.AppInfo, hook func(context.Context) error) quit.QuitCloser {
	return quit.ShutdownFunc(func(ctx context.Context) error {
		return hook(kratos.NewContext(ctx, app))
	})
}

// failure returns the error of a startup hook. It returns nil if a shutdown has
// cancelled the hook.
func failure(q *quit.QuitEvent, hook string, err error) error {
	if err == nil || q.HasFired() && errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", hook, err)
}

// unary and stream are gRPC interceptors that put app into the contexts.
func unary(app kratos.AppInfo) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (
		any, error,
	) {
		return h(kratos.NewContext(ctx, app), req)
	}
}

func stream(app kratos.AppInfo) grpc.StreamServerInterceptor {
	return func(
		srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler,
	) error {
		return h(srv, streamOf{ss, kratos.NewContext(ss.Context(), app)})
	}
}

// streamOf is a stream with another context.
type streamOf struct {
	grpc.ServerStream
	ctx context.Context
}

func (s streamOf) Context() context.Context { return s.ctx }
