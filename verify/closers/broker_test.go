package closers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gracefulgo/graceful/quit"
)

// natsServer returns the address of a NATS server.
func natsServer(t *testing.T) string {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true,
		StoreDir: t.TempDir(),
	})
	must(t, err)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(generous) {
		t.Fatal("the NATS server is not ready")
	}
	return s.ClientURL()
}

func closeNATS(q *quit.QuitEvent, nc *nats.Conn, closed <-chan struct{}) {
	// nats.ClosedHandler closes closed
	q.RegisterQuitCloser(quit.Graceful(func() { nc.Drain(); <-closed }, nc.Close))
}

func natsConn(t *testing.T, url string) (*nats.Conn, <-chan struct{}) {
	closed := make(chan struct{})
	nc, err := nats.Connect(url, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	must(t, err)
	return nc, closed
}

func TestNATS(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		url := natsServer(t)
		other, _ := natsConn(t, url)
		defer other.Close()
		answers, err := other.SubscribeSync("out")
		must(t, err)
		must(t, other.Flush())
		nc, closed := natsConn(t, url)
		began := make(chan struct{}, 10)
		_, err = nc.Subscribe("in", func(*nats.Msg) {
			began <- struct{}{}
			<-q.Done()
			nc.Publish("out", nil)
		})
		must(t, err)
		must(t, nc.Flush())
		closeNATS(q, nc, closed)
		for range 10 {
			must(t, other.Publish("in", nil))
		}
		must(t, other.Flush())
		receive(t, began, "message")
		must(t, nc.Flush()) // all of them have been delivered
		stops(t, q)
		for i := range 10 {
			if _, err := answers.NextMsg(generous); err != nil {
				t.Fatalf("%d messages were answered, want 10", i)
			}
		}
	})
	t.Run("Drain alone", func(t *testing.T) {
		t.Parallel()
		nc, closed := natsConn(t, natsServer(t))
		end, began := make(chan struct{}), make(chan struct{})
		_, err := nc.Subscribe("in", func(*nats.Msg) {
			close(began)
			<-end
		})
		must(t, err)
		must(t, nc.Publish("in", nil))
		receive(t, began, "message")
		must(t, nc.Drain()) // though a message is in work
		if nc.IsClosed() {
			t.Error("closed when Drain returned")
		}
		close(end)
		receive(t, closed, "end of the connection")
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		nc, closed := natsConn(t, natsServer(t))
		end, began := make(chan struct{}), make(chan struct{})
		_, err := nc.Subscribe("in", func(*nats.Msg) {
			close(began)
			<-end
		})
		must(t, err)
		closeNATS(q, nc, closed)
		must(t, nc.Publish("in", nil))
		receive(t, began, "message")
		fails(t, q, context.DeadlineExceeded) // though the callback runs
		close(end)
	})
}

func closeJetStream(q *quit.QuitEvent, c jetstream.ConsumeContext) {
	q.Go(func(ctx context.Context) error { <-ctx.Done(); c.Drain(); <-c.Closed(); return nil })
}

