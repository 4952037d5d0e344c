// Package health is gRPC's health service with watches that end. A Watch has no
// end of its own: GracefulStop would wait until its client leaves.
package health

import (
	"context"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Server is a health.Server. Its Shutdown sets the status to NOT_SERVING.
type Server struct {
	*health.Server
	ending context.Context
	end    context.CancelFunc
}

// NewServer returns a Server with the status SERVING.
func NewServer() *Server {
	ending, end := context.WithCancel(context.Background())
	return &Server{health.NewServer(), ending, end}
}

// EndWatches sets the status to NOT_SERVING and ends each watch, after it has
// sent that. Later watches end at once.
func (s *Server) EndWatches() {
	s.Shutdown()
	s.end()
}

// Watch is called by gRPC.
func (s *Server) Watch(req *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	w := &watch{Health_WatchServer: stream, ctx: ctx}
	err := s.Server.Watch(req, w)
	// If a status and the end come at the same time, a watch can end without
	// the status.
	if last, unknown := s.Check(ctx, req); unknown == nil && s.ending.Err() != nil {
		if last.Status != w.told {
			stream.Send(last)
		}
	}
	return err
}

type watch struct {
	healthpb.Health_WatchServer
	ctx  context.Context
	told healthpb.HealthCheckResponse_ServingStatus
}

func (w *watch) Context() context.Context { return w.ctx }

func (w *watch) Send(res *healthpb.HealthCheckResponse) error {
	w.told = res.Status
	return w.Health_WatchServer.Send(res)
}
