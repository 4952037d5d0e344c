// Command grpc has the shape of the article's first gRPC server: GracefulStop
// is deferred, and a signal runs no deferred calls.
package main

import (
	"log"

	"google.golang.org/grpc"

	"github.com/gracefulgo/graceful/verify/article/work/rpc"
)

func startGRPCServer() {
	ln, err := rpc.Listen()
	if err != nil {
		log.Fatal("listen: ", err)
	}
	grpcServer := grpc.NewServer()
	rpc.Register(grpcServer)
	go grpcServer.Serve(ln)
	defer grpcServer.GracefulStop()
	select {} // the rest of the program
}

func main() {
	startGRPCServer()
}
