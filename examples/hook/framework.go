package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// framework stands for one that runs the whole program: it takes the signals
// for itself, serves, and has hooks for the parts that the program wants to
// stop.
type framework struct {
	addr   string
	server *http.Server
	grace  time.Duration // for requests in flight
	onStop []func()
	ctx    context.Context // done: Run stops
	stop   context.CancelFunc
}

func newFramework(addr string, server *http.Server, grace time.Duration) *framework {
	f := &framework{addr: addr, server: server, grace: grace}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// OnStop has Run call hook when it stops. Like many, it does not wait for hook.
func (f *framework) OnStop(hook func()) { f.onStop = append(f.onStop, hook) }

// Stop has Run stop, or not begin.
func (f *framework) Stop() { f.stop() }

// Run serves until a signal comes or Stop is called, and stops then. Like many,
// it gives the signals back at the first one: without another handler, the
// second one would end the process, wherever it is.
func (f *framework) Run() error {
	ctx, giveBack := signal.NotifyContext(f.ctx, os.Interrupt, syscall.SIGTERM)
	defer giveBack()
	ln, err := net.Listen("tcp", f.addr)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(ln) }()
	fmt.Printf("listening on http://%v\n", ln.Addr())

	select {
	case err = <-served: // it cannot go on
	case <-ctx.Done():
		giveBack()
		grace, cancel := context.WithTimeout(context.Background(), f.grace)
		defer cancel()
		if err = f.server.Shutdown(grace); err != nil {
			err = errors.Join(fmt.Errorf("framework: %w", err), f.server.Close())
		}
	}
	for _, hook := range f.onStop {
		go hook()
	}
	return err
}
