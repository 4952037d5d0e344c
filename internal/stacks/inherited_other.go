//go:build !gc

package stacks

import "unsafe"

// getProfLabel has no way to tell the labels of a goroutine.
func getProfLabel() unsafe.Pointer { return nil }
