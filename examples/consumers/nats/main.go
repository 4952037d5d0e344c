// Command nats processes orders that are in a JetStream stream of NATS.
//
//	nats-server -js -sd /tmp/nats     # in another terminal
//	go run ./nats -send=100 -work=1s  # in examples/consumers; press Ctrl-C
//	go run ./nats                     # does the rest
//
// After Ctrl-C or SIGTERM the program takes no more orders. It finishes those
// in hand and acknowledges them, and the server confirms that. Then the
// connection is closed. So every order is done once.
//
// If time runs out for an order, the program names it and gives it back at
// once. The exit status is then 1. An order that is cut off (by a second Ctrl-C
// or SIGKILL) comes back after -ack-wait. It is done twice if it was finished
// but not yet acknowledged. No order may take longer than -ack-wait: the server
// would give it to another program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	url := flag.String("url", "nats://127.0.0.1:4222", "`URL` of the server")
	dialTimeout := flag.Duration("dial-timeout", 5*time.Second, "time to wait for the server")
	send := flag.Int("send", 0, "send that `number` of orders first")
	workers := flag.Int("workers", 4, "`number` of orders that are worked on at a time")
	work := flag.Duration("work", 100*time.Millisecond, "time that an order takes")
	ackWait := flag.Duration("ack-wait", time.Minute, "time until an order is given to another")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	parseFlags("nats")
	if *workers < 1 || *dialTimeout <= 0 || *ackWait <= 0 {
		exit(2, errors.New("want a worker and some time at least"))
	}
	q.NotifySignal() // a signal during startup stops it too

	// Closed last, when nothing is left to acknowledge.
	conn, err := nats.Connect(*url, nats.Timeout(*dialTimeout), nats.MaxReconnects(-1))
	if err != nil {
		exit(1, fmt.Errorf("no NATS at %s: %w", *url, err))
	}
	q.RegisterStopFunc(conn.Close, quit.AfterDrain(), quit.Name("NATS"))

	ctx, cancel := context.WithTimeout(q.Context(), *dialTimeout)
	defer cancel()
	orders, err := subscribe(ctx, conn, *ackWait, *send)
	switch {
	case err == nil:
		// Stopped first: no more orders are taken.
		q.RegisterStopFunc(func() {
			if conn.IsConnected() {
				orders.Drain() // orders on their way are still handed out
			} else {
				orders.Stop() // Drain would wait for the server
			}
		}, quit.Name("orders"))
		for range *workers {
			w := &worker{orders: orders, work: *work, limit: *ackWait}
			q.Go(func(context.Context) error { return w.run(q.WorkContext()) }, quit.Name("worker"))
		}
		fmt.Println("waiting for orders")
	case !q.HasFired():
		exit(1, fmt.Errorf("no orders from NATS at %s: %w", *url, err))
	}

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

// subscribe returns the orders as they come. The stream and its consumer belong
// to the server, and outlive the program.
func subscribe(ctx context.Context, conn *nats.Conn, ackWait time.Duration, send int) (
	jetstream.MessagesContext, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:      "ORDERS",
		Subjects:  []string{"orders"},
		Retention: jetstream.WorkQueuePolicy, // acknowledged orders are deleted
	})
	if err != nil {
		return nil, err
	}
	for n := range send {
		if _, err := js.Publish(ctx, "orders", fmt.Append(nil, "order ", n+1)); err != nil {
			return nil, err
		}
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, "ORDERS", jetstream.ConsumerConfig{
		Durable:   "workers",
		AckPolicy: jetstream.AckExplicitPolicy,
		AckWait:   ackWait,
	})
	if err != nil {
		return nil, err
	}
	// No order is fetched before a worker is free. Such an order would wait
	// here, and no other program could get it.
	return consumer.Messages(jetstream.PullMaxMessages(1),
		jetstream.WithMessagesErrOnMissingHeartbeat(false)) // it asks again then
}

type worker struct {
	orders      jetstream.MessagesContext
	work, limit time.Duration
}

// run works until there are no more orders. Its ctx is the WorkContext, which
// outlives the signal until time runs out.
func (w *worker) run(ctx context.Context) error {
	for {
		msg, err := w.orders.Next(jetstream.NextMaxWait(time.Second))
		switch {
		case err == nil:
			err = w.handle(ctx, msg)
		case errors.Is(err, nats.ErrTimeout): // there was none
			continue
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (w *worker) handle(ctx context.Context, msg jetstream.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, w.limit) // nobody else gets it until then
	defer cancel()
	order := string(msg.Data())
	fmt.Println("took", order)
	if err := w.do(ctx); err != nil {
		msg.Nak() // it need not wait for the end of -ack-wait
		return fmt.Errorf("%s was not finished: %w", order, err)
	}
	fmt.Println("finished", order)
	if err := acknowledge(ctx, msg); err != nil {
		return fmt.Errorf("%s was finished, but not acknowledged; it may be done again: %w",
			order, err)
	}
	fmt.Println("acknowledged", order)
	return nil
}

// do stands for anything that takes time.
func (w *worker) do(ctx context.Context) error {
	select {
	case <-time.After(w.work):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// acknowledge retries until the server has confirmed, since a server that is
// down may soon be back.
func acknowledge(ctx context.Context, msg jetstream.Msg) error {
	for {
		limited, cancel := context.WithTimeout(ctx, time.Second)
		err := msg.DoubleAck(limited)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
