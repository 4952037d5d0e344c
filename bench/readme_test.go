//go:build unix

package bench_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/internal/process"
)

// TestReadmeCommands runs the commands of the README that measure, in a clean
// checkout. They take many minutes, so they run for one cell of the table, and
// for the sizes of the programs alone:
//
//	cd bench && go run ./scenarios -markdown
//	cd bench && ./run.sh && go run ./report && go run ./plot && go run ./scaling
func TestReadmeCommands(t *testing.T) {
	checkout := process.Checkout(t)
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	run := func(line string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Dir = checkout
		cmd.Env = append(os.Environ(), "GOWORK=off", "RUNS=0", "PROGRAMS="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		return string(out)
	}
	cell := run("cd bench && go run ./scenarios -peer quit -scenario order")
	if !strings.Contains(cell, "kept") {
		t.Errorf("the scenarios print\n%s\nwant a cell that is kept", cell)
	}

	costs := filepath.Join(checkout, "bench", "testdata", "cost.txt")
	measured, err := os.ReadFile(costs)
	if err != nil {
		t.Fatal(err)
	}
	run("cd bench && ./run.sh")
	got, err := os.ReadFile(costs)
	if err != nil || !bytes.Contains(got, []byte("BenchmarkBinary/peer=quit")) {
		t.Errorf("run.sh writes\n%s\n%v, want the sizes of the programs in it", got, err)
	}
	if err := os.WriteFile(costs, measured, 0o666); err != nil {
		t.Fatal(err)
	}
	run("cd bench && go run ./report && go run ./plot && go run ./scaling")
}
