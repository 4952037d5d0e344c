package quit_test

import (
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/gracefulgo/graceful/internal/process"
)

// sentBeforeStop sends itself signals just before it calls stop, again and
// again.
var sentBeforeStop = process.NewProgram("sent before stop", func([]string) {
	// A signal sent to the calling thread has arrived when the call returns.
	// One sent to the process may arrive later.
	runtime.LockOSThread()
	lost := 0
	const n = 1000
	for range n {
		q := quietEvent()
		stop := q.NotifySignal(syscall.SIGUSR1)
		if err := syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGUSR1); err != nil {
			panic(err)
		}
		stop()
		if !q.HasFired() {
			lost++
		}
	}
	process.Say("%d of %d lost", lost, n)
})

// TestChildSignalBeforeStop checks that a signal that came before stop has
// fired the event when stop returns.
func TestChildSignalBeforeStop(t *testing.T) {
	t.Parallel()
	p := sentBeforeStop.Start(t)
	p.Expect("0 of 1000 lost")
	p.WantEnd("exit status 0")
}
