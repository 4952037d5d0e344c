// Command kratos is a service with an HTTP and a gRPC port, which registers itself
// with a service discovery once both are up, and takes itself out again before
// either closes. It is there twice: withAlone, in alone.go, has what a kratos App has on
// quit alone; withHooks, in hooks.go, is a kratos App, in which quit stops what is
// not a server.
//
//	go run ./kratos                      # in examples/frameworks
//	curl 'localhost:8000/hello?d=3s'     # press Ctrl-C in the first terminal now: this is still answered
//	go run ./kratos -linger=3s           # deregistered that long before the ports close
//	go run ./kratos -with=hooks
//
// In both, the requests in flight are answered, and the worker has ended before what it uses is
// closed. A failed deregistration keeps nothing from being stopped and is in the
// error; a stream that never ends is cut off; and a second Ctrl-C ends it all.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/go-kratos/kratos/v2/registry"
)

// options are those that kratos has too. The ID, Endpoints and so on of an App
// are the fields of the instance that is registered.
type options struct {
	registry.ServiceInstance
	registrar      registry.Registrar
	worker         func(context.Context) error
	http, grpc     string        // addresses
	timeout        time.Duration // for the whole stop
	linger         time.Duration // between the deregistration and the first port's closing
	registrarLimit time.Duration // for a call of the registrar
}

// silence is how long a gRPC connection that says nothing can hold up the stop. By
// default that is two minutes, and Stop does not cut it off.
const silence = 5 * time.Second

var modes = map[string]func(options) error{"alone": withAlone, "hooks": withHooks}

// discovery is where the service registers: etcd, Consul and others have a
// registry.Registrar among kratos' contributions.
var discovery registry.Registrar = printer{}

func main() {
	o := options{registrar: discovery, worker: work}
	flags := flag.NewFlagSet("kratos", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, not the whole usage
	with := flags.String("with", "alone", "`alone` or hooks")
	flags.StringVar(&o.Name, "name", "hello", "`name` of the service")
	flags.StringVar(&o.ID, "id", "hello-1", "`id` of this instance of it")
	flags.StringVar(&o.Version, "version", "v1.0.0", "`version` of the service")
	flags.StringVar(&o.http, "http", "127.0.0.1:8000", "HTTP `address`; port 0 picks one")
	flags.StringVar(&o.grpc, "grpc", "127.0.0.1:9000", "gRPC `address`; port 0 picks one")
	flags.DurationVar(&o.timeout, "timeout", 25*time.Second, "time for the whole stop")
	flags.DurationVar(&o.linger, "linger", 0, "time between the deregistration and the closing of the ports, for clients to notice")
	flags.DurationVar(&o.registrarLimit, "registrar-timeout", 5*time.Second, "time for a call of the registrar")

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
		exit(2, errors.New("-timeout must be longer than -linger, and -registrar-timeout longer than nothing"))
	}

	if err := run(o); err != nil {
		exit(1, err)
	}
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "kratos:", err)
	os.Exit(status)
}

// printer stands for a service discovery.
type printer struct{}

func (printer) Register(_ context.Context, in *registry.ServiceInstance) error {
	fmt.Printf("registered %v at %v\n", in, in.Endpoints)
	return nil
}

func (printer) Deregister(_ context.Context, in *registry.ServiceInstance) error {
	fmt.Printf("deregistered %v\n", in)
	return nil
}

// hello takes its time where it gets a d: its first word comes at once, the rest
// after that.
func (o options) hello(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.FormValue("d"))
	if err != nil && r.FormValue("d") != "" {
		http.Error(w, "d is a duration", http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, "Hello")
	http.NewResponseController(w).Flush()
	select {
	case <-time.After(d):
		fmt.Fprintf(w, " from %s %s\n", o.ServiceInstance.String(), o.Version)
	case <-r.Context().Done(): // the client has gone, or there is no time left
		panic(http.ErrAbortHandler)
	}
}

// work stands for what is no server.
func work(ctx context.Context) error {
	<-ctx.Done()
	fmt.Println("worker ended")
	return nil
}

// database stands for what the worker and the servers use.
type database struct{}

func (database) Close() error {
	fmt.Println("database closed")
	return nil
}
