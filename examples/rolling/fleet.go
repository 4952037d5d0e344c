//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	replicas = 3
	limit    = 2 * time.Minute // for events that should happen within a second
)

// fleet is HAProxy with its replicas.
type fleet struct {
	addr     string // HAProxy's
	command  []string
	env      []string // of the replicas
	haproxy  *child
	stats    string
	ports    [replicas]*port
	replicas [replicas]*child
}

// start starts HAProxy, with the haproxy.cfg in the working directory, the
// given number of retries and the given timeout for a check. It starts replicas
// by running command with an -addr, and waits until HAProxy considers all of
// them ready. The replicas put their temporary files in tmp.
func start(ctx context.Context, tmp string, retries int, check time.Duration, command []string) (
	_ *fleet, err error,
) {
	f := &fleet{command: command, env: []string{"TMPDIR=" + tmp}}
	defer func() {
		if err != nil {
			f.kill()
		}
	}()
	env := []string{"FRONT_FD=3", "STATS_FD=4", fmt.Sprint("RETRIES=", retries),
		fmt.Sprint("CHECK=", check.Milliseconds())}
	for i := range f.replicas {
		if f.ports[i], err = holdPort(); err != nil {
			return nil, err
		}
		if err := f.startReplica(i); err != nil {
			return nil, err
		}
		env = append(env, fmt.Sprintf("PORT_%d=%d", i, f.ports[i].number))
	}

	// HAProxy inherits its ports, so nobody can take them before it does.
	cmd := exec.Command("haproxy", "-db", "-f", "haproxy.cfg")
	cmd.Env = append(os.Environ(), env...)
	for _, addr := range []*string{&f.addr, &f.stats} {
		file, a, err := listen()
		if err != nil {
			return nil, err
		}
		*addr, cmd.ExtraFiles = a, append(cmd.ExtraFiles, file)
	}
	f.haproxy, err = startChild(cmd)
	for _, file := range cmd.ExtraFiles {
		file.Close() // if HAProxy ends, it must not look as if it listened
	}
	if err != nil {
		return nil, err
	}
	for i := range f.replicas {
		if err := f.await(ctx, i, "UP"); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// listen returns a listening socket for another process.
func listen() (file *os.File, addr string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	defer ln.Close()
	file, err = ln.(*net.TCPListener).File()
	return file, ln.Addr().String(), err
}

// kill ends the processes that still run.
func (f *fleet) kill() {
	for _, p := range append(f.replicas[:], f.haproxy) {
		if p != nil {
			p.cmd.Process.Kill()
			<-p.exited
		}
	}
	for _, p := range f.ports {
		if p != nil {
			syscall.Close(p.fd)
		}
	}
}

func (f *fleet) startReplica(i int) (err error) {
	args := append(f.command[1:len(f.command):len(f.command)],
		fmt.Sprint("-addr=127.0.0.1:", f.ports[i].number))
	cmd := exec.Command(f.command[0], args...)
	cmd.Env = append(os.Environ(), f.env...)
	f.replicas[i], err = startChild(cmd)
	return err
}

// replace stops replica i with SIGTERM, starts it again on the same port, and
// waits until HAProxy sends requests to it. It returns the exit status of the
// old process. The new process starts once HAProxy has noticed that the old one
// is gone, and away has passed: an unrealistically quick restart would hide the
// losses in between.
func (f *fleet) replace(ctx context.Context, i int, away time.Duration) (status string, err error) {
	old := f.replicas[i]
	if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return "", fmt.Errorf("replica %d: %w\n%s", i, err, old.output.String())
	}
	select {
	case <-old.exited:
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(limit):
		return "", fmt.Errorf("replica %d does not stop\n%s", i, old.output.String())
	}
	status = strconv.Itoa(old.cmd.ProcessState.ExitCode())
	if err := f.await(ctx, i, "DOWN"); err != nil {
		return "", err
	}
	select {
	case <-time.After(away):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if err := f.startReplica(i); err != nil {
		return "", err
	}
	return status, f.await(ctx, i, "UP")
}

// await waits until a check of HAProxy has found that replica i is UP, or DOWN.
func (f *fleet) await(ctx context.Context, i int, want string) error {
	timeout := time.After(limit)
	for {
		status, err := f.status(i)
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w\n%s", err, f.haproxy.output.String())
		}
		if err != nil || status == want {
			return errors.Join(err, ctx.Err())
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout:
			return fmt.Errorf("replica %d is %s, and not %s\n%s",
				i, status, want, f.replicas[i].output.String())
		}
	}
}

// status is UP or DOWN, or another word while that is not known.
func (f *fleet) status(i int) (string, error) {
	conn, err := net.DialTimeout("tcp", f.stats, limit)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	fmt.Fprintln(conn, "show stat")
	rows, err := csv.NewReader(conn).ReadAll()
	if err != nil {
		return "", fmt.Errorf("haproxy: %w", err)
	}
	column := make(map[string]int)
	for n, row := range rows {
		switch {
		case n == 0:
			for k, name := range row {
				column[name] = k
			}
		case row[column["svname"]] == fmt.Sprint("replica", i):
			// Before its first check a server is "UP" too.
			if status, check := row[column["status"]],
				row[column["check_status"]]; status != "UP" || check == "L7OK" {
				return status, nil
			}
			return "unchecked", nil
		}
	}
	return "", fmt.Errorf("haproxy knows no replica %d", i)
}

// port is the port of a replica. A socket that does not listen holds it, so
// successive replicas can have the port, and no other process takes it in
// between. (HAProxy opens so many connections that sooner or later it would use
// the port for one.)
type port struct{ fd, number int }

func holdPort() (*port, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	addr, err2 := syscall.Getsockname(fd)
	if err := errors.Join(err, err2); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("a port: %w", err)
	}
	return &port{fd, addr.(*syscall.SockaddrInet4).Port}, nil
}

// child is a program that runs or has ended.
type child struct {
	cmd    *exec.Cmd
	output output
	exited chan struct{} // closed once cmd.ProcessState is set
}

// startChild starts cmd so that Ctrl-C in the terminal does not reach it, and
// that it does not outlive this process.
func startChild(cmd *exec.Cmd) (*child, error) {
	p := &child{cmd: cmd, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process
		cmd.Wait() // its error is in the status
		close(p.exited)
	}()
	return p, nil
}

// output is the output of a process so far.
type output struct {
	mu   sync.Mutex // guards the field below
	text bytes.Buffer
}

var _ io.Writer = (*output)(nil)

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimSpace(o.text.String())
}
