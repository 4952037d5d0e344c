package closers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite"

	"github.com/gracefulgo/graceful/quit"
)

// fakeDB is a database with connections controlled by the test.
type fakeDB struct {
	started chan struct{} // gets a value when a statement begins
	exec    chan struct{} // closed: statements end
	close   chan struct{} // closed: Close of a connection returns
	closed  chan struct{} // gets a value for each connection closed
}

func newFakeDB() *fakeDB {
	return &fakeDB{make(chan struct{}, 10), make(chan struct{}), make(chan struct{}),
		make(chan struct{}, 10)}
}

func (f *fakeDB) Connect(context.Context) (driver.Conn, error) { return fakeConn{f}, nil }
func (f *fakeDB) Driver() driver.Driver                        { return nil }

type fakeConn struct{ f *fakeDB }

func (c fakeConn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }
func (c fakeConn) Begin() (driver.Tx, error)           { return nil, errors.ErrUnsupported }

func (c fakeConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	c.f.started <- struct{}{}
	<-c.f.exec
	return driver.ResultNoRows, nil
}

func (c fakeConn) Close() error {
	<-c.f.close
	c.f.closed <- struct{}{}
	return nil
}

func closeDatabaseSQL(q *quit.QuitEvent, db *sql.DB) {
	q.RegisterCloser(db, quit.AfterDrain())
}

func TestDatabaseSQL(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q, f := event(generous), newFakeDB()
		close(f.exec)
		close(f.close)
		db := sql.OpenDB(f)
		closeDatabaseSQL(q, db)
		_, err := db.Exec("")
		must(t, err)
		stops(t, q)
		if len(f.closed) != 1 {
			t.Errorf("%d connections closed, want the idle one", len(f.closed))
		}
		if _, err := db.Exec(""); err == nil || err.Error() != "sql: database is closed" {
			t.Errorf("Exec() after the stop = %v", err)
		}
	})
	t.Run("statement in flight", func(t *testing.T) {
		t.Parallel()
		q, f := event(generous), newFakeDB()
		close(f.close)
		db := sql.OpenDB(f)
		closeDatabaseSQL(q, db)
		done := make(chan error)
		go func() {
			_, err := db.Exec("")
			done <- err
		}()
		receive(t, f.started, "statement")
		stops(t, q) // though the statement runs
		if len(f.closed) != 0 {
			t.Errorf("the connection in use was closed")
		}
		close(f.exec)
		if err := receive(t, done, "end of the statement"); err != nil {
			t.Errorf("Exec() = %v, want nil", err)
		}
		receive(t, f.closed, "connection closed")
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q, f := event(limit), newFakeDB()
		close(f.exec)
		db := sql.OpenDB(f)
		closeDatabaseSQL(q, db)
		_, err := db.Exec("")
		must(t, err)
		hangs(t, q, "database/sql.(*DB).Close")
		close(f.close)
	})
}

func closeSQLite(q *quit.QuitEvent, db *sql.DB) {
	q.RegisterCloser(db, quit.AfterDrain())
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) (db *sql.DB, wal string) {
		file := filepath.Join(t.TempDir(), "db")
		db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(wal)")
		must(t, err)
		_, err = db.Exec("create table t (n int); insert into t values (1), (2)")
		must(t, err)
		return db, file + "-wal"
	}
	exists := func(file string) bool {
		_, err := os.Stat(file)
		return err == nil
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		db, wal := open(t)
		closeSQLite(q, db)
		if !exists(wal) {
			t.Fatal("there is no WAL")
		}
		stops(t, q)
		if exists(wal) {
			t.Error("the WAL is still there")
		}
	})
	t.Run("rows open", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		db, wal := open(t)
		closeSQLite(q, db)
		rows, err := db.Query("select n from t")
		must(t, err)
		stops(t, q) // though there are rows to read
		if !exists(wal) {
			t.Error("the WAL is gone")
		}
		n := 0
		for rows.Next() {
			n++
		}
		must(t, rows.Close())
		if n != 2 || exists(wal) {
			t.Errorf("%d rows read after the stop, want 2; there is a WAL: %v", n, exists(wal))
		}
	})
	t.Run("endless query", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		db, _ := open(t)
		closeSQLite(q, db)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan error)
		go func() {
			rows, err := db.QueryContext(ctx,
				"with recursive c(n) as (select 1 union all select n + 1 from c) select sum(n) "+
					"from c")
			if err == nil {
				rows.Close()
			}
			done <- err
		}()
		for db.Stats().InUse == 0 {
			if len(done) > 0 {
				t.Fatal(<-done)
			}
		}
		stops(t, q) // though the query runs
		cancel()
		if err := receive(t, done, "end of the query"); err == nil {
			t.Error("the query was not interrupted")
		}
	})
}

