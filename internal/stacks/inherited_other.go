//go:build !gc

package stacks

import "unsafe"

// getProfLabel returns nil, since other compilers have no way to get the labels
// of a goroutine.
func getProfLabel() unsafe.Pointer { return nil }