func TestJetStream(t *testing.T) {
	t.Parallel()
	// run consumes ten messages, the first of which has begun when it returns.
	run := func(t *testing.T, q *quit.QuitEvent, do func(jetstream.Msg)) jetstream.Consumer {
		nc, closed := natsConn(t, natsServer(t))
		t.Cleanup(func() {
			nc.Close()
			<-closed
		})
		ctx := context.Background()
		js, err := jetstream.New(nc)
		must(t, err)
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "s", Subjects: []string{"in"}})
		must(t, err)
		consumer, err := js.CreateConsumer(ctx, "s",
			jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy})
		must(t, err)
		for range 10 {
			_, err := js.Publish(ctx, "in", nil)
			must(t, err)
		}
		began := make(chan struct{}, 10)
		c, err := consumer.Consume(func(m jetstream.Msg) {
			began <- struct{}{}
			do(m)
		})
		must(t, err)
		closeJetStream(q, c)
		receive(t, began, "message")
		return consumer
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		var done int
		consumer := run(t, q, func(m jetstream.Msg) {
			<-q.Done()
			if m.DoubleAck(q.WorkContext()) == nil {
				done++
			}
		})
		// A message that the server sends after the end of the subscription is
		// sent again later. So all of them are on their way before the stop.
		for sent := 0; sent < 10; {
			info, err := consumer.Info(context.Background())
			must(t, err)
			sent = info.NumAckPending
		}
		stops(t, q)
		info, err := consumer.Info(context.Background())
		must(t, err)
		if done == 0 || info.NumAckPending != 0 || info.NumPending+uint64(done) != 10 {
			t.Errorf("%d of 10 acknowledged, %d pending, %d without an acknowledgement",
				done, info.NumPending, info.NumAckPending)
		}
	})
	t.Run("callback with WorkContext", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		consumer := run(t, q, func(jetstream.Msg) { <-q.WorkContext().Done() })
		fails(t, q, context.DeadlineExceeded)
		info, err := consumer.Info(context.Background())
		must(t, err)
		if info.NumAckPending == 0 {
			t.Error("no message is left without an acknowledgement")
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		defer close(end)
		run(t, q, func(jetstream.Msg) { <-end })
		hangs(t, q, ".closeJetStream.")
	})
}

// kafkaCluster is a Kafka of one broker and one partition.
func kafkaCluster(t *testing.T) *kfake.Cluster {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "topic"))
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

// silent makes the broker ignore requests of a kind.
func silent(c *kfake.Cluster, key kmsg.Key) {
	c.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, nil, true
	})
}

// watch returns a channel that gets a value for each request of a kind.
func watch(c *kfake.Cluster, key kmsg.Key) <-chan struct{} {
	ch := make(chan struct{}, 1000)
	c.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		ch <- struct{}{}
		return nil, nil, false
	})
	return ch
}

func closeFranzProducer(q *quit.QuitEvent, client *kgo.Client) {
	q.RegisterStopFunc(client.Close, quit.AfterDrain())
	q.RegisterQuitCloser(quit.ShutdownFunc(client.Flush), quit.AfterDrain())
}

func TestFranzProducer(t *testing.T) {
	t.Parallel()
	// produce makes a client produce 100 records. The channel gets their
	// errors.
	produce := func(t *testing.T, c *kfake.Cluster) (*kgo.Client, <-chan error) {
		client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...),
			kgo.DefaultProduceTopic("topic"), kgo.ProducerLinger(time.Minute))
		must(t, err)
		errs := make(chan error, 100)
		for range 100 {
			client.Produce(context.Background(), kgo.StringRecord("value"),
				func(_ *kgo.Record, err error) { errs <- err })
		}
		return client, errs
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		client, errs := produce(t, kafkaCluster(t))
		closeFranzProducer(q, client)
		stops(t, q)
		for range 100 {
			if err := receive(t, errs, "result of a record"); err != nil {
				t.Fatalf("a record was lost: %v", err)
			}
		}
	})
	t.Run("Close alone", func(t *testing.T) {
		t.Parallel()
		client, errs := produce(t, kafkaCluster(t))
		client.Close()
		for range 100 {
			if err := receive(t, errs, "result of a record"); !errors.Is(err, kgo.ErrClientClosed) {
				t.Fatalf("the result of a record is %v, want %v", err, kgo.ErrClientClosed)
			}
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		c := kafkaCluster(t)
		silent(c, kmsg.Produce)
		client, errs := produce(t, c)
		closeFranzProducer(q, client)
		fails(t, q, context.DeadlineExceeded)
		for range 100 {
			if err := receive(t, errs, "result of a record"); err == nil {
				t.Fatal("a record was not lost")
			}
		}
	})
}

func closeFranzConsumer(q *quit.QuitEvent, client *kgo.Client) {
	q.RegisterStopFunc(client.CloseAllowingRebalance, quit.AfterDrain())
}

