//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/gracefulgo/graceful/examples/frameworks/internal/advertise"
	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// etcd is a server that the test starts, and that can be killed and started
// again.
type etcd struct {
	*process.Process
	t      *testing.T
	args   []string
	addr   string
	client *clientv3.Client
}

func startEtcd(t *testing.T) *etcd {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for try := 1; ; try++ {
		addr, peers := freeAddr(t), freeAddr(t)
		e := &etcd{t: t, addr: addr, args: []string{
			"--name=test", "--data-dir=" + filepath.Join(t.TempDir(), "data"),
			"--listen-client-urls=http://" + addr, "--advertise-client-urls=http://" + addr,
			"--listen-peer-urls=http://" + peers, "--initial-advertise-peer-urls=http://" + peers,
			"--initial-cluster=test=http://" + peers,
			"--heartbeat-interval=50", "--election-timeout=500",
		}}
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + addr},
			Logger: zap.NewNop()})
		must(t, err)
		t.Cleanup(func() { client.Close() })
		e.client = client
		if e.start() {
			return e
		}
		if try == 5 {
			t.Fatalf("etcd does not start: %s", e.Stderr())
		}
	}
}

// freeAddr returns an address that is free for now, since etcd does not accept
// port 0. On Linux, a socket that does not listen holds it until the end of the
// test, for a server that may listen on a held port.
func freeAddr(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	must(t, err)
	syscall.CloseOnExec(fd)
	if runtime.GOOS == "linux" {
		t.Cleanup(func() { syscall.Close(fd) })
	} else {
		defer syscall.Close(fd)
	}
	must(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	addr, err := syscall.Getsockname(fd)
	must(t, err)
	return fmt.Sprint("127.0.0.1:", addr.(*syscall.SockaddrInet4).Port)
}

// start reports false if etcd has ended because another process has the port.
func (e *etcd) start() bool {
	e.t.Helper()
	e.Process = process.StartCommand(e.t, process.Other(e.t, "etcd", e.args...))
	exited := e.Exited()
	ctx, cancel := context.WithCancel(e.t.Context())
	defer cancel()
	go func() {
		select {
		case <-exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, time.Second)
		_, err := e.client.Get(limited, "x") // not served without a leader
		cancel()
		if err == nil {
			return true
		}
	}
	return false
}

func (e *etcd) restart() {
	e.t.Helper()
	if !e.start() {
		e.t.Fatal("etcd does not start again")
	}
}

func (e *etcd) kill() {
	e.Process.Process.Kill()
	<-e.Exited()
}

// wantKey checks that the key has the value in etcd; "" means that there is no
// key.
func (e *etcd) wantKey(key, want string) {
	e.t.Helper()
	resp, err := e.client.Get(e.t.Context(), key)
	must(e.t, err)
	got := ""
	if len(resp.Kvs) > 0 {
		got = string(resp.Kvs[0].Value)
	}
	if got != want {
		e.t.Errorf("value of %s = %q, want %q", key, got, want)
	}
}

// awaitRenewal waits until the lease of the key has more time left than a
// moment before.
func (e *etcd) awaitRenewal(key string) {
	e.t.Helper()
	resp, err := e.client.Get(e.t.Context(), key)
	must(e.t, err)
	if len(resp.Kvs) == 0 {
		e.t.Fatalf("no key %s", key)
	}
	for before := int64(math.MaxInt64); ; time.Sleep(100 * time.Millisecond) {
		lease, err := e.client.TimeToLive(e.t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease))
		must(e.t, err)
		switch left := lease.TTL; {
		case left < 0:
			e.t.Fatalf("the lease of %s has expired", key)
		case left > before:
			return
		default:
			before = left
		}
	}
}

// watch returns a function that waits for the next change of a key of the
// service. The watch begins at the first revision.
func (e *etcd) watch() (next func() *clientv3.Event) {
	changes := e.client.Watch(e.t.Context(), "services/", clientv3.WithPrefix(),
		clientv3.WithRev(1))
	var events []*clientv3.Event
	return func() *clientv3.Event {
		e.t.Helper()
		for len(events) == 0 {
			select {
			case resp := <-changes:
				must(e.t, resp.Err())
				events = resp.Events
			case <-time.After(3 * time.Minute):
				e.t.Fatal("no change of the key")
			}
		}
		ev := events[0]
		events = events[1:]
		return ev
	}
}

