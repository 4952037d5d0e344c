package health

import (
	"context"
	"slices"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// stream is the server's end of a watch. After the first status, the last one
// and the end come at the same time.
type stream struct {
	healthpb.Health_WatchServer
	ctx  context.Context
	s    *Server
	told []healthpb.HealthCheckResponse_ServingStatus
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) Send(res *healthpb.HealthCheckResponse) error {
	if s.told = append(s.told, res.Status); len(s.told) == 1 {
		s.s.EndWatches()
		time.Sleep(time.Millisecond) // for the end to arrive: then either may come first
	}
	return nil
}

func TestLastStatus(t *testing.T) {
	for service, want := range map[string][]healthpb.HealthCheckResponse_ServingStatus{
		"":        {healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING},
		"unknown": {healthpb.HealthCheckResponse_SERVICE_UNKNOWN},
	} {
		for range 100 {
			s := NewServer()
			watch := &stream{ctx: t.Context(), s: s}
			s.Watch(&healthpb.HealthCheckRequest{Service: service}, watch)
			if !slices.Equal(watch.told, want) {
				t.Fatalf("a watch of %q was told %v, want %v", service, watch.told, want)
			}
		}
	}
}
