// Command asynq processes orders that are tasks of asynq, in Redis.
//
//	redis-server --save ''             # in another terminal
//	go run ./asynq -send=100 -work=1s  # in examples/consumers; press Ctrl-C
//	go run ./asynq                     # does the rest
//
// After Ctrl-C or SIGTERM the program takes no more orders. It finishes those
// in hand and removes them from Redis. If Redis is down, it waits for Redis.
// Then the server of asynq leaves, and the connections are closed. So every
// order is done once.
//
// If time runs out for an order, the program names it, and asynq retries it at
// once. The exit status is then 1. An order that is cut off (by a second Ctrl-C
// or SIGKILL) comes back after one or two minutes. It is done twice if it was
// finished but not yet removed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	url := flag.String("url", "redis://127.0.0.1:6379", "`URL` of the server")
	dialTimeout := flag.Duration("dial-timeout", 5*time.Second, "time to wait for the server")
	send := flag.Int("send", 0, "send that `number` of orders first")
	workers := flag.Int("workers", 4, "`number` of orders that are worked on at a time")
	work := flag.Duration("work", 100*time.Millisecond, "time that an order takes")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	parseFlags("asynq")
	options, err := redis.ParseURL(*url)
	if err != nil || *workers < 1 || *dialTimeout <= 0 || q.Timeout <= 0 {
		exit(2, errors.New("want a URL, a worker and some time at least"))
	}
	options.ContextTimeoutEnabled = true
	q.NotifySignal() // a signal during startup stops it too

	// Closed last, when nothing uses it any more.
	client := redis.NewClient(options)
	q.RegisterCloser(client, quit.AfterDrain(), quit.Name("Redis"))
	if err := await(q.Context(), client, *dialTimeout); err != nil && !q.HasFired() {
		exit(1, fmt.Errorf("no Redis at %s: %w", *url, err))
	}
	if err := fill(asynq.NewClientFromRedisClient(client), *send); err != nil {
		exit(1, err)
	}

	srv := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency:       *workers,
		TaskCheckInterval: 100 * time.Millisecond, // a shutdown waits this long
		ShutdownTimeout:   q.Timeout,              // asynq must not cut orders off earlier
		LogLevel:          asynq.WarnLevel,
		// An order that was cut off is retried at once. The attempt does not
		// count.
		RetryDelayFunc: func(n int, err error, task *asynq.Task) time.Duration {
			if q.HasFired() || errors.Is(err, asynq.ErrLeaseExpired) {
				return 0
			}
			return asynq.DefaultRetryDelayFunc(n, err, task)
		},
		IsFailure: func(error) bool { return !q.HasFired() },
	})

	// Stopped second, when the orders in hand are finished. If Redis was down,
	// Shutdown sends the messages that Redis missed once more, and returns no
	// error. So Redis must be there.
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		err := await(ctx, client, *dialTimeout)
		srv.Shutdown()
		if err != nil {
			return fmt.Errorf("what was finished last may be done again: no Redis at %s: %w",
				*url, err)
		}
		return nil
	}), quit.AfterDrain(), quit.Name("asynq"))

	// Stopped first: no more orders are taken.
	q.RegisterStopFunc(srv.Stop, quit.Name("orders"))

	w := &worker{q: q, work: *work}
	if err := srv.Start(asynq.HandlerFunc(w.handle)); err != nil {
		exit(1, err)
	}
	fmt.Println("waiting for orders")

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

// await waits until Redis answers.
func await(ctx context.Context, client *redis.Client, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := client.Ping(ctx).Err()
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

func fill(client *asynq.Client, send int) error {
	for n := range send {
		if _, err := client.Enqueue(
			asynq.NewTask("order", fmt.Append(nil, "order ", n+1))); err != nil {
			return err
		}
	}
	return nil
}

type worker struct {
	q    *quit.QuitEvent
	work time.Duration
}

// handle is called by asynq. Its ctx is done if the task was cancelled or has
// taken too long. The code here also cancels it when the shutdown runs out of
// time. The BaseContext of asynq cannot be used for that: asynq does not wait
// for a handler whose ctx is done.
func (w *worker) handle(ctx context.Context, task *asynq.Task) error {
	w.q.AddGoroutine()
	defer w.q.DoneGoroutine()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(w.q.WorkContext(), func() {
		cancel(context.Cause(w.q.WorkContext()))
	})()

	order := string(task.Payload())
	fmt.Println("took", order)
	if err := w.do(ctx); err != nil {
		err = fmt.Errorf("%s was not finished: %w", order, err)
		if w.q.HasFired() {
			w.q.Fail(err) // asynq tries it again; WaitSignal returns err
		}
		return err
	}
	fmt.Println("finished", order)
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