func (e *etcd) wantChange(next func() *clientv3.Event, want string) {
	e.t.Helper()
	if got := next().Type.String(); got != want {
		e.t.Fatalf("change of the key: %s, want %s", got, want)
	}
}

// wantHistory checks the events of the key since the first revision.
func (e *etcd) wantHistory(key string, want ...string) {
	e.t.Helper()
	resp, err := e.client.Put(e.t.Context(), "services/end", "")
	must(e.t, err)
	next := e.watch()
	var got []string
	for {
		ev := next()
		if ev.Kv.ModRevision >= resp.Header.Revision {
			break
		}
		if string(ev.Kv.Key) == key {
			got = append(got, ev.Type.String())
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		e.t.Errorf("history of %s = %v, want %v", key, got, want)
	}
}

// proxy is a proxy in front of etcd. Each direction can be held. Data that is
// sent meanwhile arrives after the release.
type proxy struct {
	addr              string
	requests, answers gate
}

// gate is locked while the direction is held.
type gate struct {
	mu   sync.RWMutex
	open func() // ends the last hold
}

func (g *gate) hold() {
	g.mu.Lock()
	g.open = sync.OnceFunc(g.mu.Unlock)
}

func (g *gate) release() {
	if g.open != nil {
		g.open()
	}
}

func (g *gate) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		g.mu.RLock()
		_, err = to.Write(buf[:n])
		g.mu.RUnlock()
		if err != nil {
			return
		}
	}
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{addr: ln.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", target)
			if err != nil {
				conn.Close()
				continue
			}
			wg.Go(func() { p.requests.copy(to, conn) })
			wg.Go(func() { p.answers.copy(conn, to) })
			t.Cleanup(func() { conn.Close(); to.Close() })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		p.requests.release()
		p.answers.release()
	})
	return p
}

// service is the running program.
type service struct {
	*process.Process
	t        *testing.T
	url, key string
}

// start starts the program, with an etcd or a proxy at addr. Unless args say
// otherwise, its timeout is long enough, and its key outlives the test.
func start(t *testing.T, addr string, args ...string) *service {
	t.Helper()
	args = append([]string{"-addr=127.0.0.1:0", "-ttl=1h", "-dial-timeout=1m", "-timeout=2m",
		"-etcd=http://" + addr}, args...)
	s := &service{t: t, Process: process.Start(t, args...)}
	s.url = s.Line("listening on ")
	return s
}

func (s *service) addr() string { return strings.TrimPrefix(s.url, "http://") }

// registered waits until the program says that it has registered, always with
// the same key.
func (s *service) registered() {
	s.t.Helper()
	s.setKey(s.Line("registered "))
}

func (s *service) setKey(got string) {
	s.t.Helper()
	if id, ok := strings.CutPrefix(got, "services/hello/"); !ok || id == "" ||
		s.key != "" && got != s.key {
		s.t.Errorf("registered %q, want services/hello/ and an id, the same as before: %q",
			got, s.key)
	}
	s.key = got
}

// wantDeregistered checks how many lines of stdout say that the key was
// deleted.
func (s *service) wantDeregistered(times int) {
	s.t.Helper()
	if got := strings.Count(s.Stdout(), "deregistered "+s.key+"\n"); got != times {
		s.t.Errorf("%d lines say that %s was deregistered, want %d", got, s.key, times)
	}
}

// hello returns once the handler has written its first word, over a new
// connection.
func (s *service) hello(query string) *http.Response {
	s.t.Helper()
	transport := new(http.Transport)
	s.t.Cleanup(transport.CloseIdleConnections)
	resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get(
		s.url + "/hello" + query)
	must(s.t, err)
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (s *service) wantHello(resp *http.Response) {
	s.t.Helper()
	if body, err := io.ReadAll(resp.Body); string(body) != "Hello, world!\n" || err != nil {
		s.t.Errorf("GET /hello = %q, %v", body, err)
	}
}

// wantError checks that the last line of stderr is the program's error.
func (s *service) wantError(texts ...string) {
	s.t.Helper()
	lines := strings.Split(strings.TrimSuffix(s.Stderr(), "\n"), "\n")
	last := lines[len(lines)-1]
	for _, text := range append(texts, "etcd: ") {
		if !strings.Contains(last, text) {
			s.t.Errorf("last line of stderr = %q, want it to have %q", last, text)
		}
	}
}

func (s *service) wantLost(times int) {
	s.t.Helper()
	if got := strings.Count(s.Stderr(), "registration lost"); got != times {
		s.t.Errorf("%d lines say that the registration was lost, want %d", got, times)
	}
}

func TestRegistered(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := start(t, e.addr)
		s.registered()
		e.wantKey(s.key, s.url)
		s.wantHello(s.hello(""))
		s.Signal(sig)
		s.WantExit(0)
		e.wantHistory(s.key, "PUT", "DELETE")
		s.wantLost(0)
		s.wantDeregistered(1)
	}
}

