package health

import (
	"context"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// stream is the server's end of a watch.
type stream struct {
	healthpb.Health_WatchServer
	ctx  context.Context
	told []healthpb.HealthCheckResponse_ServingStatus
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) Send(res *healthpb.HealthCheckResponse) error {
	s.told = append(s.told, res.Status)
	return nil
}

// TestLastStatus has watches begin when both the last status and the end are
// there already, so that each may come first.
func TestLastStatus(t *testing.T) {
	s := NewServer()
	s.Shutdown()
	s.EndWatches()
	for service, want := range map[string]healthpb.HealthCheckResponse_ServingStatus{
		"":     healthpb.HealthCheckResponse_NOT_SERVING,
		"none": healthpb.HealthCheckResponse_SERVICE_UNKNOWN,
	} {
		for range 100 {
			watch := &stream{ctx: t.Context()}
			s.Watch(&healthpb.HealthCheckRequest{Service: service}, watch)
			if len(watch.told) == 0 && service != "" {
				continue // there is nothing to tell
			}
			if len(watch.told) != 1 || watch.told[0] != want {
				t.Fatalf("a watch of %q was told %v, want %v once", service, watch.told, want)
			}
		}
	}
}
