//go:build unix

package work

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// failing returns a channel that tells Poll to fail, or nil if it never does.
func failing() <-chan os.Signal {
	if os.Getenv(Fault) != "fail" {
		return nil
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	fmt.Println("poller can fail")
	return c
}
