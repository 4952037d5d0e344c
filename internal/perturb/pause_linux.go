package perturb

import (
	"syscall"
	"time"
)

// pause stops the thread for d. It is not time.Sleep, which in a bubble of
// testing/synctest would sleep by the clock of the bubble.
func pause(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // a signal may end it early
}
