//go:build unix

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gracefulgo/graceful/internal/process"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits until is reports true. It asks every 10 ms.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to pass that %s", what)
		}
	}
}

// postgres is a server that the test starts, and that can be stopped and
// started again.
type postgres struct {
	*process.Process
	t    testing.TB
	dir  string // of its data
	addr string
	db   *pgxpool.Pool // of the test
}

const password = "not-to-be-shown"

// startPostgres starts Debian's Postgres, or another one in the PATH.
func startPostgres(t testing.TB) *postgres {
	t.Helper()
	// Only root may enter the parent of t.TempDir, and Postgres does not run as
	// root.
	dir := t.TempDir()
	as := owner(t)
	pwfile := filepath.Join(dir, "password")
	must(t, os.WriteFile(pwfile, []byte(password), 0o600))
	if as != nil {
		must(t, os.Chmod(filepath.Dir(dir), 0o711))
		must(t, os.Chown(dir, int(as.Uid), int(as.Gid)))
		must(t, os.Chown(pwfile, int(as.Uid), int(as.Gid)))
	}
	p := &postgres{t: t, dir: filepath.Join(dir, "data"), addr: freeAddr(t)}
	if out, err := p.command("initdb", "-D", p.dir, "-U", "jobs", "--pwfile="+pwfile,
		"-A", "scram-sha-256", "-E", "UTF8",
		"--locale=C", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	db, err := pgxpool.New(t.Context(), p.url(p.addr))
	must(t, err)
	t.Cleanup(db.Close)
	p.db = db
	p.start()
	return p
}

// command finds the installed file, and sets the user that Postgres needs.
func (p *postgres) command(name string, args ...string) *exec.Cmd {
	p.t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		files, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
		switch {
		case len(files) > 0:
			file = files[len(files)-1]
		case os.Getenv("CI") != "":
			p.t.Fatal(err)
		default:
			p.t.Skip(err)
		}
	}
	cmd := exec.Command(file, args...)
	cmd.Dir = filepath.Dir(p.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner(p.t)}
	cmd.WaitDelay = time.Minute // the server's children hold the pipes too
	return cmd
}

// owner is nil unless the test runs as root.
func owner(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	must(t, err)
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	must(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	must(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// freeAddr returns an address on which no server listens, for one that does not
// accept port 0, or that is started again. On Linux, a socket that does not
// listen holds it until the end of the test: a server that may reuse the
// address can listen on it.
func freeAddr(t testing.TB) string {
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

// url is the DATABASE_URL for this server at addr: its own address, or a
// proxy's.
func (p *postgres) url(addr string) string {
	return "postgres://jobs:" + password + "@" + addr + "/postgres"
}

func (p *postgres) start() {
	p.t.Helper()
	_, port, err := net.SplitHostPort(p.addr)
	must(p.t, err)
	// Without fsync a committed row is lost if the machine goes down, but not
	// if the server does.
	p.Process = process.StartCommand(p.t, p.command("postgres", "-D", p.dir, "-p", port,
		"-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="))
	server := p.Process
	p.t.Cleanup(func() { // before it is killed, which would leave its children behind
		server.Process.Signal(syscall.SIGQUIT)
		<-server.Exited()
	})
	await(p.t, "Postgres answers", func() bool {
		select {
		case <-server.Exited():
			p.t.Fatalf("Postgres has ended: %s", p.Stderr())
		default:
		}
		return p.db.Ping(p.t.Context()) == nil
	})
}

// stop ends all connections and the server: at once with SIGQUIT, or cleanly
// with SIGINT.
func (p *postgres) stop(sig os.Signal) {
	p.t.Helper()
	p.Signal(sig)
	<-p.Exited()
}

// exec runs a statement of the test itself.
func (p *postgres) exec(sql string) {
	p.t.Helper()
	_, err := p.db.Exec(p.t.Context(), sql)
	must(p.t, err)
}

// number returns the one number that the query selects.
func (p *postgres) number(sql string) (n int) {
	p.t.Helper()
	must(p.t, p.db.QueryRow(context.Background(), sql).Scan(&n))
	return n
}

// noteDone makes the database record every commit that marks a job as done,
// regardless of the process. The table must exist.
func (p *postgres) noteDone() {
	p.t.Helper()
	p.exec(`create table done (job bigint not null);
		create function note_done() returns trigger language plpgsql as
			'begin insert into done values (new.id); return new; end';
		create trigger note_done after update of done_at on jobs
			for each row execute function note_done();`)
}

// hang makes the query that marks a job as done never return, for jobs with
// this text. No such query may be under way when unhang is called.
func (p *postgres) hang(job string) {
	p.t.Helper()
	p.exec(fmt.Sprintf(`create function hang() returns trigger language plpgsql as
			'begin perform pg_sleep(1000000); return new; end';
		create trigger hang before update on jobs
			for each row when (old.job = '%s') execute function hang();`, job))
}

func (p *postgres) awaitHanging(queries int) {
	p.t.Helper()
	await(p.t, fmt.Sprint(queries, " queries hang"), func() bool {
		return p.number(
			`select count(*) from pg_stat_activity where wait_event = 'PgSleep'`) == queries
	})
}

// unhang waits until the queries that hung have ended: they hold locks on the
// table.
func (p *postgres) unhang() {
	p.t.Helper()
	p.exec(`set lock_timeout = '1min'; drop trigger hang on jobs; drop function hang;`)
}
