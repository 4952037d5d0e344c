// Command kratos is a service with an HTTP and a gRPC port. It registers with a
// service discovery once both are up, and deregisters before either closes.
// There are two versions. withAlone, in alone.go, has the features of a kratos
// App, but uses only quit. withHooks, in hooks.go, is a kratos App in which
// quit stops everything that is not a server.
//
//	go run ./kratos                   # in examples/frameworks
//	curl 'localhost:8000/hello?d=3s'  # press Ctrl-C now: still answered
//	go run ./kratos -linger=3s        # deregisters 3 s before the ports close
//	go run ./kratos -http=:8000       # on all addresses, registers one
//	go run ./kratos -with=hooks
//
// In both, the hooks before and after start and stop are called, and requests,
// workers and hooks get the app from kratos.FromContext. The servers are
// stopped at the same time. The requests in flight are answered, and the worker
// ends before the database that it uses is closed. If the deregistration fails,
// everything is still stopped, and the failure is in the error. The watches of
// the health service end, and an endless stream is cut off. A second Ctrl-C
// ends the process at once.
//
// The other files are info.go, the app in the contexts of withAlone, and
// service.go, which stands for yours.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/go-kratos/kratos/v2/registry"
)

// options are the options that kratos has too. The ID, Endpoints and so on of
// an App are fields of the registered instance.
type options struct {
	registry.ServiceInstance
	registrar  registry.Registrar
	worker     func(context.Context) error
	http, grpc string // addresses

	beforeStart, afterStart, beforeStop, afterStop func(context.Context) error

	timeout        time.Duration // for the whole shutdown
	linger         time.Duration // between the deregistration and the closing of the ports
	registrarLimit time.Duration // for a call to the registrar
}

const (
	// A slow client must not delay the shutdown.
	readTimeout = 10 * time.Second
	// Longer than most load balancers keep an idle connection: if the server
	// closes it first, a request on its way is lost.
	idleTimeout = 2 * time.Minute
	// A gRPC connection that sends nothing can delay the shutdown this long.
	// The default is two minutes, and Stop does not cut it off.
	silence = 5 * time.Second
)

var modes = map[string]func(options) error{"alone": withAlone, "hooks": withHooks}

// service stands for yours. There is a registry.Registrar for etcd, Consul and
// others among kratos' contributions.
var service = options{
	registrar:   new(printer),
	worker:      work,
	beforeStart: say("starting"),
	afterStart:  say("started"),
	beforeStop:  say("stopping"),
	afterStop:   say("stopped"),
}

func main() {
	o := service
	// Each process has an ID of its own: a registration that a crash has left
	// behind belongs to another process.
	o.ID = rand.Text()
	o.Metadata = map[string]string{"weight": "10"}
	flags := flag.NewFlagSet("kratos", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, without the usage
	with := flags.String("with", "alone", "`alone` or hooks")
	flags.StringVar(&o.Name, "name", "hello", "`name` of the service")
	flags.StringVar(&o.Version, "version", "v1.0.0", "`version` of the service")
	flags.StringVar(&o.http, "http", "127.0.0.1:8000", "HTTP `address`; port 0 picks one")
	flags.StringVar(&o.grpc, "grpc", "127.0.0.1:9000", "gRPC `address`; port 0 picks one")
	flags.DurationVar(&o.timeout, "timeout", 25*time.Second, "time for the whole stop")
	flags.DurationVar(&o.linger, "linger", 0,
		"time between the deregistration and the closing of the ports, for clients to notice")
	flags.DurationVar(&o.registrarLimit, "registrar-timeout", 5*time.Second,
		"time for a call of the registrar")

	err := flags.Parse(os.Args[1:])
	run, ok := modes[*with]
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("usage: kratos [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return
	case err != nil:
		exit(2, err)
	case flags.NArg() > 0:
		exit(2, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case !ok:
		exit(2, fmt.Errorf("-with is alone or hooks, not %q", *with))
	case o.timeout <= max(0, o.linger) || o.registrarLimit <= 0:
		exit(2, errors.New(
			"-timeout is longer than -linger, and -registrar-timeout longer than nothing"))
	}

	if err := run(o); err != nil {
		exit(1, err)
	}
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "kratos:", err)
	os.Exit(status)
}