func TestFranzConsumer(t *testing.T) {
	t.Parallel()
	// run consumes records, one of which is in work when it returns.
	run := func(t *testing.T, q *quit.QuitEvent, c *kfake.Cluster) {
		producer, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...),
			kgo.DefaultProduceTopic("topic"))
		must(t, err)
		must(t, producer.ProduceSync(context.Background(), kgo.StringRecord("value")).FirstErr())
		producer.Close()
		client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...),
			kgo.ConsumerGroup("group"), kgo.ConsumeTopics("topic"),
			kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		must(t, err)
		closeFranzConsumer(q, client)
		began := make(chan struct{}, 10)
		q.Go(func(ctx context.Context) error {
			for {
				fetches := client.PollFetches(ctx)
				if ctx.Err() != nil {
					return nil
				}
				for _, r := range fetches.Records() {
					began <- struct{}{}
					<-q.Done()
					if err := client.CommitRecords(q.WorkContext(), r); err != nil {
						return err
					}
				}
				client.AllowRebalance()
			}
		})
		receive(t, began, "record")
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		c := kafkaCluster(t)
		commits, leaves := watch(c, kmsg.OffsetCommit), watch(c, kmsg.LeaveGroup)
		run(t, q, c)
		stops(t, q)
		if len(commits) != 1 || len(leaves) != 1 {
			t.Errorf("%d commits, and left the group %d times, want 1 and 1",
				len(commits), len(leaves))
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		c := kafkaCluster(t)
		silent(c, kmsg.LeaveGroup)
		run(t, q, c)
		hangs(t, q, "github.com/twmb/franz-go/pkg/kgo.(*Client).CloseAllowingRebalance")
	})
}

func closeKafkaWriter(q *quit.QuitEvent, w *kafka.Writer) {
	q.RegisterCloser(w, quit.AfterDrain())
}

func TestKafkaWriter(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, c *kfake.Cluster) (*kafka.Writer, <-chan error) {
		errs := make(chan error, 10)
		w := &kafka.Writer{
			Addr: kafka.TCP(c.ListenAddrs()...), Topic: "topic", Async: true,
			BatchTimeout: time.Hour, RequiredAcks: kafka.RequireAll,
			Completion: func(_ []kafka.Message, err error) { errs <- err },
		}
		must(t, w.WriteMessages(context.Background(), kafka.Message{Value: []byte("value")}))
		return w, errs
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		w, errs := write(t, kafkaCluster(t))
		closeKafkaWriter(q, w)
		stops(t, q)
		if err := receive(t, errs, "result of a message"); err != nil {
			t.Errorf("the message was lost: %v", err)
		}
		if err := w.WriteMessages(
			context.Background(), kafka.Message{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("WriteMessages() after the stop = %v, want %v", err, io.ErrClosedPipe)
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		c := kafkaCluster(t)
		silent(c, kmsg.Produce)
		w, _ := write(t, c)
		closeKafkaWriter(q, w)
		hangs(t, q, "github.com/segmentio/kafka-go.(*Writer).Close")
	})
}

func closeKafkaReader(q *quit.QuitEvent, r *kafka.Reader) {
	q.RegisterCloser(r, quit.AfterDrain())
}

