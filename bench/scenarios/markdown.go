//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

// The shortened table: the most telling scenarios, and the best-known peers.
var (
	briefScenarios = []string{"order", "request", "beside", "hang", "hang-named", "hang-middle",
		"worker-panics", "int-again", "connect", "hijacked"}
	briefPeers = []string{"quit", "hand", "run", "fx", "kratos", "suture"}
)

// The shortened table stands between these, in both files.
const (
	briefBegin = "<!-- brief: begin -->\n"
	briefEnd   = "<!-- brief: end -->\n"
)

// writeMarkdown writes docs/comparison.md, and its shortened table into the
// README.
func writeMarkdown(dir string, table Table, begin time.Time, took time.Duration,
	load string) error {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..")
	text := document(dir, table, begin, took, load)
	page := filepath.Join(root, "docs", "comparison.md")
	if err := os.WriteFile(page, []byte(text), 0o666); err != nil {
		return err
	}
	readme := filepath.Join(root, "README.md")
	old, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), briefBegin)
	_, after, ended := strings.Cut(rest, briefEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the shortened table", readme)
	}
	return os.WriteFile(readme, []byte(before+brief(text)+after), 0o666)
}

// brief returns the shortened table of a text, with its marks.
func brief(text string) string {
	_, rest, _ := strings.Cut(text, briefBegin)
	table, _, _ := strings.Cut(rest, briefEnd)
	return briefBegin + table + briefEnd
}

func document(dir string, table Table, begin time.Time, took time.Duration, load string) string {
	var b strings.Builder
	verdicts := make(map[string]map[scenario.Verdict]int)
	for _, row := range table {
		for peer, cell := range row {
			if verdicts[peer] == nil {
				verdicts[peer] = make(map[scenario.Verdict]int)
			}
			verdicts[peer][cell.Verdict]++
		}
	}
	fmt.Fprintf(&b, `# How programs behave when they are stopped

This file is written by a command, which takes about %d minutes:

`+"```sh\ncd bench && go run ./scenarios -markdown\n```"+`

%d scenarios and %d peers, measured on %s with %s on %s/%s with %d CPUs. Each cell is a real process, or ten if the cell says so. The process is a program that is built on the peer. It gets the signals and requests of the scenario, and keeps a journal. The cell is computed from the journal, the exit status and the output. This command shows one cell, with its journal:

`+"```sh\ncd bench && go run ./scenarios -peer quit -scenario hang-middle -v\n```"+`

A cell is one of these, with a figure if there is one:

- **kept**: the promise of the row was kept.
- **lost**: the promise was not kept. The number is that of the losses.
- **hung**: the process did not end within four seconds after its timeout, and was killed.
- **crashed**: the process ended by a panic or a signal.
- **n/a**: the peer has no such feature, or does something else by design.

Figures of time are those of a machine that runs %d processes at once%s.

`, max(1, int(took.Minutes()+0.5)), len(table), len(peers), begin.Format("2 January 2006"),
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), *parallel, load)

	b.WriteString("## In short\n\n" + briefBegin)
	writeTable(&b, table, briefRows(), briefColumns())
	b.WriteString(briefEnd + "\n")

	b.WriteString("## Peers\n\n| peer | version | used | kept | lost | hung | crashed | n/a |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, p := range peers {
		label := "`" + p.Name + "`"
		if p.Module != "" {
			label = fmt.Sprintf("`%s`: %s", p.Name, p.Module)
		}
		v := verdicts[p.Name]
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %d | %d | %d | %d |\n",
			label, p.version(dir), p.Used,
			v[scenario.Kept], v[scenario.Lost], v[scenario.Hung],
			v[scenario.Crashed], v[scenario.NA])
	}
	fmt.Fprintf(&b, `
The programs are in [bench/scenarios/peers](../bench/scenarios/peers), a short file each. They use the documented options that a scenario needs. Some packages leave resources to the caller: errgroup, run, tomb, suture, conc and the manager. There, defer statements close them, which run in reverse order, even after a panic. These packages could not be downloaded, and were not measured: %s.

A peer with many lost cells is not a bad package. Most of these packages were made for another purpose, such as supervision or dependency injection.

`, strings.Join(absent, ", "))

	b.WriteString("## Where others do better\n\n")
	better := false
	for _, t := range scenario.Themes() {
		for _, s := range t.Scenarios {
			if line := betterThanQuit(s, table[s.Name]); line != "" {
				fmt.Fprintf(&b, "- `%s`: %s. %s\n", s.Name, s.Title, line)
				better = true
			}
		}
	}
	if !better {
		b.WriteString("Nowhere in this run.\n")
	}
	b.WriteString("\nThe list has the promises that a peer kept and `quit` did not. " +
		"It also has the figures of peers that are better by 30 % or more; " +
		"for the time that a closer is given, by 10 % or more.\n\n")

	for _, t := range scenario.Themes() {
		fmt.Fprintf(&b, "## %s\n\n", t.Title)
		writeTable(&b, table, t.Scenarios, peers)
		b.WriteString("\n")
		for _, s := range t.Scenarios {
			fmt.Fprintf(&b, "- `%s`: %s. %s\n", s.Name, s.Title, s.Promise)
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func briefRows() (rows []*scenario.Scenario) {
	for _, name := range briefScenarios {
		rows = append(rows, scenario.Find(name))
	}
	return rows
}

func briefColumns() (columns []Peer) {
	for _, name := range briefPeers {
		columns = append(columns, *findPeer(name))
	}
	return columns
}

func writeTable(b *strings.Builder, table Table, rows []*scenario.Scenario, columns []Peer) {
	b.WriteString("| |")
	for _, p := range columns {
		fmt.Fprintf(b, " %s |", p.Label)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(columns)) + "\n")
	for _, s := range rows {
		fmt.Fprintf(b, "| %s |", s.Title)
		for _, p := range columns {
			text := strings.ReplaceAll(table[s.Name][p.Name].String(), "|", "\\|")
			if v := table[s.Name][p.Name].Verdict; v != scenario.Kept && v != scenario.NA {
				text = strings.Replace(text, string(v), "**"+string(v)+"**", 1)
			}
			fmt.Fprintf(b, " %s |", text)
		}
		b.WriteString("\n")
	}
}

// betterThanQuit names the peers that kept a promise that quit did not, or kept
// it with a much better figure; "" if none did.
func betterThanQuit(s *scenario.Scenario, row map[string]scenario.Cell) string {
	ours := row["quit"]
	var others []string
	for _, p := range peers {
		cell := row[p.Name]
		if p.Name == "quit" || cell.Verdict != scenario.Kept {
			continue
		}
		if ours.Verdict == scenario.Kept {
			theirs, ok := number(cell.Note)
			mine, ok2 := number(ours.Note)
			if !ok || !ok2 || !(s.Less && theirs < 0.7*mine || s.More && mine < 0.9*theirs) {
				continue
			}
		}
		others = append(others, strings.TrimSuffix(p.Label+" "+cell.Note, " "))
	}
	if len(others) == 0 {
		return ""
	}
	return fmt.Sprintf("`quit`: %v; %s", ours, strings.Join(others, ", "))
}

// number returns the number that a note begins with, in milliseconds if it is a
// time.
func number(note string) (n float64, ok bool) {
	var unit string
	if got, _ := fmt.Sscan(note, &n, &unit); got < 2 {
		return 0, false
	}
	if unit == "s" {
		n *= 1000
	}
	return n, true
}
