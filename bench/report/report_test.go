package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/bench/internal/rows"
	"github.com/gracefulgo/graceful/bench/internal/sample"
)

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
		{"as much", 1, "| peer | 150 ns (0.50) | 150 ns (0.50) |"},
		{"8 % less", 0.92, "| peer | 138 ns (0.46) | 138 ns (0.46) |"},
		{"half", 0.5, "| peer | 75.0 ns (0.25) **▼** | 75.0 ns (0.25) **▼** |"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			page, err := report(read(t, sample.Output(tt.peer)))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(page), tt.want) {
				t.Errorf("the page has no %q:\n%s", tt.want, page)
			}
			cheaper := strings.Contains(string(page),
				"- Starting a goroutine: peer 2.00–2.00 × (2 of 2)\n")
			if want := tt.peer == 0.5; cheaper != want {
				t.Errorf("the peer is among those that cost less: %v, want %v:\n%s",
					cheaper, want, page)
			}
		})
	}
}

// TestRatio has ratios within each run, which differ from those of the medians.
func TestRatio(t *testing.T) {
	all := read(t, "BenchmarkGo/peer=a 1 1 ns/op\nBenchmarkGo/peer=b 1 1 ns/op\n"+
		"BenchmarkGo/peer=a 1 2 ns/op\nBenchmarkGo/peer=b 1 8 ns/op\n"+
		"BenchmarkGo/peer=a 1 9 ns/op\nBenchmarkGo/peer=b 1 3 ns/op\n")
	a, b := rows.Row{Benchmark: "Go", Peer: "a", Unit: "ns/op"},
		rows.Row{Benchmark: "Go", Peer: "b", Unit: "ns/op"}
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
		for _, line := range strings.SplitAfter(sample.Output(1), "\n") {
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

// TestPage checks that docs/cost.md has the current figures.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", input))
	got, noPage := os.ReadFile(filepath.Join("..", page))
	if err != nil && noPage != nil {
		t.Skip("nothing has been measured yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	want, err := report(read(t, string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("docs/cost.md is not what was measured: run go run ./report (%v)", noPage)
	}
}
