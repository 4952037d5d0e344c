//go:build unix

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/gracefulgo/graceful/examples/consumers/internal/suite"
	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

// server is Debian's RabbitMQ.
type server struct {
	*suite.Server
	url string
}

// scripts are here; those in the PATH use su.
const scripts = "/usr/lib/rabbitmq/bin/rabbitmq-server"

func startServer(t testing.TB) server {
	t.Helper()
	epmd, script := suite.LookPath(t, "epmd"), suite.LookPath(t, scripts)
	dir, addr, names, nodes := t.TempDir(), suite.FreeAddr(t), suite.FreeAddr(t), suite.FreeAddr(t)
	port := func(addr string) string {
		_, port, _ := net.SplitHostPort(addr)
		return port
	}
	config := filepath.Join(dir, "rabbitmq.conf")
	suite.Must(t, os.WriteFile(config, nil, 0o600))
	suite.StartServer(t, names, func() *exec.Cmd { // RabbitMQ would leave one behind
		return exec.Command(epmd, "-address", "127.0.0.1", "-port", port(names))
	})
	s := suite.StartServer(t, addr, func() *exec.Cmd {
		cmd := exec.Command(script)
		cmd.Env = append(os.Environ(),
			"NOTIFY_SOCKET="+filepath.Join(dir, "none"), // the script becomes the server
			"HOME="+dir,
			"ERL_EPMD_PORT="+port(names),
			"RABBITMQ_NODENAME=quit"+port(addr)+"@localhost",
			"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
			"RABBITMQ_NODE_PORT="+port(addr),
			"RABBITMQ_DIST_PORT="+port(nodes),
			"RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "mnesia"),
			"RABBITMQ_LOGS=-",
			"RABBITMQ_CONFIG_FILE="+config,
			"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "plugins"),
			"RABBITMQ_PID_FILE="+filepath.Join(dir, "pid"),
		)
		return cmd
	})
	return server{s, "amqp://guest:guest@" + addr + "/"}
}

// broker returns the server with a queue of its own.
func (s server) broker(t testing.TB, queue string) *suite.Broker {
	t.Helper()
	conn, err := amqp.Dial(s.url)
	suite.Must(t, err)
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	suite.Must(t, err)
	suite.Must(t, ch.Tx())
	_, err = ch.QueueDeclare(queue, true, false, false, false, nil)
	suite.Must(t, err)
	return &suite.Broker{
		Server: s.Server,
		InHand: 4,
		Args:   []string{"-url=" + s.url, "-queue=" + queue},
		Send: func(t testing.TB, orders []string) {
			for _, order := range orders {
				suite.Must(t, ch.PublishWithContext(t.Context(), "", queue, false, false,
					amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(order)}))
			}
			suite.Must(t, ch.TxCommit())
		},
		AckLost: true,
	}
}

func start(t testing.TB) *suite.Broker { return startServer(t).broker(t, "orders") }

// TestServerStays runs the tests that do not touch the server, all with one
// server.
func TestServerStays(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, test := range map[string]func(*testing.T, *suite.Broker){
		"Stops":     suite.TestStops,
		"ForcedEnd": suite.TestForcedEnd,
		"OutOfTime": suite.TestOutOfTime,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s.broker(t, name))
		})
	}
}

func TestForcedEndAfterWork(t *testing.T) {
	t.Parallel()
	suite.TestForcedEndAfterWork(t, start(t))
}

func TestBackAgain(t *testing.T) { t.Parallel(); suite.TestBackAgain(t, start) }

func TestLost(t *testing.T) { t.Parallel(); suite.TestLost(t, start(t)) }

func TestIdleStop(t *testing.T) { t.Parallel(); suite.TestIdleStop(t, start(t)) }

func TestDownAtStart(t *testing.T) {
	suite.TestDownAtStart(t, func(addr string) string { return "-url=amqp://guest:guest@" + addr })
}

func TestWrongUsage(t *testing.T) { suite.TestWrongUsage(t) }
