package quit

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"
)

// exiting is locked by the first exit and never unlocked. All other calls wait
// for the end of the process.
var exiting sync.Mutex

// exit writes the steps that still run to stderr, and ends the process. It
// begins with the steps of by, the event that decided to end, unless that is
// nil. If stderr blocks, it gives up after two seconds. It calls os.Exit, since
// a process that is PID 1 cannot kill itself with a signal.
func exit(sig *SignalError, by *QuitEvent) {
	exiting.Lock()
	if sigpipe != nil {
		signal.Notify(make(chan os.Signal, 1), sigpipe)
	}
	collected := make(chan map[string]string, 1)
	// Both goroutines end with the process at the latest.
	go func() { collected <- allStacks() }()
	written := make(chan struct{})
	go func() {
		defer close(written)
		fmt.Fprintf(os.Stderr, "%v, ending at once\n", sig)
		seen, all := make(map[*QuitEvent]bool), map[string]string(nil)
		select {
		case all = <-collected:
		case <-time.After(time.Second): // too many goroutines, so no stacks
		}
		events := walking()
		if by != nil {
			events = append([]*QuitEvent{by}, events...)
		}
		for _, e := range events {
			if !seen[e] && !e.ended.HasFired() {
				fmt.Fprint(os.Stderr, e.report(seen, all))
			}
		}
	}()
	select {
	case <-written:
	case <-time.After(2 * time.Second):
	}
	os.Exit(sig.ExitCode())
}
