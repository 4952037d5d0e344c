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

// framework stands for one that runs the whole program: it takes the signals for
// itself, serves, and has hooks for what the program wants to stop.
type framework struct {
	Addr   string
	Server *http.Server
	Grace  time.Duration // for requests in flight
	onStop []func()
}

// OnStop has Run call f when it stops. Like many, it does not wait for f.
func (f *framework) OnStop(hook func()) { f.onStop = append(f.onStop, hook) }

// Run serves until a signal comes, and stops then. It gives the signals back at the
// first one: the second ends the process, wherever that is.
func (f *framework) Run() error {
	ctx, giveBack := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer giveBack()
	ln, err := net.Listen("tcp", f.Addr)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- f.Server.Serve(ln) }()
	fmt.Printf("listening on http://%v\n", ln.Addr())

	select {
	case err = <-served: // it cannot go on
	case <-ctx.Done():
		giveBack()
		grace, cancel := context.WithTimeout(context.Background(), f.Grace)
		defer cancel()
		if err = f.Server.Shutdown(grace); err != nil {
			err = errors.Join(fmt.Errorf("framework: %w", err), f.Server.Close())
		}
	}
	for _, hook := range f.onStop {
		go hook()
	}
	return err
}
