package closers

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/dgraph-io/badger/v4"
	"github.com/redis/go-redis/v9"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/gracefulgo/graceful/quit"
)

func closeBbolt(q *quit.QuitEvent, db *bbolt.DB) {
	q.RegisterCloser(db, quit.AfterDrain())
}

func TestBbolt(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) *bbolt.DB {
		db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
		must(t, err)
		return db
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		db := open(t)
		closeBbolt(q, db)
		stops(t, q)
		if err := db.Update(func(*bbolt.Tx) error {
			return nil
		}); !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
			t.Errorf("Update() after the stop = %v, want %v", err, bolterrors.ErrDatabaseNotOpen)
		}
		if err := db.Close(); err != nil {
			t.Errorf("a second Close() = %v, want nil", err)
		}
	})
	hang := func(writable bool) func(*testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			q := event(limit)
			db := open(t)
			closeBbolt(q, db)
			tx, err := db.Begin(writable)
			must(t, err)
			hangs(t, q, "go.etcd.io/bbolt.(*DB).Close")
			must(t, tx.Rollback())
		}
	}
	t.Run("hang", hang(false))
	t.Run("hang: writing transaction", hang(true))
}

func closeBadger(q *quit.QuitEvent, db *badger.DB) {
	q.RegisterCloser(db, quit.AfterDrain())
}

// badgerLog is a logger that blocks until it is closed.
type badgerLog chan struct{}

func (l badgerLog) Errorf(string, ...any)   {}
func (l badgerLog) Warningf(string, ...any) {}
func (l badgerLog) Infof(string, ...any)    {}
func (l badgerLog) Debugf(f string, _ ...any) {
	if f == "Closing database" {
		<-l
	}
}

func TestBadger(t *testing.T) {
	t.Parallel()
	set := func(k string) func(*badger.Txn) error {
		return func(tx *badger.Txn) error { return tx.Set([]byte(k), []byte("value")) }
	}
	get := func(k string) func(*badger.Txn) error {
		return func(tx *badger.Txn) error {
			_, err := tx.Get([]byte(k))
			return err
		}
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		options := badger.DefaultOptions(t.TempDir()).WithLogger(nil)
		db, err := badger.Open(options)
		must(t, err)
		closeBadger(q, db)
		must(t, db.Update(set("key")))
		stops(t, q)
		db, err = badger.Open(options)
		must(t, err)
		must(t, db.View(get("key")))
		must(t, db.Close())
	})
	t.Run("transaction open", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		db, err := badger.Open(badger.DefaultOptions(t.TempDir()).WithLogger(nil))
		must(t, err)
		closeBadger(q, db)
		must(t, db.Update(set("key")))
		tx := db.NewTransaction(true)
		defer tx.Discard()
		must(t, set("other")(tx))
		stops(t, q) // though there is a transaction
		err = get("key")(tx)
		if err == nil || !strings.Contains(err.Error(), badger.ErrDBClosed.Error()) ||
			errors.Is(err, badger.ErrDBClosed) {
			t.Errorf("Get() after the stop = %v, want %v as text only", err, badger.ErrDBClosed)
		}
		if err := tx.Commit(); !errors.Is(err, badger.ErrBlockedWrites) {
			t.Errorf("Commit() after the stop = %v, want %v", err, badger.ErrBlockedWrites)
		}
		defer func() {
			if r := recover(); r == nil {
				t.Error("NewIterator() after the stop did not panic")
			}
		}()
		tx.NewIterator(badger.DefaultIteratorOptions)
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		log := make(badgerLog)
		db, err := badger.Open(badger.DefaultOptions(t.TempDir()).WithLogger(log))
		must(t, err)
		closeBadger(q, db)
		hangs(t, q, "github.com/dgraph-io/badger/v4.(*DB).Close")
		close(log)
		must(t, db.Close()) // waits for the first one
	})
}

// tap is a connection that signals when a given text is written, and whose
// Close may hang.
type tap struct {
	net.Conn
	text  string
	wrote chan<- struct{}
	close <-chan struct{} // nil: Close returns at once
	once  *sync.Once
}

func (c tap) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.text != "" && bytes.Contains(bytes.ToLower(p), []byte(c.text)) {
		c.once.Do(func() { close(c.wrote) })
	}
	return n, err
}

func (c tap) Close() error {
	if c.close != nil {
		<-c.close
	}
	return c.Conn.Close()
}

func closeGoRedis(q *quit.QuitEvent, client *redis.Client) {
	q.RegisterCloser(client, quit.AfterDrain())
}

func TestGoRedis(t *testing.T) {
	t.Parallel()
	// open returns a client, and a channel that is closed once it has sent
	// text.
	open := func(t *testing.T, text string, hang <-chan struct{}) (*redis.Client, <-chan struct{}) {
		server := miniredis.RunT(t)
		wrote := make(chan struct{})
		var once sync.Once
		client := redis.NewClient(&redis.Options{
			Addr: server.Addr(),
			Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				return tap{c, text, wrote, hang, &once}, err
			},
		})
		must(t, client.Ping(context.Background()).Err())
		return client, wrote
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		client, _ := open(t, "", nil)
		closeGoRedis(q, client)
		stops(t, q)
		if err := client.Ping(context.Background()).Err(); !errors.Is(err, redis.ErrClosed) {
			t.Errorf("Ping() after the stop = %v, want %v", err, redis.ErrClosed)
		}
		if err := client.Close(); !errors.Is(err, redis.ErrClosed) {
			t.Errorf("a second Close() = %v, want %v", err, redis.ErrClosed)
		}
	})
	t.Run("command in flight", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		client, sent := open(t, "blpop", nil)
		closeGoRedis(q, client)
		done := make(chan error)
		go func() { done <- client.BLPop(context.Background(), 0, "queue").Err() }()
		receive(t, sent, "command")
		stops(t, q)
		if err := receive(t, done, "end of the command"); !errors.Is(err, redis.ErrClosed) {
			t.Errorf("BLPop() = %v, want %v", err, redis.ErrClosed)
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		hang := make(chan struct{})
		client, _ := open(t, "", hang)
		closeGoRedis(q, client)
		hangs(t, q, "github.com/redis/go-redis/v9.(*Client).Close")
		close(hang)
	})
}
