// Command kafka processes orders that are records of a Kafka topic, as a member
// of a consumer group.
//
//	go run ./kafka/kfake               # in another terminal; or a real Kafka
//	go run ./kafka -send=100 -work=1s  # in examples/consumers; press Ctrl-C
//	go run ./kafka                     # does the rest
//
// After Ctrl-C or SIGTERM the program takes no more orders. It finishes those
// in hand and commits their offsets. Then it leaves the group, so that the
// other members need not wait for its session to time out. So every order is
// done once.
//
// If time runs out for an order, the program names it, and the next member does
// it. The exit status is then 1. An order that is cut off (by a second Ctrl-C
// or SIGKILL) is done by the next member after -session-timeout. It is done
// twice if it was finished but not yet committed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	q := quit.GetQuitEvent()
	addr := flag.String("addr", "127.0.0.1:9092", "`address` of a broker")
	dialTimeout := flag.Duration("dial-timeout", 5*time.Second, "time to wait for the broker")
	send := flag.Int("send", 0, "send that `number` of orders first")
	workers := flag.Int("workers", 4, "`number` of orders that are taken at a time")
	work := flag.Duration("work", 100*time.Millisecond, "time that an order takes")
	session := flag.Duration("session-timeout", 45*time.Second,
		"time until the group misses a member")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	parseFlags("kafka")
	if *workers < 1 || *dialTimeout <= 0 {
		exit(2, errors.New("want a worker and some time at least"))
	}
	q.NotifySignal() // a signal during startup stops it too

	client, err := kgo.NewClient(
		kgo.SeedBrokers(*addr),
		kgo.DialTimeout(*dialTimeout),
		kgo.ConsumeTopics("orders"), kgo.AllowAutoTopicCreation(),
		kgo.ConsumerGroup("workers"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // orders are older than the group
		kgo.SessionTimeout(*session),
		kgo.DisableAutoCommit(),    // it would commit unfinished orders
		kgo.BlockRebalanceOnPoll(), // no other member gets an order in hand
	)
	if err != nil {
		exit(2, err)
	}
	ctx, cancel := context.WithTimeout(q.Context(), *dialTimeout)
	defer cancel()
	if err := begin(ctx, client, *send); err != nil && !q.HasFired() {
		exit(1, fmt.Errorf("no Kafka at %s: %w", *addr, err))
	}

	// Called last, when nothing is left to commit.
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		defer client.Close()
		if err := client.LeaveGroupContext(ctx); err != nil {
			return fmt.Errorf("the group may miss this member only after %v: %w", *session, err)
		}
		return nil
	}), quit.AfterDrain(), quit.Name("Kafka"), quit.Timeout(*dialTimeout))

	c := &consumer{q: q, client: client, workers: *workers, work: *work}
	q.Go(c.run, quit.Name("consumer"))
	fmt.Println("waiting for orders")

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
}

func begin(ctx context.Context, client *kgo.Client, send int) error {
	if err := client.Ping(ctx); err != nil {
		return err
	}
	var orders []*kgo.Record
	for n := range send {
		order := fmt.Append(nil, "order ", n+1)
		// The key determines the partition.
		orders = append(orders, &kgo.Record{Topic: "orders", Key: order, Value: order})
	}
	return client.ProduceSync(ctx, orders...).FirstErr()
}

type consumer struct {
	q       *quit.QuitEvent
	client  *kgo.Client
	workers int
	work    time.Duration
}

// run takes a few orders at a time until ctx is done. The signal cancels ctx.
// Partitions are worked on in parallel, and the orders of each partition one
// after another.
func (c *consumer) run(ctx context.Context) error {
	for {
		fetches := c.client.PollRecords(ctx, c.workers)
		if ctx.Err() != nil {
			c.client.AllowRebalance()
			return nil // any orders in it are neither begun nor committed
		}
		fetches.EachError(func(_ string, _ int32, err error) {
			slog.Warn("fetching orders", "err", err) // the client keeps trying
		})
		var (
			all  sync.WaitGroup
			mu   sync.Mutex // guards the variable below
			errs []error
		)
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			all.Go(func() {
				if err := c.each(p.Records); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			})
		})
		all.Wait()
		c.client.AllowRebalance()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
}

// each does the orders until one of them fails. After that it commits no later
// order, since that would commit the failed one too.
func (c *consumer) each(orders []*kgo.Record) error {
	for _, order := range orders {
		if c.q.HasFired() {
			return nil // neither begun nor committed: the next member does it
		}
		if err := c.handle(c.q.WorkContext(), order); err != nil {
			return err
		}
	}
	return nil
}

// handle has a ctx that outlives the signal, until time runs out.
func (c *consumer) handle(ctx context.Context, r *kgo.Record) error {
	order := string(r.Value)
	fmt.Println("took", order)
	if err := c.do(ctx); err != nil {
		return fmt.Errorf("%s was not finished: %w", order, err)
	}
	fmt.Println("finished", order)
	// CommitRecords retries if the broker is down. Committing several orders at
	// once would be faster, but then all of them may be done twice.
	if err := c.client.CommitRecords(ctx, r); err != nil {
		return fmt.Errorf("%s was finished, but not acknowledged; it may be done again: %w",
			order, err)
	}
	fmt.Println("acknowledged", order)
	return nil
}

// do stands for anything that takes time.
func (c *consumer) do(ctx context.Context) error {
	select {
	case <-time.After(c.work):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