// TestOwnKeys runs two instances. At the address of one, a predecessor has
// crashed, and its lease is still alive.
func TestOwnKeys(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	crashed := start(t, e.addr)
	crashed.registered()
	crashed.Process.Process.Kill()
	<-crashed.Exited()
	s, other := start(t, e.addr, "-addr="+crashed.addr()), start(t, e.addr)
	s.registered()
	other.registered()
	if s.key == crashed.key || s.key == other.key {
		t.Errorf("keys = %s, %s, %s, want all different", crashed.key, s.key, other.key)
	}
	s.Signal(syscall.SIGTERM)
	s.WantExit(0)
	e.wantKey(s.key, "")
	e.wantKey(other.key, other.url)
	e.wantKey(crashed.key, crashed.url) // until its lease expires
}

// TestWildcard checks that no wildcard is registered.
func TestWildcard(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		host, err := advertise.Host(addr)
		if err != nil {
			process.WantBadStart(t, 1, err.Error(), "-addr="+addr, "-etcd=http://"+e.addr)
			continue
		}
		s := start(t, e.addr, "-addr="+addr)
		s.registered()
		_, port, err := net.SplitHostPort(s.addr())
		must(t, err)
		s.url = "http://" + net.JoinHostPort(host, port)
		e.wantKey(s.key, s.url)
		s.wantHello(s.hello(""))
		s.Signal(syscall.SIGTERM)
		s.WantExit(0)
	}
}

// TestKeyGone deletes the key from outside the program.
func TestKeyGone(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := start(t, e.addr)
	s.registered()
	_, err := e.client.Delete(t.Context(), s.key)
	must(t, err)
	s.Signal(syscall.SIGTERM)
	s.WantExit(0)
	s.wantDeregistered(0)
	e.wantHistory(s.key, "PUT", "DELETE")
	leases, err := e.client.Leases(t.Context())
	must(t, err)
	if len(leases.Leases) != 0 {
		t.Errorf("leases = %v, want none", leases.Leases)
	}
}

// TestPassword uses an etcd that accepts root only.
func TestPassword(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	ctx := t.Context()
	_, err := e.client.UserAdd(ctx, "root", "secret")
	must(t, err)
	_, err = e.client.RoleAdd(ctx, "root")
	must(t, err)
	_, err = e.client.UserGrantRole(ctx, "root", "root")
	must(t, err)
	_, err = e.client.UserAdd(ctx, "reader", "secret")
	must(t, err)
	_, err = e.client.RoleAdd(ctx, "reads")
	must(t, err)
	_, err = e.client.RoleGrantPermission(ctx, "reads", "services/", "services0",
		clientv3.PermissionType(clientv3.PermRead))
	must(t, err)
	_, err = e.client.UserGrantRole(ctx, "reader", "reads")
	must(t, err)
	_, err = e.client.AuthEnable(ctx)
	must(t, err)
	withPassword := func(password string, args ...string) *service {
		cmd := process.Command(t, append([]string{"-addr=127.0.0.1:0", "-etcd=http://" + e.addr},
			args...)...)
		cmd.Env = append(cmd.Env, "ETCD_PASSWORD="+password)
		return &service{t: t, Process: process.StartCommand(t, cmd)}
	}

	for _, test := range []struct {
		password, arg string
		status        int
		why           string
	}{
		{"wrong", "-user=root", 1, "etcd at http://" + e.addr +
			": etcdserver: authentication failed, invalid user ID or password"},
		{"secret", "-user=nobody", 1, "etcd at http://" + e.addr +
			": etcdserver: authentication failed, invalid user ID or password"},
		{"", "-user=", 1, "etcd at http://" + e.addr + ": etcdserver: user name is empty"},
		{"", "-user=root", 2, "-user needs ETCD_PASSWORD"},
		{"secret", "-user=", 2, "-user needs ETCD_PASSWORD, and ETCD_PASSWORD needs -user"},
	} {
		p := withPassword(test.password, test.arg)
		p.WantExit(test.status)
		if got := p.Stdout() + p.Stderr(); !strings.HasPrefix(got, "etcd: "+test.why) ||
			strings.Count(got, "\n") != 1 {
			t.Errorf("with %s and password %q: %q, want one line: etcd: %s",
				test.arg, test.password, got, test.why)
		}
	}

	// A user that may not write has nothing to deregister.
	s := withPassword("secret", "-user=reader")
	s.WantExit(1)
	s.wantError("registering services/hello/", "etcdserver: permission denied")
	if strings.Contains(s.Stdout(), "registered") || strings.Contains(s.Stderr(), "may be there") {
		t.Error("it was never registered")
	}

	s = withPassword("secret", "-user=root")
	s.registered()
	s.Signal(syscall.SIGTERM)
	s.WantExit(0)
	s.wantDeregistered(1)
}

