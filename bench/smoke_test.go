//go:build unix

package bench_test

import (
	"os"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/bench/internal/rows"
	"github.com/gracefulgo/graceful/internal/process"
)

// TestBenchmarks runs each benchmark once, with small sizes, and checks that
// there are all figures that the report needs.
func TestBenchmarks(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	run := func(bench string) (output string, err error) {
		cmd := process.Other(t, self, "-test.run=^$", "-test.bench="+bench, "-test.benchtime=1x",
			"-small", "-programs="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	var out string
	// A process may take three minutes, which a slow machine needs for a part.
	for _, bench := range []string{"^Benchmark(Exit|Binary)$", "^Benchmark([^BE].*)$"} {
		part, err := run(bench)
		if err != nil {
			t.Fatalf("%v\n%s", err, part)
		}
		out += part
	}
	all, err := rows.Read(strings.NewReader(out), "the benchmarks")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := all.Check(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	// A peer alone is a failure.
	alone, err := run("Go/peer=tomb")
	if want := "has run without its baseline, peer=errgroup"; err == nil ||
		!strings.Contains(alone, want) {
		t.Errorf("-bench Go/peer=tomb: %v, want a failure that says %q\n%s", err, want, alone)
	}
}
