package quittest_test

import (
	"context"
	"testing"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quittest"
)

func startConsumer() {
	quit.GetQuitEvent().Go(func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
}

func TestConsumer(t *testing.T) {
	q := quittest.New(t)
	startConsumer() // uses quit.GetQuitEvent()
	q.Fire()
	q.WaitGoroutines()
}