// TestDeletedFirst delays the answer to the deletion until the test has seen
// that the service can still be reached.
func TestDeletedFirst(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	p := startProxy(t, e.addr)
	s := start(t, p.addr)
	s.registered()
	next := e.watch()
	e.wantChange(next, "PUT")
	p.answers.hold()
	s.Signal(syscall.SIGTERM)
	e.wantChange(next, "DELETE")
	s.wantHello(s.hello(""))
	p.answers.release()
	s.WantExit(0)
	e.wantHistory(s.key, "PUT", "DELETE")
}

// TestStaysDeleted uses a server whose shutdown takes longer than keep takes to
// notice that a lease is gone.
func TestStaysDeleted(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := start(t, e.addr, "-ttl=6s") // it asks every 2 s
	s.registered()
	next := e.watch()
	e.wantChange(next, "PUT")
	resp := s.hello("?d=5s")
	s.Signal(syscall.SIGTERM)
	e.wantChange(next, "DELETE")
	s.wantHello(resp)
	s.WantExit(0)
	e.wantHistory(s.key, "PUT", "DELETE")
	s.wantLost(0)
}

// TestDelay checks that the key is kept alive even after the signal.
func TestDelay(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := start(t, e.addr, "-ttl=6s", "-delay=10m", "-timeout=20m")
	s.registered()
	s.Signal(syscall.SIGTERM)
	s.AwaitFired()
	e.awaitRenewal(s.key)
	e.awaitRenewal(s.key)
	e.wantHistory(s.key, "PUT")
	s.wantHello(s.hello(""))
	s.Signal(os.Interrupt) // ends the delay, and not the program at once
	s.WantExit(0)
	e.wantHistory(s.key, "PUT", "DELETE")
}

func TestKeptAlive(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := start(t, e.addr, "-ttl=6s")
	s.registered()
	e.awaitRenewal(s.key)
	e.awaitRenewal(s.key)
	e.wantKey(s.key, s.url)
	e.wantHistory(s.key, "PUT")
	s.Process.Process.Kill()
	next := e.watch()
	e.wantChange(next, "PUT")
	for ev := next(); string(ev.Kv.Key) != s.key || ev.Type.String() != "DELETE"; ev = next() {
	}
}

// TestEtcdRestarts kills etcd for so long that the registration is lost.
func TestEtcdRestarts(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := start(t, e.addr, "-ttl=6s", "-dial-timeout=3s")
	s.registered()
	e.kill()
	s.AwaitStderr("registration lost")
	time.Sleep(4 * time.Second) // so that it fails to register
	s.wantHello(s.hello(""))
	e.restart()
	s.registered()
	s.wantLost(1)
	e.wantKey(s.key, s.url)
	s.wantHello(s.hello(""))
	s.Signal(syscall.SIGTERM)
	s.WantExit(0)
	e.wantKey(s.key, "")
}

// TestEtcdReplaced replaces etcd with one that does not know the lease.
func TestEtcdReplaced(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := start(t, e.addr, "-ttl=20s")
	s.registered()
	e.kill()
	for i, arg := range e.args {
		if strings.HasPrefix(arg, "--data-dir=") {
			e.args[i] = "--data-dir=" + filepath.Join(t.TempDir(), "data")
		}
	}
	e.restart()
	s.registered()
	s.wantLost(1)
	e.wantKey(s.key, s.url)
	s.Signal(syscall.SIGTERM)
	s.WantExit(0)
	e.wantHistory(s.key, "PUT", "DELETE")
}

