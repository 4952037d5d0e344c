// Package sample has the output of benchmarks that were never run, for tests.
package sample

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gracefulgo/graceful/bench/internal/rows"
)

// Output returns the output of two runs of all benchmarks, in which quit costs
// 100 and 200, baselines twice as much, and all others, among which is one
// named "peer", the given multiple of quit.
func Output(others float64) string {
	var out strings.Builder
	for _, quit := range []float64{100, 200} {
		for _, o := range rows.Operations {
			peers := []string{rows.Quit, o.Baseline, "peer"}
			if o.Picture != nil {
				for _, p := range o.Picture.Peers {
					if !slices.Contains(peers, p.Peer) {
						peers = append(peers, p.Peer)
					}
				}
			}
			values := []string{"/" + o.Key + "=1", "/" + o.Key + "=2"}
			if o.Key == "" {
				values = []string{""}
			}
			for _, peer := range peers {
				figure := quit * others
				switch peer {
				case rows.Quit:
					figure = quit
				case o.Baseline:
					figure = 2 * quit
				}
				for _, value := range values {
					fmt.Fprintf(&out, "Benchmark%s/peer=%s%s-2 1", o.Benchmark, peer, value)
					for _, m := range o.Measures {
						fmt.Fprintf(&out, " %g %s", figure, m.Unit)
					}
					fmt.Fprintln(&out)
				}
			}
		}
		for i, name := range []string{"own", "moved", "contended"} {
			fmt.Fprintf(&out, "BenchmarkCacheLine/case=%s-2 1 %g ns/op\n",
				name, quit/10*float64(i+1))
		}
	}
	return out.String()
}
