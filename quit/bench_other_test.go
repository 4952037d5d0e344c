//go:build !unix

package quit_test

import "time"

// cpuTime reports that the processor time is not known.
func cpuTime() (d time.Duration, ok bool) { return 0, false }
