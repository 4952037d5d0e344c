// Package work has the work of the programs of this module: they answer
// requests, do jobs, poll and use a database. A request or a job that has begun
// says "working" on stdout, and then takes until stdin ends. So a test decides
// how long the work takes, and not a clock.
package work

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
)

// released returns a channel that is closed when stdin has ended.
var released = sync.OnceValue(func() <-chan struct{} {
	c := make(chan struct{})
	go func() { // ends with stdin
		io.Copy(io.Discard, os.Stdin)
		close(c)
	}()
	return c
})

// Do is a job. It says when it begins, and when it is done.
func Do() {
	Begin()
	fmt.Println("done")
}

// Begin says that work has begun, and returns when it may end.
func Begin() {
	fmt.Println("working")
	<-released()
}

// Handler answers a request once its work is done. It uses db then, unless db
// is nil.
func Handler(db *DB) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Begin()
		if db != nil {
			if err := db.Use(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		fmt.Println("done")
		fmt.Fprintln(w, "done")
	})
}

// NewServer returns a server with that Handler, on a port that the system
// picks. It prints the address on which it listens.
func NewServer(db *DB) *http.Server {
	return &http.Server{
		Addr:    "127.0.0.1:0",
		Handler: Handler(db),
		BaseContext: func(ln net.Listener) context.Context {
			Listening(ln)
			return context.Background()
		},
	}
}

// Listening prints the address of a server that listens.
func Listening(ln net.Listener) { fmt.Println("listening on", ln.Addr()) }

// DB is a database.
type DB struct {
	mu     sync.Mutex // guards the field below
	closed bool
}

// OpenDB returns a database.
func OpenDB() *DB { return new(DB) }

// Use returns an error if the database is closed.
func (db *DB) Use() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return errors.New("work: the database is closed")
	}
	return nil
}

// Close closes the database.
func (db *DB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.closed = true
	fmt.Println("database closed")
	return nil
}

// Fault is a variable with which the Close of a Cache hangs, or Poll fails at a
// SIGUSR1.
const Fault = "WORK_FAULT"

// Cache is closed before the database.
type Cache struct{}

// OpenCache returns a cache.
func OpenCache() *Cache { return new(Cache) }

// Close hangs if Fault is "hang".
func (c *Cache) Close() error {
	if os.Getenv(Fault) == "hang" {
		fmt.Println("cache hangs")
		select {}
	}
	fmt.Println("cache closed")
	return nil
}

// Poll is a worker. It ends when ctx is done, and uses db once more then.
func Poll(ctx context.Context, db *DB) error {
	select {
	case <-ctx.Done():
	case <-failing():
		return errors.New("work: the poller failed")
	}
	if err := db.Use(); err != nil {
		return err
	}
	fmt.Println("poller ended")
	return nil
}
