// The program report writes docs/cost.md from the figures of run.sh:
//
//	go run ./report
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/gracefulgo/graceful/bench/internal/rows"
)

const (
	input = "testdata/cost.txt"
	page  = "../docs/cost.md"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	in, err := os.Open(input)
	if err != nil {
		log.Fatal(err)
	}
	defer in.Close()
	all, err := rows.Read(in, input)
	if err != nil {
		log.Fatal(err)
	}
	text, err := report(all)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(page, text, 0o666); err != nil {
		log.Fatal(err)
	}
}

// better is the factor by which a marked peer is at least cheaper than quit.
const better = 1.1

const head = `# What things cost

Written by ` + "`go run ./report`" + ` in [bench](../bench), from the output of its ` + "`run.sh`" + ` on one machine. ` +
	`A figure is the median of %s. ` +
	`In brackets is the ratio to the baseline, which is the row in bold: ` +
	`the median of the ratios within each run, since a shared machine is noisy. ` +
	`Compare ratios, and not times with those of another day.

**▼** marks the cells in which a peer costs less than quit, by more than 10 %%. ` +
	`The peers are used as their own documentation says. They do not make the same promises: ` +
	`the [README](../README.md#guarantees) lists those of quit. ` +
	`[scaling.md](scaling.md) is about machines with more cores.

In each run, a short operation was repeated for 100 ms. ` +
	`An operation with n closers, goroutines or events was repeated ` +
	`until there were 10,000 of them, and done once if n is larger. ` +
	`An exit is the mean of three. ` +
	`A cell is empty if the peer would take minutes, or all memory of the machine, in all runs.

`

// report returns the page.
func report(all *rows.Rows) ([]byte, error) {
	if err := all.Check(); err != nil {
		return nil, err
	}
	var page, cheaper bytes.Buffer
	runs := fmt.Sprintf("%d runs", all.Runs("Go"))
	fmt.Fprintf(&page, head, runs)
	for _, line := range all.System {
		fmt.Fprintf(&page, "    %s\n", line)
	}
	var body bytes.Buffer
	for _, o := range rows.Operations {
		fmt.Fprintf(&body, "\n## %s\n\n%s\n", o.Title, o.Text)
		for _, m := range o.Measures {
			if m.Title != "" {
				fmt.Fprintf(&body, "\n%s:\n", m.Title)
			}
			t := &table{all, o, m}
			t.write(&body)
			t.cheaper(&cheaper)
		}
		if o.Picture != nil {
			fmt.Fprintf(&body, "\n![%s](%s)\n", o.Picture.Title+", by "+o.Picture.X, o.Picture.File)
		}
	}
	page.WriteString("\n## Where quit costs more\n\n")
	if cheaper.Len() == 0 {
		page.WriteString("No peer costs less by more than 10 %.\n")
	} else {
		page.WriteString("This list has the peers that cost less by more than 10 %, " +
			"with the cost of quit as a multiple of theirs, " +
			"and the number of sizes or cases in the table for which it is so:\n\n")
		cheaper.WriteTo(&page)
	}
	body.WriteTo(&page)
	return page.Bytes(), nil
}

// table is one figure of an operation, for all peers.
type table struct {
	all       *rows.Rows
	operation rows.Operation
	measure   rows.Measure
}

func (t *table) row(peer, value string) rows.Row {
	return rows.Row{
		Benchmark: t.operation.Benchmark, Peer: peer, Value: value, Unit: t.measure.Unit,
	}
}

func (t *table) write(page *bytes.Buffer) {
	values := t.all.Values(t.operation.Benchmark, t.measure.Unit)
	page.WriteString("\n| |")
	for _, v := range values {
		switch t.operation.Key {
		case "n":
			fmt.Fprintf(page, " n = %s |", thousands(v))
		case "procs":
			fmt.Fprintf(page, " GOMAXPROCS = %s |", v)
		default:
			fmt.Fprintf(page, " %s |", v)
		}
	}
	page.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(values)) + "\n")
	for _, peer := range t.all.Peers(t.operation.Benchmark, t.measure.Unit) {
		if peer == t.operation.Baseline {
			fmt.Fprintf(page, "| **%s** |", peer)
		} else {
			fmt.Fprintf(page, "| %s |", peer)
		}
		for _, v := range values {
			figure, ok := t.all.Median(t.row(peer, v))
			if !ok {
				page.WriteString(" |")
				continue
			}
			if n, err := strconv.Atoi(v); t.measure.PerN && err == nil {
				figure /= float64(n)
			}
			fmt.Fprintf(page, " %s", show(figure, t.measure.Unit))
			ratio, ok := t.all.Ratio(t.row(peer, v), t.row(t.operation.Baseline, v))
			if ok && peer != t.operation.Baseline {
				fmt.Fprintf(page, " (%s)", short(ratio))
			}
			if t.beats(peer, v) > better {
				page.WriteString(" **▼**")
			}
			page.WriteString(" |")
		}
		page.WriteString("\n")
	}
}

// beats returns how much more quit costs than the peer, or 0 if the peer is
// quit in another form.
func (t *table) beats(peer, value string) float64 {
	if strings.HasPrefix(peer, rows.Quit) {
		return 0
	}
	ratio, _ := t.all.Ratio(t.row(rows.Quit, value), t.row(peer, value))
	return ratio
}

// cheaper writes a line with each peer that beats quit: by how much at least
// and at most, and at how many values of the key.
func (t *table) cheaper(page *bytes.Buffer) {
	var peers []string
	values := t.all.Values(t.operation.Benchmark, t.measure.Unit)
	for _, peer := range t.all.Peers(t.operation.Benchmark, t.measure.Unit) {
		var by []float64
		for _, v := range values {
			if x := t.beats(peer, v); x > better {
				by = append(by, x)
			}
		}
		switch {
		case len(by) == 0:
		case len(values) == 1:
			peers = append(peers, fmt.Sprintf("%s %s ×", peer, short(by[0])))
		case len(by) == 1:
			peers = append(peers, fmt.Sprintf("%s %s × (1 of %d)", peer, short(by[0]), len(values)))
		default:
			peers = append(peers, fmt.Sprintf("%s %s–%s × (%d of %d)", peer,
				short(slices.Min(by)), short(slices.Max(by)), len(by), len(values)))
		}
	}
	if len(peers) == 0 {
		return
	}
	title := t.operation.Title
	if t.measure.Short != "" {
		title += ", " + t.measure.Short
	}
	fmt.Fprintf(page, "- %s: %s\n", title, strings.Join(peers, ", "))
}

// show returns a figure with three digits.
func show(figure float64, unit string) string {
	switch unit {
	case "size-bytes":
		return short(figure/1e6) + " MB"
	case "packages":
		return fmt.Sprint(figure)
	}
	switch {
	case figure >= 1e9:
		return short(figure/1e9) + " s"
	case figure >= 1e6:
		return short(figure/1e6) + " ms"
	case figure >= 1e3:
		return short(figure/1e3) + " µs"
	}
	return short(figure) + " ns"
}

func short(x float64) string {
	switch {
	case x >= 100:
		return thousands(strconv.FormatFloat(x, 'f', 0, 64))
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	case x >= 0.01:
		return strconv.FormatFloat(x, 'f', 2, 64)
	}
	return strconv.FormatFloat(x, 'g', 2, 64)
}

// thousands returns "1,000" for "1000".
func thousands(s string) string {
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