// postgres is a server that answers every query except "hang". It does not
// answer the end of a client called deaf. It returns the address, and a channel
// of the messages that it gets.
func postgres(t *testing.T) (addr string, got <-chan string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	messages := make(chan string, 100)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go servePostgres(c, messages)
		}
	}()
	return ln.Addr().String(), messages
}

func servePostgres(c net.Conn, messages chan<- string) {
	b := pgproto3.NewBackend(c, c)
	m, err := b.ReceiveStartupMessage()
	if err != nil {
		return
	}
	start, ok := m.(*pgproto3.StartupMessage)
	if !ok {
		messages <- "cancel"
		c.Close()
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *pgproto3.Query:
			messages <- m.String
			if m.String == "hang" {
				continue
			}
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 0")})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.Terminate:
			messages <- "terminate"
			if start.Parameters["user"] != "deaf" {
				c.Close()
			}
			return
		}
	}
}

// await returns once the server has got message. A pool may send others too.
func await(t *testing.T, got <-chan string, message string) {
	t.Helper()
	for receive(t, got, message) != message {
	}
}

const pgxOptions = "?sslmode=disable&default_query_exec_mode=simple_protocol"

func closePgxPool(q *quit.QuitEvent, pool *pgxpool.Pool) {
	q.RegisterStopFunc(pool.Close, quit.AfterDrain())
}

func TestPgxPool(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) (*pgxpool.Pool, <-chan string) {
		addr, got := postgres(t)
		pool, err := pgxpool.New(context.Background(), "postgres://u@"+addr+"/db"+pgxOptions)
		must(t, err)
		_, err = pool.Exec(context.Background(), "select 1")
		must(t, err)
		await(t, got, "select 1")
		return pool, got
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		pool, got := open(t)
		closePgxPool(q, pool)
		stops(t, q)
		await(t, got, "terminate")
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		pool, _ := open(t)
		closePgxPool(q, pool)
		conn, err := pool.Acquire(context.Background())
		must(t, err)
		hangs(t, q, "github.com/jackc/pgx/v5/pgxpool.(*Pool).Close")
		conn.Release()
	})
	t.Run("query with WorkContext", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		pool, got := open(t)
		closePgxPool(q, pool)
		q.Go(func(context.Context) error {
			_, err := pool.Exec(q.WorkContext(), "hang")
			return err
		})
		await(t, got, "hang")
		fails(t, q, context.DeadlineExceeded)
		await(t, got, "cancel")
	})
}

func closePgxConn(q *quit.QuitEvent, conn *pgx.Conn) {
	q.RegisterQuitCloser(quit.ShutdownFunc(conn.Close), quit.AfterDrain())
}

func TestPgxConn(t *testing.T) {
	t.Parallel()
	run := func(user string) func(*testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			q := event(limit)
			addr, got := postgres(t)
			conn, err := pgx.Connect(context.Background(),
				"postgres://"+user+"@"+addr+"/db"+pgxOptions)
			must(t, err)
			closePgxConn(q, conn)
			stops(t, q)
			await(t, got, "terminate")
		}
	}
	t.Run("stop", run("u"))
	t.Run("server without an answer", run("deaf"))
}
