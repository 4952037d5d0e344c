// Package scaling computes the cost of counting on more cores than the machine
// of the measurement has. docs/scaling.md explains it.
package scaling

import (
	"fmt"
	"math/bits"

	"github.com/gracefulgo/graceful/bench/internal/rows"
)

// Cores are the numbers of cores for which the cost is computed.
var Cores = []int{2, 4, 8, 16, 32, 64, 128}

// Measured is the input of the computation, in ns.
type Measured struct {
	Own       float64 // an atomic add to a line in the core's own cache
	Moved     float64 // an atomic add to a line in the other core's cache
	Contended float64 // an atomic add, while both cores add to one line: wall time by all adds

	// An Add and a Done: the time that they take the core, on one core and on
	// each of two at once.
	WaitGroup, WaitGroupOnTwo float64
	Quit, QuitOnTwo           float64
}

// From takes the medians of the figures.
func From(all *rows.Rows) (Measured, error) {
	var m Measured
	for _, f := range []struct {
		to               *float64
		benchmark        string
		peer, procs      string
		secondsOfOneCore float64 // in a second
	}{
		{&m.Own, "CacheLine", "own", "", 1},
		{&m.Moved, "CacheLine", "moved", "", 1},
		{&m.Contended, "CacheLine", "contended", "", 1},
		{&m.WaitGroup, "AddDone", "hand", "1", 1},
		{&m.WaitGroupOnTwo, "AddDone", "hand", "2", 2},
		{&m.Quit, "AddDone", "quit", "1", 1},
		{&m.QuitOnTwo, "AddDone", "quit", "2", 2},
	} {
		row := rows.Row{Benchmark: f.benchmark, Peer: f.peer, Value: f.procs, Unit: "ns/op"}
		ns, ok := all.Median(row)
		if !ok {
			return m, fmt.Errorf("there is no figure of %v", row)
		}
		*f.to = ns * f.secondsOfOneCore
	}
	return m, nil
}

// Add returns how long a line that all cores add to is busy with one add: at
// least, according to the time that it takes to move the line, and at most,
// according to a WaitGroup on two cores.
func (m Measured) Add() (least, most float64) {
	// On each of two cores, two adds, for each of which the core had to wait
	// for one of the other.
	waitGroup := m.WaitGroupOnTwo / 4
	return min(m.Moved, waitGroup), max(m.Moved, waitGroup)
}

// Shared returns the time that an Add and a Done on one counter take each of n
// cores, if its line is busy for add with each add.
func (m Measured) Shared(n int, add float64) float64 {
	return max(m.WaitGroup, 2*float64(n)*add)
}

// Striped returns the time that an Add and a Done of package quit take each of
// n cores whose goroutines stay on their stripes.
func (m Measured) Striped(n int, add float64) float64 {
	return m.Quit + 2*add*float64(n-1)/float64(Stripes(n))
}

// Fresh is Striped for goroutines that find their stripe in another core's
// cache each time.
func (m Measured) Fresh(n int, add float64) float64 {
	return m.Striped(n, add) + 2*add
}

// Close returns how long it takes a drain to close all stripes, in ns.
func (m Measured) Close(n int) float64 { return float64(Stripes(n)) * m.Moved }

// Stripes returns the number of stripes of package quit on n cores.
func Stripes(n int) int { return 1 << bits.Len(uint(8*n-1)) }

// Bytes returns their size.
func Bytes(n int) int { return 128 * Stripes(n) }
