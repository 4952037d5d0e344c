package quit

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"
)

// exiting is locked by the first exit and never unlocked: all others wait for
// the end of the process.
var exiting sync.Mutex

// exit ends the process, after it has written to stderr which steps still run:
// of the event that decided to end, if there is one, and of all others. It
// waits for a stderr that takes nothing, but for no more than two seconds. It
// is os.Exit, and not the signal itself, since a process that is PID 1 cannot
// kill itself with one.
func exit(sig *SignalError, by *QuitEvent) {
	exiting.Lock()
	if sigpipe != nil {
		signal.Notify(make(chan os.Signal, 1), sigpipe)
	}
	collected := make(chan map[string]string, 1)
	go func() { collected <- allStacks() }() // ends with the process at the latest, as does the next
	written := make(chan struct{})
	go func() {
		defer close(written)
		fmt.Fprintf(os.Stderr, "%v, ending at once\n", sig)
		seen, all := make(map[*QuitEvent]bool), map[string]string(nil)
		select {
		case all = <-collected:
		case <-time.After(time.Second): // a crowd of goroutines: without the stacks, then
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
