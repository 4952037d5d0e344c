//go:build !race

package article

const race = false
