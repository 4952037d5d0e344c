// Command grpc_stop has the shape of the article's second gRPC server:
// GracefulStop is registered.
package main

import (
	"log"

	"google.golang.org/grpc"

	"github.com/gracefulgo/graceful/quit"
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
	quit.GetQuitEvent().RegisterStopFunc(grpcServer.GracefulStop)
	quit.WaitSignal()
}

func main() {
	startGRPCServer()
}
