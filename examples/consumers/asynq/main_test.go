//go:build unix

package main

import (
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/gracefulgo/graceful/examples/consumers/internal/suite"
	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

func start(t testing.TB) *suite.Broker {
	t.Helper()
	path, dir, addr := suite.LookPath(t, "redis-server"), t.TempDir(), suite.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	s := suite.StartServer(t, addr, func() *exec.Cmd {
		return exec.Command(path, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "",
			"--appendonly", "yes", "--appendfsync", "always")
	})
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { rdb.Close() })
	client := asynq.NewClientFromRedisClient(rdb)
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	return &suite.Broker{
		Server: s,
		InHand: 4,
		Args:   []string{"-url=redis://" + addr, "-dial-timeout=1m"},
		Send: func(t testing.TB, orders []string) {
			for _, order := range orders {
				_, err := client.Enqueue(asynq.NewTask("order", []byte(order)))
				suite.Must(t, err)
			}
		},
		Left: func(t testing.TB) int {
			for end := time.Now().Add(time.Minute); ; {
				info, err := inspector.GetQueueInfo("default")
				if err == nil {
					return info.Size
				}
				if rdb.Exists(t.Context(), "asynq:queues").Val() == 0 &&
					rdb.Ping(t.Context()).Err() == nil {
					return 0 // no order has been sent yet
				}
				if time.Now().After(end) {
					t.Fatal(err)
				}
			}
		},
		Expire: func(t testing.TB) {
			const leases = "asynq:{default}:lease"
			orders, err := rdb.ZRange(t.Context(), leases, 0, -1).Result()
			suite.Must(t, err)
			for _, order := range orders {
				suite.Must(t, rdb.ZAdd(t.Context(), leases, redis.Z{Score: 0, Member: order}).Err())
			}
		},
		AckUnseen: true,
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
	suite.TestDownAtStart(t, func(addr string) string { return "-url=redis://" + addr })
}

func TestWrongUsage(t *testing.T) { suite.TestWrongUsage(t) }
