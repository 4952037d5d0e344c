//go:build unix

package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

var heavy = flag.Bool("heavy", false, "test the peers that take minutes to build, too")

// programs is the folder of the peers' programs.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8") // processes, most of which wait
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "scenarios")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		programs = dir
		if err := build(dir, tested()); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// tested returns the peers to test.
func tested() (some []Peer) {
	for _, p := range peers {
		if p.Tags == "" || *heavy {
			some = append(some, p)
		}
	}
	return some
}

// measureCell measures a cell. On a machine that is too busy a client may be
// late, or the time of a shutdown be over too early: so a cell that differs
// from the wanted one is measured once more.
func measureCell(t *testing.T, s *scenario.Scenario, peer string, want func(scenario.Cell) bool) {
	t.Helper()
	t.Parallel()
	for try := range 2 {
		var trace strings.Builder
		cell := scenario.Run(s, filepath.Join(programs, peer), &trace)
		if want(cell) {
			return
		}
		t.Logf("%s%s with %s: %v", trace.String(), s.Name, peer, cell)
		if try == 1 {
			t.Errorf("%s with %s: %v, twice", s.Name, peer, cell)
		}
	}
}

func isKept(c scenario.Cell) bool { return c.Verdict == scenario.Kept }

// TestQuit checks that package quit keeps the promise of every scenario.
func TestQuit(t *testing.T) {
	for _, theme := range scenario.Themes() {
		for _, s := range theme.Scenarios {
			s := *s
			s.Times = min(s.Times, 3)
			t.Run(s.Name, func(t *testing.T) { measureCell(t, &s, "quit", isKept) })
		}
	}
}

// TestPeers checks that each adapter works, in scenarios that no package fails.
func TestPeers(t *testing.T) {
	for _, p := range tested() {
		for _, name := range []string{"clean", "request"} {
			t.Run(p.Name+"/"+name, func(t *testing.T) {
				measureCell(t, scenario.Find(name), p.Name, isKept)
			})
		}
	}
}

// TestScenariosBite checks that promises that a peer is known to break are
// found broken.
func TestScenariosBite(t *testing.T) {
	for _, c := range []struct {
		scenario, peer string
		want           scenario.Cell // without the note
	}{
		{"order", "article", scenario.Cell{Verdict: scenario.Lost, N: 8}},
		{"nothing", "article", scenario.Cell{Verdict: scenario.Lost}},
		{"resource", "article", scenario.Cell{Verdict: scenario.Lost, N: 12}},
		{"start", "fx", scenario.Cell{Verdict: scenario.Crashed, N: 1}},
		{"hang-middle", "fx", scenario.Cell{Verdict: scenario.Lost, N: 2}},
		{"hang", "hand", scenario.Cell{Verdict: scenario.Hung}},
		{"worker-panics", "hand", scenario.Cell{Verdict: scenario.Crashed, N: 3}},
		{"hijacked", "hand", scenario.Cell{Verdict: scenario.Lost, N: 1}},
		{"silent", "hand", scenario.Cell{Verdict: scenario.Lost}},
		{"term-5", "run", scenario.Cell{Verdict: scenario.Crashed, N: 2}},
		{"panic", "closer", scenario.Cell{Verdict: scenario.Lost, N: 2}},
		{"add", "fx", scenario.Cell{Verdict: scenario.NA}},
	} {
		t.Run(c.scenario+"/"+c.peer, func(t *testing.T) {
			s := *scenario.Find(c.scenario)
			s.Timed = false // once is enough
			measureCell(t, &s, c.peer, func(got scenario.Cell) bool {
				got.Note = ""
				return got == c.want
			})
		})
	}
}

// TestScenarios checks that the table is well formed.
func TestScenarios(t *testing.T) {
	seen := make(map[string]bool)
	for _, theme := range scenario.Themes() {
		for _, s := range theme.Scenarios {
			if seen[s.Name] || s.Title == "" || s.Build == nil || s.Judge == nil ||
				!strings.HasSuffix(strings.TrimSuffix(s.Promise, ")"), ".") {
				t.Errorf("scenario %q: a second one, or not complete", s.Name)
			}
			seen[s.Name] = true
		}
	}
	if len(seen) < 36 {
		t.Errorf("%d scenarios, want 36 or more", len(seen))
	}
	for _, name := range briefScenarios {
		if !seen[name] {
			t.Errorf("no scenario %q for the brief table", name)
		}
	}
	for _, name := range briefPeers {
		if findPeer(name) == nil {
			t.Errorf("no peer %q for the brief table", name)
		}
	}
}

// TestComparison checks that docs/comparison.md was written by this command,
// with the current peers, scenarios and text around the cells.
func TestComparison(t *testing.T) {
	file, err := os.ReadFile("../../docs/comparison.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if brief(string(readme)) != brief(string(file)) {
		t.Error("the table in README.md is not the one in docs/comparison.md: " +
			"go run ./scenarios -markdown")
	}
	written := make(map[string]bool)
	for line := range strings.Lines(string(file)) {
		written[strings.TrimSuffix(line, "\n")] = true
	}
	for line := range strings.Lines(document(programs, nil, time.Now(), time.Minute, "")) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "- `") && !strings.HasPrefix(line, "| |") &&
			!strings.HasPrefix(line, "## ") {
			continue // it has figures
		}
		if !written[line] {
			t.Errorf("docs/comparison.md has no line\n%s\ngo run ./scenarios -markdown", line)
		}
	}
}
