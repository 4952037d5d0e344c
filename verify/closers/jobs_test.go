package closers

import (
	"context"
	"database/sql"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	temporal "go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gracefulgo/graceful/quit"
)

func closeAsynq(q *quit.QuitEvent, server *asynq.Server) {
	q.RegisterStopFunc(server.Shutdown)
}

type asynqLog struct{}

func (asynqLog) Debug(...any) {}
func (asynqLog) Info(...any)  {}
func (asynqLog) Warn(...any)  {}
func (asynqLog) Error(...any) {}
func (asynqLog) Fatal(...any) {}

func TestAsynq(t *testing.T) {
	t.Parallel()
	// run runs a task, which has begun when it returns.
	run := func(
		t *testing.T, q *quit.QuitEvent, timeout time.Duration, task func(context.Context) error,
	) *asynq.Inspector {
		redis := asynq.RedisClientOpt{Addr: miniredis.RunT(t).Addr()}
		server := asynq.NewServer(redis, asynq.Config{
			Concurrency: 1, ShutdownTimeout: timeout, TaskCheckInterval: time.Millisecond,
			Logger:      asynqLog{},
			BaseContext: q.WorkContext,
		})
		began := make(chan struct{}, 10)
		must(t, server.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
			began <- struct{}{}
			return task(ctx)
		})))
		closeAsynq(q, server)
		client := asynq.NewClient(redis)
		t.Cleanup(func() { client.Close() })
		_, err := client.Enqueue(asynq.NewTask("task", nil), asynq.Retention(time.Hour))
		must(t, err)
		receive(t, began, "task")
		return asynq.NewInspector(redis)
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		queue := run(t, q, generous, func(context.Context) error {
			<-q.Done() // it is in flight when the shutdown begins
			return nil
		})
		defer queue.Close()
		stops(t, q)
		info, err := queue.GetQueueInfo("default")
		must(t, err)
		if info.Completed != 1 {
			t.Errorf("after the stop: %+v, want the task completed", info)
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		ended := make(chan error, 1)
		queue := run(t, q, time.Second, func(ctx context.Context) error {
			<-end
			ended <- ctx.Err()
			return nil
		})
		defer queue.Close()
		stops(t, q) // though the handler runs
		info, err := queue.GetQueueInfo("default")
		must(t, err)
		if info.Pending != 1 || info.Active != 0 {
			t.Errorf("after the stop: %+v, want the task back in the queue", info)
		}
		close(end)
		if err := receive(t, ended, "end of the task"); err == nil {
			t.Error("the context of the task is alive after the stop")
		}
	})
}

func closeRiver(q *quit.QuitEvent, client *river.Client[*sql.Tx]) {
	q.RegisterQuitCloser(quit.ShutdownFunc(client.Stop))
}

type riverJob struct{}

func (riverJob) Kind() string { return "job" }

func TestRiver(t *testing.T) {
	t.Parallel()
	// run runs a job, which has begun when it returns. The returned function
	// reports the state of the job.
	run := func(
		t *testing.T, q *quit.QuitEvent, soft time.Duration, work func(context.Context) error,
	) (state func() rivertype.JobState) {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "db")+
			"?_txlock=immediate&_pragma=busy_timeout(60000)&_pragma=journal_mode(wal)")
		must(t, err)
		t.Cleanup(func() { db.Close() })
		db.SetMaxOpenConns(1)
		driver := riversqlite.New(db)
		log := slog.New(slog.DiscardHandler)
		migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: log})
		must(t, err)
		_, err = migrator.Migrate(context.Background(), rivermigrate.DirectionUp, nil)
		must(t, err)
		began := make(chan struct{}, 10)
		workers := river.NewWorkers()
		river.AddWorker(workers, river.WorkFunc(func(
			ctx context.Context, _ *river.Job[riverJob],
		) error {
			began <- struct{}{}
			return work(ctx)
		}))
		client, err := river.NewClient(driver, &river.Config{
			Queues: map[string]river.QueueConfig{
				river.QueueDefault: {MaxWorkers: 1, FetchPollInterval: 100 * time.Millisecond},
			},
			Workers: workers, Logger: log, SoftStopTimeout: soft,
		})
		must(t, err)
		must(t, client.Start(context.Background()))
		closeRiver(q, client)
		job, err := client.Insert(context.Background(), riverJob{}, nil)
		must(t, err)
		receive(t, began, "job")
		return func() rivertype.JobState {
			job, err := client.JobGet(context.Background(), job.Job.ID)
			must(t, err)
			return job.State
		}
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		state := run(t, q, 0, func(context.Context) error {
			<-q.Done()
			return nil
		})
		stops(t, q)
		if s := state(); s != rivertype.JobStateCompleted {
			t.Errorf("the job is %s, want %s", s, rivertype.JobStateCompleted)
		}
	})
	t.Run("SoftStopTimeout", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		state := run(t, q, time.Second, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		stops(t, q)
		if s := state(); s != rivertype.JobStateAvailable && s != rivertype.JobStateRetryable {
			t.Errorf("the job is %s, want it to be tried again", s)
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		defer close(end)
		state := run(t, q, time.Second, func(ctx context.Context) error {
			<-end
			return nil
		})
		fails(t, q, context.DeadlineExceeded)
		if s := state(); s != rivertype.JobStateRunning {
			t.Errorf("the job is %s, want %s", s, rivertype.JobStateRunning)
		}
	})
}

