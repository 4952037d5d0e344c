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

// profiled matches a goroutine, or several with the same stack, in the text of
// a profile.
var profiled = regexp.MustCompile(`(?m)^\d+ @ .*\n(?:#.*\n)*`)

// noLeaks reports whether all leaked goroutines, which no other goroutine can
// wake, are in one of the functions onPurpose. It writes the others to stderr.
// It finds leaks only if the tests were built with
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
