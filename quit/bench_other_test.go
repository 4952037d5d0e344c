//go:build !unix

package quit_test

import "time"

// cpuTime reports that it cannot tell.
func cpuTime() (d time.Duration, ok bool) { return 0, false }
