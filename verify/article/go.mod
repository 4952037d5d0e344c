module github.com/gracefulgo/graceful/verify/article

go 1.26.0

require (
	github.com/gracefulgo/graceful v0.0.0
	github.com/oklog/run v1.2.0
	go.uber.org/fx v1.24.0
	golang.org/x/sync v0.23.0
	google.golang.org/grpc v1.85.0
)

require (
	go.uber.org/dig v1.19.0 // indirect
	go.uber.org/multierr v1.10.0 // indirect
	go.uber.org/zap v1.26.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/gracefulgo/graceful => ../..
