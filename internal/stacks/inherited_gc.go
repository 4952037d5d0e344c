//go:build gc

package stacks

import "unsafe"

// Package runtime/pprof can set the labels of a goroutine, but not tell them.
// So there is no other way to add to what a go statement inherits: without
// this, the labels of a tracer would be lost in each goroutine that we start.
// The runtime keeps this func for those who use it by this name
// (go.dev/issue/67401). Its result is opaque here, but for its type, of which
// context.Context knows.
//
//go:linkname getProfLabel runtime/pprof.runtime_getProfLabel
func getProfLabel() unsafe.Pointer