// TestPartition holds all traffic with etcd until the registration is lost.
func TestPartition(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	p := startProxy(t, e.addr)
	s := start(t, p.addr, "-ttl=6s", "-dial-timeout=6s") // it may notice after either time
	s.registered()
	p.requests.hold()
	p.answers.hold()
	s.AwaitStderr("registration lost")
	s.wantHello(s.hello(""))
	p.requests.release()
	p.answers.release()
	s.registered()
	e.wantKey(s.key, s.url)
	s.Signal(syscall.SIGTERM)
	s.WantExit(0)
	e.wantKey(s.key, "")
}

// TestStopWhileRegistering sends the signal at various moments while the
// service registers again. The key must be gone if the status is 0, and in any
// case when its lease has expired.
func TestStopWhileRegistering(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(e *etcd, p *proxy, s *service){
		"etcd starts": func(e *etcd, p *proxy, s *service) {
			s.Signal(syscall.SIGTERM)
			p.answers.release()
		},
		"etcd answers": func(e *etcd, p *proxy, s *service) {
			p.answers.release()
			s.Signal(syscall.SIGTERM)
		},
		// The program does not learn that etcd has stored it.
		"put": func(e *etcd, p *proxy, s *service) {
			next := e.watch()
			first := next()
			p.answers.release()
			for ev := first; ev == first || ev.Type.String() != "PUT"; ev = next() {
			}
			p.answers.hold()
			s.Signal(syscall.SIGTERM)
			p.answers.release()
		},
		"registered": func(e *etcd, p *proxy, s *service) {
			p.answers.release()
			s.registered()
			s.Signal(syscall.SIGTERM)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEtcd(t)
			p := startProxy(t, e.addr)
			s := start(t, p.addr, "-ttl=6s", "-dial-timeout=6s") // it may notice after either time
			s.registered()
			p.answers.hold()
			s.AwaitStderr("registration lost")
			stop(e, p, s)
			s.WantExit(0)
			e.wantKey(s.key, "")
			// Nor does the key come back: messages on their way have arrived or
			// are cut off.
			time.Sleep(time.Second)
			e.wantKey(s.key, "")
		})
	}
}

// TestOneLease checks that a lease that only seemed lost is revoked before
// there is another one. Shutdown revokes only the last one.
func TestOneLease(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	ctx, stop := context.WithCancel(t.Context())
	r := &registration{client: e.client, key: "services/hello/1", url: "x", ttl: time.Hour,
		limit: time.Minute, stop: stop}
	for range 3 {
		_, err := r.register(ctx)
		must(t, err)
		e.wantKey(r.key, "x")
	}
	leases, err := e.client.Leases(t.Context())
	must(t, err)
	if len(leases.Leases) != 1 || leases.Leases[0].ID != r.lease {
		t.Errorf("leases = %v, want only %x", leases.Leases, r.lease)
	}
	must(t, r.Shutdown(t.Context()))
	e.wantKey(r.key, "")
	if _, err := r.register(ctx); err == nil {
		t.Error("registered after Shutdown")
	}
	e.wantKey(r.key, "")
}

// deaf returns the address of a listener that accepts connections and never
// answers.
func deaf(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

func TestEtcdDownAtStart(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]string{"down": freeAddr(t), "deaf": deaf(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			process.WantBadStart(t, 1, "etcd at http://"+addr+": no answer within 1s",
				"-addr=127.0.0.1:0", "-etcd=http://"+addr, "-dial-timeout=1s")
		})
	}
}

func TestSignalWhileDialing(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"-user=root"}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer ln.Close()
		cmd := process.Command(t, append([]string{"-addr=127.0.0.1:0", "-dial-timeout=1h",
			"-etcd=http://" + ln.Addr().String()}, args...)...)
		if args != nil {
			cmd.Env = append(cmd.Env, "ETCD_PASSWORD=secret")
		}
		p := process.StartCommand(t, cmd)
		conn, err := ln.Accept()
		must(t, err)
		defer conn.Close()
		p.Signal(syscall.SIGTERM)
		p.WantExit(0)
		if got := p.Stdout(); got != "" {
			t.Errorf("stdout = %q, want none: it has started nothing", got)
		}
	}
}

