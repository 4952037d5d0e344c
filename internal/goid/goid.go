// Package goid identifies the calling goroutine.
package goid

import (
	"bytes"
	"runtime"
	"strconv"
	"time"
)

// ID returns the number of the calling goroutine, or 0, which no goroutine has,
// if the number is unknown. The first line of a stack,
//
//	goroutine 7 [running]:
//
// is the only public place that has it; net/http reads it there too.
func ID() uint64 {
	var buf [64]byte
	if fields := bytes.Fields(header(buf[:])); len(fields) > 1 {
		id, _ := strconv.ParseUint(string(fields[1]), 10, 64)
		return id
	}
	return 0
}

// InBubble reports whether the calling goroutine is in a bubble of
// [testing/synctest]. The first line of a stack says so too:
//
//	goroutine 7 [running, synctest bubble 6]:
//
// The deeper the stack, the longer it takes to get that line. A time of the
// bubble's fake clock has no monotonic reading, so a time that has one rules a
// bubble out.
func InBubble() bool {
	if now := time.Now(); now != now.Round(0) {
		return false
	}
	var buf [64]byte
	return bytes.Contains(header(buf[:]), []byte(", synctest bubble "))
}

// header returns the first line of the calling goroutine's stack, as far as it
// fits into buf.
func header(buf []byte) []byte {
	line, _, _ := bytes.Cut(buf[:runtime.Stack(buf, false)], []byte("\n"))
	return line
}
