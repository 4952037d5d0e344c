// Command gin runs a gin server and a job side by side. One that fails stops the
// other, and its error is the program's; Ctrl-C and SIGTERM stop both. It does so
// in two ways, to compare: withErrgroup, in errgroup.go, and withQuit, in quit.go.
//
//	go run ./gin                        # in examples/frameworks
//	curl 'localhost:8080/hello?d=5s'    # press Ctrl-C in the first terminal now: this is still answered
//	go run ./gin -with=errgroup         # the same
//	go run ./gin -fail-after=5s         # the job fails: error, status 1
//
// Both answer the requests in flight, cut off those for which -timeout is too short, and
// have the same exit status. withErrgroup is 34 lines of code, withQuit is 12,
// in which there is more:
//
//   - The stop breaks no connection: what a client has sent is answered, also if
//     it arrives just then. [http.Server.Shutdown] breaks some under load. And a
//     client that does not go on with its request is not waited for.
//   - All failures are in the error, each with a name. errgroup keeps the first.
//   - The time is that of the whole stop. A job that does not end at its context
//     would hold up errgroup's Wait for ever; here it is named, and left behind.
//   - A SIGTERM that is repeated changes nothing, and a second Ctrl-C ends the
//     program with status 130 and says on stderr what was still running. There, either
//     of them kills it, in silence.
//   - There is an order: what is registered next, say a database that the job
//     uses, is closed in its turn, and not whenever its goroutine gets to it.
//
// What speaks for errgroup: it also fits inside a program, for tasks that come and go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
)

func main() {
	flags := flag.NewFlagSet("gin", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, not the whole usage
	with := flags.String("with", "quit", "run both with `quit` or errgroup")
	addr := flags.String("addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	failAfter := flags.Duration("fail-after", 0, "the job fails after that time; 0 means never")
	timeout := flags.Duration("timeout", 25*time.Second, "time for the stop")

	err := flags.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println("usage: gin [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return
	}
	run, ok := map[string]func(*http.Server, job, time.Duration) error{"quit": withQuit, "errgroup": withErrgroup}[*with]
	switch {
	case err != nil:
		exit(2, err)
	case flags.NArg() > 0:
		exit(2, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case !ok:
		exit(2, fmt.Errorf("-with is quit or errgroup, not %q", *with))
	case *timeout <= 0:
		exit(2, fmt.Errorf("-timeout=%v is no time", *timeout))
	}

	srv := &http.Server{
		Addr:        *addr,
		Handler:     newHandler(),
		ReadTimeout: 10 * time.Second, // a client that is slow to send must not hold up the stop
		IdleTimeout: 2 * time.Minute,  // longer than most load balancers keep an idle connection
	}
	if err := run(srv, newJob(*failAfter), *timeout); err != nil {
		exit(1, err)
	}
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "gin:", err)
	os.Exit(status)
}

// job is a service that is no server. It ends, with ctx's error, when ctx is done.
type job func(ctx context.Context) error

func newJob(failAfter time.Duration) job {
	return func(ctx context.Context) error {
		var failed <-chan time.Time // nil: never
		if failAfter > 0 {
			failed = time.After(failAfter)
		}
		select {
		case <-failed:
			return fmt.Errorf("the job failed after %v", failAfter)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// newHandler has GET /hello, which takes its time where it gets a d: the first
// word comes at once, the second after that.
func newHandler() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	// Without gin.Recovery: it would take an answer that is cut off for one that is
	// complete, and so would the client. net/http recovers from panics too.
	r := gin.New()
	r.GET("/hello", func(c *gin.Context) {
		d, err := time.ParseDuration(c.DefaultQuery("d", "0s"))
		if err != nil {
			c.String(http.StatusBadRequest, "d is a duration\n")
			return
		}
		c.String(http.StatusOK, "Hello,")
		c.Writer.Flush()
		select {
		case <-time.After(d):
			c.Writer.WriteString(" world!\n")
		case <-c.Request.Context().Done(): // the client has gone, or there is no time left
			panic(http.ErrAbortHandler) // so that half an answer does not look whole
		}
	})
	return r
}
