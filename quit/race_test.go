//go:build race

package quit_test

// underRace says that the race detector is on. It allows 8128 goroutines.
const underRace = true