func TestKafkaReader(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, q *quit.QuitEvent, c *kfake.Cluster) {
		w := &kafka.Writer{Addr: kafka.TCP(c.ListenAddrs()...), Topic: "topic"}
		must(t, w.WriteMessages(context.Background(), kafka.Message{Value: []byte("value")}))
		must(t, w.Close())
		r := kafka.NewReader(kafka.ReaderConfig{
			Brokers: c.ListenAddrs(), GroupID: "group", Topic: "topic",
			StartOffset:    kafka.FirstOffset,
			CommitInterval: time.Hour, MaxWait: 100 * time.Millisecond,
		})
		closeKafkaReader(q, r)
		began := make(chan struct{}, 10)
		q.Go(func(ctx context.Context) error {
			for {
				m, err := r.FetchMessage(ctx)
				if err != nil {
					return err
				}
				began <- struct{}{}
				<-q.Done()
				if err := r.CommitMessages(q.WorkContext(), m); err != nil {
					return err
				}
			}
		})
		receive(t, began, "message")
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		c := kafkaCluster(t)
		commits, leaves := watch(c, kmsg.OffsetCommit), watch(c, kmsg.LeaveGroup)
		run(t, q, c)
		stops(t, q)
		if len(commits) != 1 || len(leaves) != 1 {
			t.Errorf("%d commits, and left the group %d times, want 1 and 1",
				len(commits), len(leaves))
		}
	})
	t.Run("group that cannot be left", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		c := kafkaCluster(t)
		silent(c, kmsg.LeaveGroup)
		run(t, q, c)
		stops(t, q) // after its own 5 s, without an error
		if d := took(q); d < 5*time.Second {
			t.Errorf("Close took %v, want 5s", d)
		}
	})
}

// rabbit is a broker of AMQP 0-9-1 with the features that these tests need: it
// delivers to each consumer.
type rabbit struct {
	beats  atomic.Bool   // if silent: it sends a heartbeat when the connection is to be closed
	silent bool          // it does not answer connection.close and basic.cancel
	acks   chan struct{} // gets a value for each acknowledged message
	mu     sync.Mutex    // guards w
	w      *bufio.Writer
}

// method is a method of AMQP: its class, and its number in the class.
type method struct{ class, number uint16 }

func (r *rabbit) frame(kind byte, channel uint16, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.w.WriteByte(kind)
	binary.Write(r.w, binary.BigEndian, channel)
	binary.Write(r.w, binary.BigEndian, uint32(len(payload)))
	r.w.Write(payload)
	r.w.WriteByte(0xCE)
	r.w.Flush()
}

func (r *rabbit) send(channel uint16, m method, args ...any) {
	b := new(bytes.Buffer)
	binary.Write(b, binary.BigEndian, m)
	for _, a := range args {
		if s, ok := a.(string); ok { // a short string
			b.WriteByte(byte(len(s)))
			b.WriteString(s)
			continue
		}
		binary.Write(b, binary.BigEndian, a)
	}
	r.frame(1, channel, b.Bytes())
}

// deliver sends a message to the consumer "tag".
func (r *rabbit) deliver(channel uint16) {
	r.send(channel, method{60, 60}, "tag", uint64(1), byte(0), "", "queue")
	r.frame(2, channel, append([]byte{0, 60, 0, 0}, make([]byte, 10)...)) // the header: no body
}

func (r *rabbit) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	r.w = bufio.NewWriter(c)
	if _, err := io.CopyN(io.Discard, in, 8); err != nil { // "AMQP" and the version
		return
	}
	r.send(0, method{10, 10}, byte(0), byte(9), uint32(0), uint32(5), []byte("PLAIN"), uint32(5),
		[]byte("en_US"))
	for {
		var head [7]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		channel := binary.BigEndian.Uint16(head[1:])
		payload := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
		if _, err := io.ReadFull(in, payload); err != nil {
			return
		}
		if head[0] != 1 {
			continue
		}
		switch (method{binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])}) {
		case method{10, 11}: // start-ok: tune
			r.send(0, method{10, 30}, uint16(100), uint32(1<<17), uint16(0))
		case method{10, 40}: // connection.open
			r.send(0, method{10, 41}, "")
		case method{20, 10}: // channel.open
			r.send(channel, method{20, 11}, uint32(0))
		case method{60, 20}: // consume
			r.send(channel, method{60, 21}, "tag")
			r.deliver(channel)
		case method{60, 30}: // cancel
			if !r.silent {
				r.send(channel, method{60, 31}, "tag")
			}
		case method{60, 80}: // ack
			r.acks <- struct{}{}
		case method{10, 50}: // connection.close
			if !r.silent {
				r.send(0, method{10, 51})
			} else if r.beats.Load() {
				r.frame(8, 0, nil)
			}
		}
	}
}

