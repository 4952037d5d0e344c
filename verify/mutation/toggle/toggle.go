// Package toggle switches on one of the mutants that are compiled into a
// program. The command verify/mutation writes calls of it into copies of the
// packages that it tests; nothing else uses it.
package toggle

import (
	"os"
	"strconv"
	"sync/atomic"
)

const (
	// ActiveVar is the environment variable with the number of the active
	// mutant. Without it, the program behaves like its source.
	ActiveVar = "QUIT_MUTANT"
	// ReachedVar is the environment variable with the name of a file, in which
	// byte n is set to 1 when mutant n is reached. The file must exist.
	ReachedVar = "QUIT_MUTANTS_REACHED"
)

// Most is a number above those of all mutants.
const Most = 1 << 16

var (
	active  = number()
	reached = open()
	seen    [Most]atomic.Bool
)

func number() int {
	n, err := strconv.Atoi(os.Getenv(ActiveVar))
	if err != nil {
		return -1
	}
	return n
}

func open() *os.File {
	name := os.Getenv(ReachedVar)
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		panic("toggle: " + err.Error())
	}
	return f
}

// On reports whether mutant n is on.
func On(n int) bool {
	if reached != nil && !seen[n].Swap(true) {
		if _, err := reached.WriteAt([]byte{1}, int64(n)); err != nil {
			panic("toggle: " + err.Error())
		}
	}
	return n == active
}

// Alt returns b if mutant n is on, and a otherwise.
func Alt[T any](n int, a, b T) T {
	if On(n) {
		return b
	}
	return a
}

// Never returns c, or a nil channel, on which nothing is ever sent or received,
// if mutant n is on.
func Never[C any](n int, c C) C {
	if On(n) {
		var none C
		return none
	}
	return c
}

type numeric interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 |
		~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr |
		~float32 | ~float64
}

// Sum returns a + b, or a - b if mutant n is on.
func Sum[T numeric](n int, a, b T) T {
	if On(n) {
		return a - b
	}
	return a + b
}

// Difference returns a - b, or a + b if mutant n is on.
func Difference[T numeric](n int, a, b T) T {
	if On(n) {
		return a + b
	}
	return a - b
}
