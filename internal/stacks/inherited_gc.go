//go:build gc

package stacks

import "unsafe"

// getProfLabel returns the labels of the calling goroutine. Package
// runtime/pprof can set them, but not return them. Without getProfLabel, the
// labels of a tracer would be lost in each goroutine that this module starts.
// The runtime keeps this func available for linkname (go.dev/issue/67401).
//
//go:linkname getProfLabel runtime/pprof.runtime_getProfLabel
func getProfLabel() unsafe.Pointer
