// Command gin runs a gin server and a job at the same time. If one of them
// fails, the other is stopped, and the program ends with the error. Ctrl-C and
// SIGTERM stop both. There are two versions, to compare: withErrgroup, in
// errgroup.go, does it by hand; withQuit, in quit.go, uses package quit.
//
//	go run ./gin                        # in examples/frameworks
//	curl 'localhost:8080/hello?d=15s'   # in a second terminal
//
// Press Ctrl-C in the first terminal now: the request is still answered.
//
//	go run ./gin -with=errgroup         # the same
//	go run ./gin -fail-after=5s         # the job fails: error, status 1
//
// Both answer the requests in flight, cut off those that take longer than
// -timeout, and have the same exit status.
//
// withErrgroup is 34 lines of code, withQuit is 12, and withQuit does more:
//
//   - The shutdown breaks no connection: a request that arrives just then is
//     answered too. [http.Server.Shutdown] breaks some under load. The shutdown
//     does not wait for a client that does not finish its request.
//   - The error has all failures, each with a name. errgroup keeps the first.
//   - The time limits the whole shutdown. A job that ignores its context blocks
//     errgroup's Wait for ever. Here it is named and left behind.
//   - A repeated SIGTERM changes nothing. A second Ctrl-C ends the program with
//     status 130, and prints the stacks of the goroutines that still run. With
//     errgroup, either signal kills it without a message.
//   - Closers have an order. A closer registered next, such as that of a
//     database that the job uses, is called in its turn, not at a random time.
//
// The advantage of errgroup is that it also works inside a program, for tasks
// that come and go.
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
	flags.SetOutput(io.Discard) // an error is one line, without the usage
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
	run, ok := map[string]func(*http.Server, job, time.Duration) error{
		"quit": withQuit, "errgroup": withErrgroup,
	}[*with]
	switch {
	case err != nil:
		exit(2, err)
	case flags.NArg() > 0:
		exit(2, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case !ok:
		exit(2, fmt.Errorf("-with is quit or errgroup, not %q", *with))
	case *timeout <= 0:
		exit(2, fmt.Errorf("-timeout=%v must be more than 0s", *timeout))
	case *failAfter < 0:
		exit(2, fmt.Errorf("-fail-after=%v must not be less than 0s", *failAfter))
	}

	srv := &http.Server{
		Addr:    *addr,
		Handler: newHandler(),
		// A slow client must not delay the shutdown.
		ReadTimeout: 10 * time.Second,
		// Longer than most load balancers keep an idle connection: if the
		// server closes it first, a request on its way is lost.
		IdleTimeout: 2 * time.Minute,
	}
	if err := run(srv, newJob(*failAfter), *timeout); err != nil {
		exit(1, err)
	}
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "gin:", err)
	os.Exit(status)
}

// job is a service that is not a server. It ends when ctx is done, with the
// error of ctx.
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

// newHandler has GET /hello, which writes its first word at once, and its
// second after the duration d.
func newHandler() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	// gin.Recovery is left out. With it, an answer that is cut off would look
	// complete to the client. net/http recovers from panics too.
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
		case <-c.Request.Context().Done(): // the client is gone, or time has run out
			panic(http.ErrAbortHandler) // so that half an answer does not look complete
		}
	})
	return r
}
