package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

const (
	maxJob = 64 << 10               // bytes
	pause  = 100 * time.Millisecond // the pause of a worker that finds no job
	answer = 5 * time.Second        // a request waits for the database at most this long
)

// The lock is for two processes that start at the same moment. For them, "if
// not exists" alone is not enough. A service that grows has migrations instead.
const schema = `
	select pg_advisory_xact_lock(1785);
	create table if not exists jobs (
		id      bigint generated always as identity primary key,
		job     text not null,
		trace   text not null, -- of the request, as a W3C traceparent
		result  text,
		done_at timestamptz    -- null: still to do
	);
	create index if not exists jobs_to_do on jobs (id) where done_at is null;`

// service is shared by handlers and workers.
type service struct {
	db             *pgxpool.Pool
	tracer         trace.Tracer
	accepted, done metric.Int64Counter
}

// openDatabase opens the database. Its error is one line.
func openDatabase(ctx context.Context, o options) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(o.database)
	if err != nil {
		return nil, err
	}
	// The default is four, or the number of CPUs. Each worker keeps one while
	// it works, and the handlers need more.
	config.MaxConns = int32(o.workers) + 8
	// With it, Postgres checks this often whether the client of a query is
	// still connected. Without it, the job of a killed process stays locked
	// until its query ends.
	config.ConnConfig.RuntimeParams["client_connection_check_interval"] = "1s"

	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.connect)
	defer cancel()
	if _, err := db.Exec(ctx, schema); err != nil {
		oneLine := strings.Join(strings.Fields(err.Error()), " ")
		return nil, fmt.Errorf("database at %s:%d: %s", config.ConnConfig.Host,
			config.ConnConfig.Port, oneLine)
	}
	return db, nil
}

// closeDatabase waits until all connections have been given back, but not for
// ever.
func (s *service) closeDatabase(ctx context.Context) error {
	closed := make(chan struct{})
	go func() { // ends with the process, if a connection is never given back
		s.db.Close()
		close(closed)
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		held := s.db.Stat().AcquiredConns()
		return fmt.Errorf("%d connections were not given back: %w", held, ctx.Err())
	}
}

func (s *service) instrument() error {
	s.tracer = otel.Tracer("jobs")
	meter := otel.Meter("jobs")
	var err, err2 error
	s.accepted, err = meter.Int64Counter("jobs.accepted",
		metric.WithDescription("jobs answered with 202"))
	s.done, err2 = meter.Int64Counter("jobs.done",
		metric.WithDescription("jobs done, those that failed too"))
	return errors.Join(err, err2)
}

func (s *service) handler(q *quit.QuitEvent) http.Handler {
	traced := http.NewServeMux()
	traced.HandleFunc("POST /jobs", s.add)
	traced.HandleFunc("GET /jobs/{id}", s.show)
	mux := http.NewServeMux()
	mux.Handle("/", otelhttp.NewHandler(traced, "api"))
	mux.Handle("GET /readyz", quithttp.Ready(q))
	return mux
}

// add promises the job with a 202 only once Postgres has it.
func (s *service) add(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJob))
	job := strings.TrimSpace(string(body))
	switch {
	case err != nil:
		status := http.StatusBadRequest
		if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	case job == "" || !utf8.ValidString(job) || strings.ContainsRune(job, 0):
		http.Error(w, "a job is a text, in UTF-8", http.StatusBadRequest)
		return
	}

	// The request's context outlives the fire, until its time has run out.
	ctx, cancel := context.WithTimeout(r.Context(), answer)
	defer cancel()
	parent := make(propagation.MapCarrier)
	propagation.TraceContext{}.Inject(ctx, parent)
	var id int64
	err = s.db.QueryRow(ctx, `insert into jobs (job, trace) values ($1, $2) returning id`,
		job, parent["traceparent"]).Scan(&id)
	if err != nil {
		unavailable(w, r, err)
		return
	}
	s.accepted.Add(ctx, 1)
	w.Header().Set("Location", fmt.Sprint("/jobs/", id))
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintln(w, id)
}

// show answers with the state of a job.
func (s *service) show(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answer)
	defer cancel()
	var state string
	err = s.db.QueryRow(ctx, `select coalesce(result, 'to do') from jobs where id = $1`,
		id).Scan(&state)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		http.NotFound(w, r)
	case err != nil:
		unavailable(w, r, err)
	default:
		fmt.Fprintln(w, state)
	}
}

func unavailable(w http.ResponseWriter, r *http.Request, err error) {
	slog.Error("no answer from the database", "request", r.Pattern, "err", err)
	w.Header().Set("Retry-After", "1")
	http.Error(w, "no answer from the database", http.StatusServiceUnavailable)
}

// work does jobs until the fire. It then finishes the job in hand, which may
// use WorkContext until time runs out. While the database is down, it waits.
func (s *service) work(q *quit.QuitEvent) error {
	ctx := q.WorkContext()
	for !q.HasFired() {
		id, err := s.doNext(ctx)
		switch {
		case err != nil && id != 0 && q.HasFired():
			return fmt.Errorf("job %d is left for the next start: %w", id,
				cmp.Or(context.Cause(ctx), err))
		case err != nil:
			slog.Error("no job done", "job", id, "err", err)
		case id != 0:
			continue
		}
		select {
		case <-time.After(pause):
		case <-q.Done():
		}
	}
	return nil
}

// doNext does the oldest job that no other worker has, and returns its id, or 0
// if there is none. The job's row is locked until the transaction ends. If the
// transaction ends without a commit, the job was not done, and any worker of
// any process can take it again.
func (s *service) doNext(ctx context.Context) (id int64, err error) {
	tx, err := s.db.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback(ctx) // does nothing after the commit

	var job, parent string
	err = tx.QueryRow(ctx, `select id, job, trace from jobs where done_at is null
		order by id limit 1 for update skip locked`).Scan(&id, &job, &parent)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}

	// The span belongs to the trace of the request, which may have been
	// answered by a process that ended long ago.
	ctx = propagation.TraceContext{}.Extract(ctx,
		propagation.MapCarrier{"traceparent": parent})
	ctx, span := s.tracer.Start(ctx, "do job", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.Int64("job", id)))
	defer func() {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}()

	result, failure := do(ctx, job)
	switch {
	case ctx.Err() != nil: // no time is left: the job is not at fault
		return id, ctx.Err()
	case failure != nil: // the job is done: trying again would not help
		result = "failed: " + failure.Error()
	}
	_, err = tx.Exec(ctx, `update jobs set result = $2, done_at = now() where id = $1`, id, result)
	if err != nil {
		return id, err
	}
	if err := tx.Commit(ctx); err != nil {
		return id, err
	}
	s.done.Add(ctx, 1)
	return id, nil
}

// do stands for work that takes time: a job is a duration to work for. Its
// effects outside the database can happen twice, if the process is killed
// before the commit.
func do(ctx context.Context, job string) (result string, err error) {
	d, err := time.ParseDuration(job)
	if err != nil {
		return "", err
	}
	select {
	case <-time.After(d):
		return "worked for " + d.String(), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
