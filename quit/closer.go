package quit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/pprof"
)

// QuitCloser is a closer that can be shut down within a time limit. A
// [*net/http.Server] is one, and so is a [*QuitEvent]. Shutdown should end the
// closer's work before ctx is done, and return an error if it could not.
type QuitCloser interface {
	Shutdown(ctx context.Context) error
}

// ShutdownFunc is an adapter that makes a func a [QuitCloser].
type ShutdownFunc func(context.Context) error

// Shutdown calls f.
func (f ShutdownFunc) Shutdown(ctx context.Context) error { return f(ctx) }

// closer is a registered closer of any of the three kinds. Since all kinds have
// one type, there is one order for all closers.
type closer struct {
	value any // a QuitCloser, an io.Closer or a func(), depending on kind
	kind  kind
}

type kind uint8

const (
	kindQuitCloser kind = iota
	kindCloser
	kindFunc
)

// shutdown calls the closer. It waits for a nested event even after ctx is
// done: the event knows its deadline, and its failures must not be lost.
func (c closer) shutdown(ctx context.Context) error {
	switch c.kind {
	case kindCloser:
		return c.value.(io.Closer).Close()
	case kindFunc:
		c.value.(func())()
		return nil
	}
	if child := c.child(); child != nil {
		return child.shutdownAsStep(ctx)
	}
	return c.value.(QuitCloser).Shutdown(ctx)
}

// child returns the closer if it is an event, and nil otherwise.
func (c closer) child() *QuitEvent {
	if c.kind != kindQuitCloser {
		return nil
	}
	child, _ := c.value.(*QuitEvent)
	return child
}

// forcible returns the closer as an io.Closer, whose Close method cuts off work
// that Shutdown could not end.
func (c closer) forcible() (io.Closer, bool) {
	if c.kind != kindQuitCloser {
		return nil, false
	}
	f, ok := c.value.(io.Closer)
	return f, ok
}

// name returns the default name: the type of the closer, or the symbol of a
// func.
func (c closer) name() string {
	switch v := c.value.(type) {
	case func():
		return funcName(codeOf(v))
	case ShutdownFunc:
		return funcName(codeOf(v))
	case graceful:
		return funcName(codeOf(v.stop))
	}
	return typeName(c.value)
}

// Graceful returns a QuitCloser for a server that can be stopped gracefully or
// by force, such as a gRPC server with GracefulStop and Stop. Its Shutdown
// method calls stop. If stop has not returned when ctx is done, Shutdown calls
// force too, in a new goroutine. It then waits for both, and returns an error
// that wraps ctx.Err(). A panic in either func is returned as a [*PanicError].
//
// If force is nil, Shutdown waits for stop alone. If stop is nil, Graceful
// returns nil, which RegisterQuitCloser ignores with a warning.
func Graceful(stop, force func()) QuitCloser {
	if stop == nil {
		return nil
	}
	return graceful{stop, force}
}

type graceful struct{ stop, force func() }

func (g graceful) Shutdown(ctx context.Context) error {
	if g.force == nil {
		return caught(func() error { g.stop(); return nil })
	}
	forced := make(chan error, 1)
	// This goroutine ends when force returns.
	cancel := context.AfterFunc(ctx, func() {
		if s := stepOf(ctx); s != nil {
			defer walk(s)()
		}
		pprof.SetGoroutineLabels(ctx)
		err := errGoexit
		defer func() { forced <- err }()
		err = caught(func() error { g.force(); return nil })
	})
	defer cancel() // if stop calls Goexit
	err := caught(func() error { g.stop(); return nil })
	if cancel() {
		return err
	}
	return errors.Join(fmt.Errorf("forced to stop: %w", ctx.Err()), err, <-forced)
}
