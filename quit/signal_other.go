//go:build !unix && !windows

package quit

import "os"

// sigpipe is the signal of a write to a broken pipe, or nil.
var sigpipe os.Signal

// staysIgnored reports whether s is a signal that programs such as nohup make a
// process ignore.
func staysIgnored(os.Signal) bool { return false }

func signalNumber(os.Signal) (int, bool) { return 0, false }
