//go:build race

package quit

// UnderRace reports whether the race detector is on. The detector allows at
// most 8128 goroutines.
const UnderRace = true
