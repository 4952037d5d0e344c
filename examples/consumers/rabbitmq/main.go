// Command rabbitmq processes orders that are in a queue of RabbitMQ.
//
//	rabbitmq-server                       # in another terminal
//	go run ./rabbitmq -send=100 -work=1s  # in examples/consumers, then Ctrl-C
//	go run ./rabbitmq                     # does the rest
//
// After Ctrl-C or SIGTERM the program takes no more orders. It finishes those
// in hand and acknowledges them, and the server confirms that. Then the
// connections are closed. So every order is done once.
//
// If time runs out for an order, the program names it, and the end of the
// connection gives it back. The exit status is then 1. An order that is cut off
// (by a second Ctrl-C or SIGKILL) is given back too. It is done twice if it was
// finished but not yet acknowledged. The same is true if its connection breaks,
// since no other connection can acknowledge it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	addr := flag.String("url", "amqp://guest:guest@127.0.0.1:5672/", "`URL` of the server")
	queue := flag.String("queue", "orders", "`name` of the queue")
	dialTimeout := flag.Duration("dial-timeout", 5*time.Second, "time to wait for the server")
	send := flag.Int("send", 0, "send that `number` of orders first")
	workers := flag.Int("workers", 4, "`number` of orders that are worked on at a time")
	work := flag.Duration("work", 100*time.Millisecond, "time that an order takes")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	parseFlags("rabbitmq")
	server, err := url.Parse(*addr)
	if err != nil || *workers < 1 || *dialTimeout <= 0 {
		exit(2, errors.New("want a URL, a worker and some time at least"))
	}
	q.NotifySignal() // a signal during startup stops it too

	dial := func() (*amqp.Connection, error) {
		return amqp.DialConfig(*addr, amqp.Config{Dial: amqp.DefaultDial(*dialTimeout)})
	}
	if err := prepare(dial, *queue, *send); err != nil {
		exit(1, fmt.Errorf("no RabbitMQ at %s: %w", server.Redacted(), err))
	}

	// Each worker has a connection of its own, which it closes when it has
	// finished. So no closer is registered.
	for range *workers {
		w := &worker{q: q, dial: dial, queue: *queue, work: *work}
		q.Go(w.run, quit.Name("worker"))
	}
	fmt.Println("waiting for orders")

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

// prepare creates the queue, which outlives the program.
func prepare(dial func() (*amqp.Connection, error), queue string, send int) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		return err
	}
	for n := range send {
		order := amqp.Publishing{
			DeliveryMode: amqp.Persistent,
			Body:         fmt.Append(nil, "order ", n+1),
		}
		if err := ch.Publish("", queue, false, false, order); err != nil {
			return err
		}
	}
	return ch.Close() // returns when the server has all of them
}

type worker struct {
	q     *quit.QuitEvent
	dial  func() (*amqp.Connection, error)
	queue string
	work  time.Duration
}

// run works until ctx is done. The signal cancels ctx. When its connection
// breaks, run makes a new one.
func (w *worker) run(ctx context.Context) error {
	for {
		err := w.consume(ctx)
		if ctx.Err() != nil {
			return nil
		}
		slog.Warn("connecting again in a second", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *worker) consume(ctx context.Context) error {
	conn, err := w.dial()
	if err != nil {
		return err
	}
	defer conn.Close() // unacknowledged orders go back into the queue
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	// The server sends no order before the last one is acknowledged. Such an
	// order would wait here, and no other program could get it.
	if err := ch.Qos(1, 0, false); err != nil {
		return err
	}
	if err := ch.Tx(); err != nil { // an Ack alone is not confirmed
		return err
	}
	orders, err := ch.Consume(w.queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		select {
		case order, ok := <-orders:
			if !ok {
				return errors.New("the connection broke")
			}
			if err := w.handle(w.q.WorkContext(), ch, order); err != nil {
				if ctx.Err() != nil {
					w.q.Fail(err) // WaitSignal returns it
				}
				return err
			}
		case <-ctx.Done():
		}
	}
	return nil
}

// handle has a ctx that outlives the signal, until time runs out.
func (w *worker) handle(ctx context.Context, ch *amqp.Channel, d amqp.Delivery) error {
	order := string(d.Body)
	fmt.Println("took", order)
	if err := w.do(ctx); err != nil {
		return fmt.Errorf("%s was not finished: %w", order, err)
	}
	fmt.Println("finished", order)
	if err := errors.Join(d.Ack(false), ch.TxCommit()); err != nil {
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
