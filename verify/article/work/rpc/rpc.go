// Package rpc is package work for gRPC, in a package of its own so that other
// programs do not link gRPC.
package rpc

import (
	"context"
	"net"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/gracefulgo/graceful/verify/article/work"
)

type service struct {
	testpb.UnimplementedTestServiceServer
}

func (service) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	work.Do()
	return &testpb.Empty{}, nil
}

// Register registers a service whose EmptyCall is a job.
func Register(s *grpc.Server) { testpb.RegisterTestServiceServer(s, service{}) }

// Listen listens on a port that the system picks, and prints it.
func Listen() (net.Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		work.Listening(ln)
	}
	return ln, err
}