func closeTemporalWorker(q *quit.QuitEvent, w worker.Worker) {
	q.RegisterStopFunc(w.Stop)
}

func closeTemporalClient(q *quit.QuitEvent, c temporal.Client) {
	q.RegisterStopFunc(c.Close, quit.AfterDrain())
}

// frontend is a Temporal server with one activity task.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer
	tasks     chan *workflowservice.PollActivityTaskQueueResponse
	responses chan string
}

func (f *frontend) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (
	*workflowservice.GetSystemInfoResponse, error,
) {
	return &workflowservice.GetSystemInfoResponse{
		Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{},
	}, nil
}

func (f *frontend) DescribeNamespace(context.Context, *workflowservice.DescribeNamespaceRequest) (
	*workflowservice.DescribeNamespaceResponse, error,
) {
	return &workflowservice.DescribeNamespaceResponse{}, nil
}

func (f *frontend) PollActivityTaskQueue(
	ctx context.Context, _ *workflowservice.PollActivityTaskQueueRequest,
) (*workflowservice.PollActivityTaskQueueResponse, error) {
	select {
	case task := <-f.tasks:
		return task, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *frontend) RespondActivityTaskCompleted(
	context.Context, *workflowservice.RespondActivityTaskCompletedRequest,
) (*workflowservice.RespondActivityTaskCompletedResponse, error) {
	f.responses <- "completed"
	return &workflowservice.RespondActivityTaskCompletedResponse{}, nil
}

func (f *frontend) RespondActivityTaskFailed(
	context.Context, *workflowservice.RespondActivityTaskFailedRequest,
) (*workflowservice.RespondActivityTaskFailedResponse, error) {
	f.responses <- "failed"
	return &workflowservice.RespondActivityTaskFailedResponse{}, nil
}

// dialTemporal returns a client of a server.
func dialTemporal(t *testing.T) (temporal.Client, *frontend) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f := &frontend{
		tasks:     make(chan *workflowservice.PollActivityTaskQueueResponse, 1),
		responses: make(chan string, 10),
	}
	s := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(s, f)
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	c, err := temporal.Dial(temporal.Options{
		HostPort: ln.Addr().String(),
		Logger:   temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	must(t, err)
	return c, f
}

// startTemporal runs an activity, which has begun when it returns. The channel
// gets the message to the server about its end.
func startTemporal(
	t *testing.T, q *quit.QuitEvent, stopTimeout time.Duration, do func(context.Context) error,
) <-chan string {
	c, f := dialTemporal(t)
	closeTemporalClient(q, c)
	w := worker.New(c, "queue", worker.Options{DisableWorkflowWorker: true,
		WorkerStopTimeout: stopTimeout})
	began := make(chan struct{}, 1)
	w.RegisterActivityWithOptions(func(ctx context.Context) error {
		began <- struct{}{}
		return do(ctx)
	}, activity.RegisterOptions{Name: "activity"})
	must(t, w.Start())
	closeTemporalWorker(q, w)
	now := timestamppb.Now()
	f.tasks <- &workflowservice.PollActivityTaskQueueResponse{
		TaskToken: []byte("token"), WorkflowNamespace: "default",
		WorkflowType:      &commonpb.WorkflowType{Name: "workflow"},
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "workflow", RunId: "run"},
		ActivityType:      &commonpb.ActivityType{Name: "activity"}, ActivityId: "1", Attempt: 1,
		ScheduledTime: now, CurrentAttemptScheduledTime: now, StartedTime: now,
		ScheduleToCloseTimeout: durationpb.New(time.Hour),
		StartToCloseTimeout:    durationpb.New(time.Hour),
	}
	receive(t, began, "activity")
	return f.responses
}

func TestTemporalWorker(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		responses := startTemporal(t, q, generous, func(ctx context.Context) error {
			<-activity.GetWorkerStopChannel(ctx)
			return ctx.Err()
		})
		stops(t, q)
		if len(responses) != 1 || <-responses != "completed" {
			t.Error("the activity was not completed before the worker had stopped")
		}
	})
	t.Run("WorkerStopTimeout of 0", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		errs := make(chan error, 1)
		responses := startTemporal(t, q, 0, func(ctx context.Context) error {
			<-ctx.Done()
			errs <- ctx.Err()
			return ctx.Err()
		})
		stops(t, q)
		receive(t, errs, "end of the activity's context")
		if len(responses) != 0 {
			t.Error("the worker waited for the activity")
		}
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		q := event(limit)
		end := make(chan struct{})
		errs := make(chan error, 1)
		startTemporal(t, q, time.Second, func(ctx context.Context) error {
			<-end
			errs <- ctx.Err()
			return nil
		})
		stops(t, q) // though the activity runs
		close(end)
		if err := receive(t, errs, "end of the activity"); err == nil {
			t.Error("the context of the activity is alive after the stop")
		}
	})
}

func TestTemporalClient(t *testing.T) {
	t.Parallel()
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		q := event(generous)
		c, _ := dialTemporal(t)
		closeTemporalClient(q, c)
		stops(t, q)
		if _, err := c.CheckHealth(context.Background(), nil); err == nil {
			t.Error("CheckHealth() after the stop = nil")
		}
	})
}
