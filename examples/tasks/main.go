// Command tasks is a server whose tasks have subtasks. Each level has a limit
// of its own. A piece of work ends when the first of the limits above it
// passes. The answer and the log name the cause.
//
//	go run ./examples/tasks
//	curl 'localhost:8080/task?sub=1s&sub=9s,2s&sub=9s&timeout=4s'
//
// The first of these three subtasks is done after 1 s. The second would take 9
// s; its own limit of 2 s stops it alone. The limit of the task, 4 s, stops the
// third. More to try:
//
//	curl "localhost:8080/task?sub=9s&sub=9s,2s&deadline=$(($(date +%s)+4))"
//	curl 'localhost:8080/task?sub=5s&sub=9s'     # Ctrl-C here stops both
//	curl 'localhost:8080/task?sub=5s&sub=9s,2s'  # there: it is still answered
//	curl 'localhost:8080/task?sub=50s'           # there: after 19 s, 503
//
// A signal stops no task: tasks may use the time of the shutdown. When that
// runs out, the remaining tasks are stopped, the cause says so, and the exit
// status is 1.
package main

import (
	"flag"
	"fmt"
	"time"

	"github.com/gracefulgo/graceful/quit"
	"github.com/gracefulgo/graceful/quit/quithttp"
)

func main() {
	q := quit.GetQuitEvent()
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `address`; port 0 picks one")
	limit := flag.Duration("limit", time.Minute, "the server's limit for a task")
	flag.DurationVar(&q.Timeout, "timeout", quit.DefaultTimeout,
		"time for the whole stop; negative means no limit")
	parseFlags("tasks")
	if *limit <= 0 {
		exit(2, fmt.Errorf("-limit must be more than 0, not %v", *limit))
	}

	q.NotifySignal()
	bound, err := quithttp.ListenAndServe(q, newServer(*addr, *limit))
	if err != nil {
		exit(1, err)
	}
	fmt.Printf("listening on http://%v\n", bound)

	if err := q.WaitSignal(); err != nil {
		exit(1, err)
	}
	fmt.Println("no task is left")
}
