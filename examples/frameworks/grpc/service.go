package main

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// service stands for yours.
type service struct {
	testpb.UnimplementedTestServiceServer
	quitting <-chan struct{} // closed by the fire
}

// UnaryCall works for as long as its payload says. It need not know of the
// fire.
func (s *service) UnaryCall(ctx context.Context, req *testpb.SimpleRequest) (
	*testpb.SimpleResponse, error,
) {
	d, err := time.ParseDuration(string(req.GetPayload().GetBody()))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	select {
	case <-time.After(d):
		return &testpb.SimpleResponse{Payload: req.Payload}, nil
	case <-ctx.Done(): // the client is gone, or time has run out
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// StreamingOutputCall is a subscription without an end. So it ends at the fire:
// the client can subscribe elsewhere.
func (s *service) StreamingOutputCall(
	req *testpb.StreamingOutputCallRequest, stream testpb.TestService_StreamingOutputCallServer,
) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := stream.Send(
				&testpb.StreamingOutputCallResponse{Payload: req.Payload}); err != nil {
				return err
			}
		case <-s.quitting:
			return status.Error(codes.Unavailable, "the server is going away")
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

// FullDuplexCall is a conversation, and ends when the client closes its side.
func (s *service) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(
			&testpb.StreamingOutputCallResponse{Payload: req.Payload}); err != nil {
			return err
		}
	}
}