// dialRabbit connects to a broker.
func dialRabbit(t *testing.T, silent bool, configs ...amqp.Config) (*amqp.Connection, *rabbit) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	r := &rabbit{silent: silent, acks: make(chan struct{}, 10)}
	go func() {
		if c, err := ln.Accept(); err == nil {
			r.serve(c)
		}
	}()
	config := amqp.Config{Heartbeat: 10 * time.Second, Locale: "en_US"} // as in Dial
	if len(configs) > 0 {
		config = configs[0]
	}
	conn, err := amqp.DialConfig("amqp://guest:guest@"+ln.Addr().String()+"/", config)
	must(t, err)
	return conn, r
}

func closeAMQPConnection(q *quit.QuitEvent, conn *amqp.Connection) {
	q.RegisterQuitCloser(quit.ShutdownFunc(func(ctx context.Context) error {
		end, _ := ctx.Deadline()
		return conn.CloseDeadline(end)
	}), quit.AfterDrain(), quit.Ignore(amqp.ErrClosed))
}

func TestAMQPConnection(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		conn, _ := dialRabbit(t, false)
		closeAMQPConnection(q, conn)
		stops(t, q)
	})
	t.Run("closed before", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		conn, _ := dialRabbit(t, false)
		closeAMQPConnection(q, conn)
		must(t, conn.Close())
		stops(t, q)
	})
	t.Run("Close alone", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		conn, _ := dialRabbit(t, true)
		q.RegisterCloser(conn)
		hangs(t, q, "github.com/rabbitmq/amqp091-go.(*Connection).Close")
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		// Without heartbeats, for after a received frame they may reset the
		// deadline at any time. Zero would mean the default of amqp091.
		conn, _ := dialRabbit(t, true, amqp.Config{Heartbeat: time.Millisecond})
		if conn.Config.Heartbeat != 0 {
			t.Fatalf("the connection has heartbeats every %v", conn.Config.Heartbeat)
		}
		closeAMQPConnection(q, conn)
		err := q.Shutdown(context.Background())
		if err == nil || !strings.Contains(err.Error(), "i/o timeout") ||
			q.Report().Steps[0].Abandoned {
			t.Errorf("Shutdown() = %v, want a timeout\n%s", err, q.Report())
		}
	})
	t.Run("hang: heartbeats", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		conn, r := dialRabbit(t, true)
		r.beats.Store(true)
		closeAMQPConnection(q, conn)
		hangs(t, q, "github.com/rabbitmq/amqp091-go.(*Connection).CloseDeadline")
	})
}

func closeAMQPConsumer(q *quit.QuitEvent, ch *amqp.Channel, tag string) {
	q.RegisterQuitCloser(quit.ShutdownFunc(func(context.Context) error {
		return ch.Cancel(tag, false)
	}))
}

func TestAMQPConsumer(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		conn, r := dialRabbit(t, false)
		closeAMQPConnection(q, conn)
		ch, err := conn.Channel()
		must(t, err)
		deliveries, err := ch.Consume("queue", "tag", false, false, false, false, nil)
		must(t, err)
		began := make(chan struct{})
		q.Go(func(context.Context) error {
			for d := range deliveries {
				close(began)
				<-q.Done()
				if err := d.Ack(false); err != nil {
					return err
				}
			}
			return nil
		})
		closeAMQPConsumer(q, ch, "tag")
		receive(t, began, "message")
		stops(t, q)
		receive(t, r.acks, "acknowledgement")
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		conn, _ := dialRabbit(t, true)
		ch, err := conn.Channel()
		must(t, err)
		_, err = ch.Consume("queue", "tag", false, false, false, false, nil)
		must(t, err)
		closeAMQPConsumer(q, ch, "tag")
		hangs(t, q, "github.com/rabbitmq/amqp091-go.(*Channel).Cancel")
	})
}
