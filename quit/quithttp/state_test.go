package quithttp

import (
	"net/http"
	"testing"
)

// TestConnState packs a state and its times into a word and takes them out. A
// period that is too long for its bits changes nothing else.
func TestConnState(t *testing.T) {
	const longest = 1<<40 - 1
	for _, state := range []http.ConnState{http.StateNew, http.StateActive, http.StateClosed} {
		for _, since := range []connState{0, 1, longest} {
			for _, period := range []connState{0, 1, maxPeriod, maxPeriod + 1, longest} {
				s := newState(state, since, period)
				want := min(period, maxPeriod)
				if s.state() != state || s.since() != since || s.period() != want {
					t.Errorf("%v since %d with period %d became %v since %d with period %d",
						state, since, period, s.state(), s.since(), s.period())
				}
			}
		}
	}
}