// TestEtcdDownAtStop checks that the shutdown ends in time if etcd is down.
func TestEtcdDownAtStop(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(e *etcd, p *proxy, s *service){
		"killed before": func(e *etcd, p *proxy, s *service) {
			e.kill()
			s.Signal(syscall.SIGTERM)
		},
		"killed in between": func(e *etcd, p *proxy, s *service) {
			p.requests.hold()
			s.Signal(syscall.SIGTERM)
			s.AwaitFired()
			e.kill()
			p.requests.release()
		},
		"lost before": func(e *etcd, p *proxy, s *service) {
			e.kill()
			s.AwaitStderr("registration lost")
			s.Signal(syscall.SIGTERM)
		},
		"deaf": func(e *etcd, p *proxy, s *service) {
			p.requests.hold()
			s.Signal(syscall.SIGTERM)
		},
		"does not answer": func(e *etcd, p *proxy, s *service) {
			p.answers.hold()
			s.Signal(syscall.SIGTERM)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The step of etcd may use all of it. An eighth more is left for
			// the message.
			process.Patiently(t, 2*time.Second, func(timeout time.Duration) bool {
				e := startEtcd(t)
				p := startProxy(t, e.addr)
				s := start(t, p.addr, fmt.Sprint("-dial-timeout=", timeout),
					"-timeout=-1s", "-ttl=4s")
				key, ok := strings.CutPrefix(s.Line(""), "registered ")
				if !ok {
					return false
				}
				s.setKey(key)
				resp := s.hello("?d=3s")
				stop(e, p, s)
				s.wantHello(resp)
				s.WantExit(1)
				s.AwaitPortClosed(s.addr())
				if strings.Contains(s.Stderr(), "abandoned") {
					return false
				}
				s.wantDeregistered(0)
				s.wantError("registration (", s.key+" may be there until its lease of 4s expires: ")
				return true
			})
		})
	}
}

func TestInFlight(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := start(t, e.addr)
	s.registered()
	resp := s.hello("?d=2s")
	s.Signal(syscall.SIGTERM)
	s.AwaitPortClosed(s.addr())
	e.wantKey(s.key, "")
	s.wantHello(resp)
	s.WantExit(0)
}

func TestEndlessRequest(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := start(t, e.addr, "-timeout=5s")
	s.registered()
	s.hello("?d=1000h")
	s.Signal(syscall.SIGTERM)
	s.WantExit(1)
	s.wantError("http (", "context deadline exceeded")
	e.wantHistory(s.key, "PUT", "DELETE")
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	p := startProxy(t, e.addr)
	s := start(t, p.addr)
	s.registered()
	p.requests.hold()
	s.Signal(os.Interrupt)
	s.AwaitFired()
	s.InterruptAgain()
	s.WantExit(130)
	if got := s.Stderr(); !strings.Contains(got, "registration ") ||
		!strings.Contains(got, "ending at once") {
		t.Errorf("stderr = %q, want it to name what still ran", got)
	}
}

func TestClientNeverReads(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := start(t, e.addr, "-timeout=6s")
	s.registered()
	process.NeverRead(t, s.addr(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	s.Signal(syscall.SIGTERM)
	s.WantExit(1)
	e.wantKey(s.key, "")
	if got := s.Stderr(); !strings.Contains(got, "\netcd: quit: http (etcd/main.go:") {
		t.Errorf("stderr = %q, want it to name the server", got)
	}
}

func TestSlowClient(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	s := start(t, e.addr)
	s.registered()
	wantAnswer := process.SlowToSend(t, s.addr(), "/")
	s.Signal(syscall.SIGTERM)
	s.WantExit(0)
	wantAnswer()
}

func TestBadStart(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	taken := process.TakenAddr(t)
	for _, test := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"-addr=" + taken, "-etcd=http://" + e.addr}, 1, "address already in use"},
		{[]string{"-addr=127.0.0.1"}, 1, "missing port in address"},
		{[]string{"-ttl=10ms"}, 2, "-ttl is a second at least"},
		{[]string{"-name=../other"}, 2, `-name="../other" is no part of a key`},
		{[]string{"-name="}, 2, `-name="" is no part of a key`},
		{[]string{"-timeout=fast"}, 2, "invalid value"},
		{[]string{"-port=80"}, 2, "not defined: -port"},
		{[]string{"serve"}, 2, `unexpected argument "serve"`},
	} {
		process.WantBadStart(t, test.status, test.stderr, test.args...)
	}
}
