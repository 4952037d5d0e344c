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

// framework stands for a framework that runs the whole program: it takes the
// signals, serves, and has hooks that stop the parts of the program.
type framework struct {
	addr   string
	server *http.Server
	grace  time.Duration // for requests in flight
	onStop []func()
	ctx    context.Context // done when Run is to stop
	stop   context.CancelFunc
}

func newFramework(addr string, server *http.Server, grace time.Duration) *framework {
	f := &framework{addr: addr, server: server, grace: grace}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// OnStop makes Run call hook when it stops. Like many frameworks, it does not
// wait for hook.
func (f *framework) OnStop(hook func()) { f.onStop = append(f.onStop, hook) }

// Stop makes Run stop, or return at once if it has not begun.
func (f *framework) Stop() { f.stop() }

// Run serves until a signal arrives or Stop is called, and then stops. Like
// many frameworks, it stops taking signals after the first one. Without another
// handler, the second one would kill the process, wherever it is.
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
