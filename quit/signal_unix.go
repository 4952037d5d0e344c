//go:build unix || windows

package quit

import (
	"os"
	"syscall"
)

// sigpipe is the signal of a write to a broken pipe, or nil.
var sigpipe os.Signal = syscall.SIGPIPE

// staysIgnored reports whether s is a signal that programs such as nohup make a
// process ignore.
func staysIgnored(s os.Signal) bool { return s == syscall.SIGINT || s == syscall.SIGHUP }

func signalNumber(s os.Signal) (int, bool) {
	n, ok := s.(syscall.Signal)
	return int(n), ok
}
