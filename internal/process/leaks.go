//go:build unix

package process

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"runtime/pprof"
	"slices"
)

// profiled is a goroutine, or several with the same stack, in the text of a
// profile.
var profiled = regexp.MustCompile(`(?m)^\d+ @ .*\n(?:#.*\n)*`)

// noLeaks reports whether all goroutines that no other one can wake have one of
// the functions on their stacks, and writes those that have not to stderr. It
// knows of them if the tests were built with
// GOEXPERIMENT=goroutineleakprofile.
func noLeaks(onPurpose []string) bool {
	profile := pprof.Lookup("goroutineleak")
	if profile == nil {
		return true
	}
	var text bytes.Buffer
	if err := profile.WriteTo(&text, 1); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	leaked := profiled.FindAll(text.Bytes(), -1)
	leaked = slices.DeleteFunc(leaked, func(g []byte) bool {
		return slices.ContainsFunc(onPurpose, func(f string) bool {
			return bytes.Contains(g, []byte(f+"+"))
		})
	})
	for _, g := range leaked {
		fmt.Fprintf(os.Stderr, "leaked: %s\n", g)
	}
	return len(leaked) == 0
}
