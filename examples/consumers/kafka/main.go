// Command kafka works off orders that are records of a Kafka topic, as a member
// of a consumer group.
//
//	go run ./kafka/kfake                 # in another terminal; or a real Kafka
//	go run ./kafka -send=100 -work=1s    # in examples/consumers; then press Ctrl-C
//	go run ./kafka                       # does the rest
//
// After Ctrl-C or SIGTERM no order is taken any more. Those taken are finished,
// and their offsets committed. Then the group is left, so that its other
// members need not wait until they miss this one. So every order is done, and
// none of them twice.
//
// An order that time runs out for is named, and the next member does it; the
// status is 1. One that is cut off (a second Ctrl-C, SIGKILL) is done by the
// next member after -session-timeout. It is done twice if it was finished and
// not yet committed.
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
	session := flag.Duration("session-timeout", 45*time.Second, "time until the group misses a member")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout, "time for the whole stop")
	parseFlags("kafka")
	if *workers < 1 || *dialTimeout <= 0 {
		exit(2, errors.New("want a worker and some time at least"))
	}
	q.NotifySignal() // a signal while it starts stops it too

	client, err := kgo.NewClient(
		kgo.SeedBrokers(*addr),
		kgo.DialTimeout(*dialTimeout),
		kgo.ConsumeTopics("orders"), kgo.AllowAutoTopicCreation(),
		kgo.ConsumerGroup("workers"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // orders are older than the group
		kgo.SessionTimeout(*session),
		kgo.DisableAutoCommit(),    // it would commit what is not finished
		kgo.BlockRebalanceOnPoll(), // nobody else gets what is worked on
	)
	if err != nil {
		exit(2, err)
	}
	ctx, cancel := context.WithTimeout(q.Context(), *dialTimeout)
	defer cancel()
	if err := begin(ctx, client, *send); err != nil && !q.HasFired() {
		exit(1, fmt.Errorf("no Kafka at %s: %w", *addr, err))
	}

	// Last, when nothing is left to commit.
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
		// The key picks the partition.
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

// run takes some orders at a time, until ctx is done: the signal cancels it.
// The partitions are worked on side by side, and the orders of each one by one.
func (c *consumer) run(ctx context.Context) error {
	for {
		fetches := c.client.PollRecords(ctx, c.workers)
		if ctx.Err() != nil {
			c.client.AllowRebalance()
			return nil // what it has got after all is not begun, and not committed
		}
		fetches.EachError(func(_ string, _ int32, err error) {
			slog.Warn("fetching orders", "err", err) // the client goes on trying
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

// each works on orders, until one of them fails. No later one is committed
// then, for that would be to commit that one too.
func (c *consumer) each(orders []*kgo.Record) error {
	for _, order := range orders {
		if c.q.HasFired() {
			return nil // not begun, and not committed: the next member does it
		}
		if err := c.handle(c.q.WorkContext(), order); err != nil {
			return err
		}
	}
	return nil
}

// handle has a ctx that lives on when the signal comes, until time runs out.
func (c *consumer) handle(ctx context.Context, r *kgo.Record) error {
	order := string(r.Value)
	fmt.Println("took", order)
	if err := c.do(ctx); err != nil {
		return fmt.Errorf("%s was not finished: %w", order, err)
	}
	fmt.Println("finished", order)
	// It tries again if the broker has gone. To commit some orders at once is
	// faster, and then so many may be done twice.
	if err := c.client.CommitRecords(ctx, r); err != nil {
		return fmt.Errorf("%s was finished, but not acknowledged; it may be done again: %w", order, err)
	}
	fmt.Println("acknowledged", order)
	return nil
}

// do stands for all that takes its time.
func (c *consumer) do(ctx context.Context) error {
	select {
	case <-time.After(c.work):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
