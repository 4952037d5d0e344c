package perturb

import (
	"syscall"
	"time"
)

// pause stops the thread for d. It does not call time.Sleep, which uses the
// fake clock in a bubble of testing/synctest.
func pause(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // a signal may end it early
}
