package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/bench/internal/rows"
)

// output is what benchmarks would write: two runs of all operations, in which
// quit costs 100 and 200 and a peer that much of it.
func output(peer float64) string {
	var out strings.Builder
	for _, quit := range []float64{100, 200} {
		for _, o := range rows.Operations {
			key := ""
			if o.Key != "" {
				key = "/" + o.Key + "=1"
			}
			for name, figure := range map[string]float64{"quit": quit, o.Baseline: 2 * quit, "peer": quit * peer} {
				fmt.Fprintf(&out, "Benchmark%s/peer=%s%s-2 1", o.Benchmark, name, key)
				for _, m := range o.Measures {
					fmt.Fprintf(&out, " %g %s", figure, m.Unit)
				}
				fmt.Fprintln(&out)
			}
		}
	}
	return out.String()
}

func read(t *testing.T, text string) *rows.Rows {
	t.Helper()
	all, err := rows.Read(strings.NewReader(text), "the test")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestMark(t *testing.T) {
	for _, tt := range []struct {
		name string
		peer float64
		want string
	}{
		{"as much", 1, "| peer | 150 ns (0.50) |"},
		{"8 % less", 0.92, "| peer | 138 ns (0.46) |"},
		{"half", 0.5, "| peer | 75.0 ns (0.25) **▼** |"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			page, err := report(read(t, output(tt.peer)))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(page), tt.want) {
				t.Errorf("the page has no %q:\n%s", tt.want, page)
			}
			cheaper := strings.Contains(string(page), "- Starting a goroutine: peer 2.00 ×\n")
			if want := tt.peer == 0.5; cheaper != want {
				t.Errorf("the peer is among those that cost less: %v, want %v:\n%s", cheaper, want, page)
			}
		})
	}
}

// TestRatio has ratios within each run, which those of the medians are not.
func TestRatio(t *testing.T) {
	all := read(t, "BenchmarkGo/peer=a 1 1 ns/op\nBenchmarkGo/peer=b 1 1 ns/op\n"+
		"BenchmarkGo/peer=a 1 2 ns/op\nBenchmarkGo/peer=b 1 8 ns/op\n"+
		"BenchmarkGo/peer=a 1 9 ns/op\nBenchmarkGo/peer=b 1 3 ns/op\n")
	a, b := rows.Row{Benchmark: "Go", Peer: "a", Unit: "ns/op"}, rows.Row{Benchmark: "Go", Peer: "b", Unit: "ns/op"}
	if got, ok := all.Ratio(a, b); got != 1 || !ok {
		t.Errorf("the ratio is %v, %v, want 1", got, ok)
	}
	if got, ok := all.Median(a); got != 2 || !ok {
		t.Errorf("the median is %v, %v, want 2", got, ok)
	}
}

func TestMissingBaseline(t *testing.T) {
	for _, o := range rows.Operations {
		var rest []string
		for _, line := range strings.SplitAfter(output(1), "\n") {
			if !strings.HasPrefix(line, "Benchmark"+o.Benchmark+"/peer="+o.Baseline) {
				rest = append(rest, line)
			}
		}
		_, err := report(read(t, strings.Join(rest, "")))
		if err == nil || !strings.HasPrefix(err.Error(), o.Benchmark+" has no figure") {
			t.Errorf("without the baseline of %s, the error is %v", o.Benchmark, err)
		}
	}
}

// TestPage wants docs/cost.md to be what was measured.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", input))
	if err != nil {
		t.Fatal(err)
	}
	want, err := report(read(t, string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join("..", page)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/cost.md is not what was measured: run go run ./report (%v)", err)
	}
}
