//go:build race

package quit

// UnderRace says that the race detector is on. It allows 8128 goroutines.
const UnderRace = true
