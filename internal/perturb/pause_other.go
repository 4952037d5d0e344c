//go:build !linux

package perturb

import "time"

// pause keeps the thread busy for about d.
func pause(d time.Duration) { work(int(d)) }
