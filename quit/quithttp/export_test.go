package quithttp

import "github.com/gracefulgo/graceful/quit"

// Fragment returns the part of the page that shows a report.
func Fragment(r quit.Report) string {
	s := newShot(r)
	return string(s.html(s.clock))
}
