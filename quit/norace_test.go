//go:build !race

package quit

// UnderRace reports whether the race detector is on. It allows 8128 goroutines.
const UnderRace = false
