// Command quickstart is the first program of the README: an HTTP API that
// stores jobs in a database, and a worker that does them. Each job answered
// with 202 is done exactly once, even if the program is stopped and started
// again in between.
//
//	go -C examples/quickstart run .
//	curl -d 'a job' localhost:8080/jobs # answers with the path of its result
//	curl localhost:8080/jobs/1
//
// Press Ctrl-C while jobs are waiting: the worker finishes the job in hand, and
// the next run does the others. They are in the file jobs.db.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"

	_ "modernc.org/sqlite"
)

func main() {
	q := quit.GetQuitEvent()
	q.NotifySignal() // or a signal during the start would kill the program
	jobs, err := openJobs("jobs.db")
	if err != nil {
		log.Fatal(err)
	}
	q.RegisterCloser(jobs.db, quit.AfterDrain()) // closed last: server and worker use it

	q.Go(func(ctx context.Context) error { // awaited
		for jobs.wait(ctx) { // takes no job once the shutdown has begun
			if err := jobs.doNext(q.WorkContext()); err != nil { // but finishes the one at hand
				return err // ends the program
			}
		}
		return nil
	}, quit.Name("worker"))

	srv := &http.Server{
		Addr:        ":8080",
		Handler:     jobs.handler(),
		ReadTimeout: 10 * time.Second,
		IdleTimeout: 2 * time.Minute, // longer than a load balancer's
	}
	// Stopped first, without breaking a connection.
	if _, err := quithttp.ListenAndServe(q, srv); err != nil {
		q.Fail(err) // stops everything started above
	}

	if err := quit.WaitSignal(); err != nil { // SIGINT, SIGTERM, or a failure above
		log.Fatal(err)
	}
}

// jobs is a queue that survives the process.
type jobs struct {
	db    *sql.DB
	added chan struct{} // holds a token if there may be a job to do
}

func openJobs(path string) (*jobs, error) {
	// Only one process at a time may use the file: a second one would do the
	// same jobs. A process waits for its predecessor to stop, but not for long.
	db, err := sql.Open("sqlite",
		path+"?_pragma=busy_timeout(5000)&_pragma=locking_mode(exclusive)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // SQLite allows one writer
	const schema = `BEGIN EXCLUSIVE;
		CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, text TEXT NOT NULL, result TEXT);
		COMMIT`
	if _, err := db.Exec(schema); err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	j := &jobs{db: db, added: make(chan struct{}, 1)}
	j.wake() // for the jobs of the last run
	return j, nil
}

func (j *jobs) wake() {
	select {
	case j.added <- struct{}{}:
	default: // the token is there already
	}
}

// wait waits until there may be a job. It reports false once ctx is done.
func (j *jobs) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
	case <-j.added:
	}
	return ctx.Err() == nil
}

// doNext does the oldest job, if there is one.
func (j *jobs) doNext(ctx context.Context) error {
	var id int
	var text string
	const oldest = `SELECT id, text FROM jobs WHERE result IS NULL ORDER BY id LIMIT 1`
	err := j.db.QueryRowContext(ctx, oldest).Scan(&id, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	defer j.wake() // there may be another

	select {
	case <-time.After(20 * time.Millisecond): // stands for the work
	case <-ctx.Done():
		return context.Cause(ctx) // the time has run out: the next run does the job
	}
	const done = `UPDATE jobs SET result = ? WHERE id = ?`
	if _, err := j.db.ExecContext(ctx, done, strings.ToUpper(text), id); err != nil {
		return err
	}
	fmt.Println("done: job", id)
	return nil
}

func (j *jobs) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /jobs", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var id int
		const insert = `INSERT INTO jobs (text) VALUES (?) RETURNING id`
		err = j.db.QueryRowContext(r.Context(), insert, string(text)).Scan(&id)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		j.wake()
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "/jobs/%d\n", id)
	})
	mux.HandleFunc("GET /jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		var result sql.NullString
		const query = `SELECT result FROM jobs WHERE id = ?`
		err := j.db.QueryRowContext(r.Context(), query, r.PathValue("id")).Scan(&result)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			http.NotFound(w, r)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case !result.Valid:
			fmt.Fprintln(w, "not done yet")
		default:
			fmt.Fprintln(w, result.String)
		}
	})
	return mux
}
