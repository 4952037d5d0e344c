//go:build unix

package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gracefulgo/graceful/examples/consumers/internal/suite"
	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

// embedded is a nats-server of the module that is required here.
var embedded = process.NewProgram("nats-server", func(args []string) {
	port, _ := strconv.Atoi(args[0])
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: args[1], SyncAlways: true,
	})
	if err != nil {
		panic(err)
	}
	s.Start()
	s.WaitForShutdown()
})

type commandFunc = func(t testing.TB, port, dir string) func() *exec.Cmd

// servers are the two kinds of servers: the newest, and Debian's.
var servers = map[string]commandFunc{
	"embedded": func(t testing.TB, port, dir string) func() *exec.Cmd {
		return func() *exec.Cmd { return embedded.Command(t, port, dir) }
	},
	"nats-server": func(t testing.TB, port, dir string) func() *exec.Cmd {
		path := suite.LookPath(t, "nats-server")
		config := filepath.Join(t.TempDir(), "conf")
		suite.Must(t, os.WriteFile(config, []byte("jetstream: {store_dir: '"+dir+"'}"), 0o600))
		return func() *exec.Cmd {
			return exec.Command(path, "-a", "127.0.0.1", "-p", port, "-c", config)
		}
	},
}

// each runs a test with each kind of server.
func each(t *testing.T, test func(t *testing.T, start func(t testing.TB) *suite.Broker)) {
	t.Parallel()
	for name, command := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(t testing.TB) *suite.Broker { return start(t, command) })
		})
	}
}

func with(test func(*testing.T, *suite.Broker)) func(*testing.T, func(testing.TB) *suite.Broker) {
	return func(t *testing.T, start func(t testing.TB) *suite.Broker) { test(t, start(t)) }
}

func start(t testing.TB, command commandFunc) *suite.Broker {
	t.Helper()
	addr := suite.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	s := suite.StartServer(t, addr, command(t, port, t.TempDir()))
	conn, err := nats.Connect(addr, nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond))
	suite.Must(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	suite.Must(t, err)
	ctx := t.Context()
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "ORDERS", Subjects: []string{"orders"}, Retention: jetstream.WorkQueuePolicy,
	})
	suite.Must(t, err)
	return &suite.Broker{
		Server: s,
		InHand: 4,
		Args:   []string{"-url=nats://" + addr, "-ack-wait=15s"},
		Send: func(t testing.TB, orders []string) {
			for _, order := range orders {
				_, err := js.Publish(ctx, "orders", []byte(order))
				suite.Must(t, err)
			}
		},
		Left: func(t testing.TB) int {
			for {
				limited, cancel := context.WithTimeout(ctx, time.Second)
				stream, err := js.Stream(limited, "ORDERS") // with its current data
				cancel()
				if err == nil {
					return int(stream.CachedInfo().State.Msgs)
				}
				if ctx.Err() != nil {
					t.Fatal(err)
				}
			}
		},
	}
}

func TestStops(t *testing.T) { each(t, with(suite.TestStops)) }

func TestForcedEnd(t *testing.T) { each(t, with(suite.TestForcedEnd)) }

func TestForcedEndAfterWork(t *testing.T) { each(t, with(suite.TestForcedEndAfterWork)) }

func TestOutOfTime(t *testing.T) { each(t, with(suite.TestOutOfTime)) }

func TestBackAgain(t *testing.T) { each(t, suite.TestBackAgain) }

func TestLost(t *testing.T) { each(t, with(suite.TestLost)) }

func TestIdleStop(t *testing.T) { each(t, with(suite.TestIdleStop)) }

func TestDownAtStart(t *testing.T) {
	suite.TestDownAtStart(t, func(addr string) string { return "-url=nats://" + addr })
}

func TestWrongUsage(t *testing.T) { suite.TestWrongUsage(t) }
