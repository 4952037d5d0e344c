//go:build unix

package main

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gracefulgo/graceful/examples/consumers/internal/suite"
	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

func TestMain(m *testing.M) { process.Main(m, main) }

// fake is a Kafka that keeps its data on disk.
var fake = process.NewProgram("kfake", func(args []string) {
	port, _ := strconv.Atoi(args[0])
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port),
		kfake.SeedTopics(4, "orders"),
		kfake.DataDir(args[1]), kfake.SyncWrites())
	if err != nil {
		panic(err)
	}
	quit.GetQuitEvent().RegisterStopFunc(cluster.Close)
	quit.WaitSignal()
})

func start(t testing.TB) *suite.Broker {
	t.Helper()
	dir, addr := t.TempDir(), suite.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	s := suite.StartServer(t, addr, func() *exec.Cmd { return fake.Command(t, port, dir) })
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	suite.Must(t, err)
	t.Cleanup(client.Close)
	admin := kadm.NewClient(client)
	return &suite.Broker{
		Server:     s,
		Args:       []string{"-addr=" + addr, "-session-timeout=15s"},
		InHand:     1, // at least one, and at most 4: the number of partitions
		Membership: true,
		Send: func(t testing.TB, orders []string) {
			var records []*kgo.Record
			for _, order := range orders {
				records = append(records, &kgo.Record{Topic: "orders", Key: []byte(order),
					Value: []byte(order)})
			}
			suite.Must(t, client.ProduceSync(t.Context(), records...).FirstErr())
		},
		Left: func(t testing.TB) (left int) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ends, err := admin.ListEndOffsets(ctx, "orders")
			suite.Must(t, err)
			committed, err := admin.FetchOffsets(ctx, "workers")
			if !errors.Is(err, kerr.GroupIDNotFound) { // it has never been joined
				suite.Must(t, err)
			}
			ends.Each(func(end kadm.ListedOffset) {
				suite.Must(t, end.Err)
				left += int(end.Offset)
				if at, ok := committed.Lookup("orders", end.Partition); ok {
					left -= int(at.At)
				}
			})
			return left
		},
	}
}

func TestStops(t *testing.T) { t.Parallel(); suite.TestStops(t, start(t)) }

func TestForcedEnd(t *testing.T) { t.Parallel(); suite.TestForcedEnd(t, start(t)) }

func TestForcedEndAfterWork(t *testing.T) {
	t.Parallel()
	suite.TestForcedEndAfterWork(t, start(t))
}

func TestOutOfTime(t *testing.T) { t.Parallel(); suite.TestOutOfTime(t, start(t)) }

func TestBackAgain(t *testing.T) { t.Parallel(); suite.TestBackAgain(t, start) }

func TestLost(t *testing.T) { t.Parallel(); suite.TestLost(t, start(t)) }

func TestIdleStop(t *testing.T) { t.Parallel(); suite.TestIdleStop(t, start(t)) }

func TestDownAtStart(t *testing.T) {
	suite.TestDownAtStart(t, func(addr string) string { return "-addr=" + addr })
}

func TestWrongUsage(t *testing.T) { suite.TestWrongUsage(t) }
