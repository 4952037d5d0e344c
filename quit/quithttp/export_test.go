package quithttp

import "github.com/gracefulgo/graceful/quit"

// Fragment returns the part of the page that shows a report.
func Fragment(r quit.Report) string {
	s := newShot(r)
	return string(s.html(s.clock))
}

// WithoutPart switches a part of the stop off, for this process.
func WithoutPart(name string) {
	switch name {
	case "refuse":
		parts.refuse = false
	case "drain":
		parts.drain = false
	case "header":
		parts.header = false
	default:
		panic("no part of the stop: " + name)
	}
}
