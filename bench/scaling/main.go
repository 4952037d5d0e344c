// The program scaling writes docs/scaling.md: its text is text.md, which is
// written by hand, with the figures of run.sh.
//
//	go run ./scaling
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/gracefulgo/graceful/bench/internal/rows"
	"github.com/gracefulgo/graceful/bench/internal/scaling"
)

//go:embed text.md
var text string

const (
	input = "testdata/cost.txt"
	page  = "../docs/scaling.md"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("scaling: ")
	in, err := os.Open(input)
	if err != nil {
		log.Fatal(err)
	}
	defer in.Close()
	all, err := rows.Read(in, input)
	if err != nil {
		log.Fatal(err)
	}
	m, err := scaling.From(all)
	if err != nil {
		log.Fatal(err)
	}
	text, err := fill(text, all, m)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(page, []byte(text), 0o666); err != nil {
		log.Fatal(err)
	}
}

// fill returns text with figures in place of lines such as "{{check}}".
func fill(text string, all *rows.Rows, m scaling.Measured) (string, error) {
	for name, figures := range map[string]string{
		"measured": measured(all, m),
		"check":    check(m),
		"computed": computed(m),
		"sockets":  sockets(m),
	} {
		place := "\n{{" + name + "}}\n"
		if strings.Count(text, place) != 1 {
			return "", fmt.Errorf("text.md has no line {{%s}}, or several", name)
		}
		text = strings.Replace(text, place, "\n"+figures, 1)
	}
	return text, nil
}

func measured(all *rows.Rows, m scaling.Measured) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "| measured, the median of %d runs | |\n| --- | ---: |\n",
		all.Runs("CacheLine"))
	for _, row := range []struct {
		name string
		ns   float64
	}{
		{"an atomic add to a line in the core's own cache", m.Own},
		{"an atomic add to a line that the other core has changed: *h*", m.Moved},
		{"an atomic add while both cores add to one line: the time by all adds", m.Contended},
		{"Add and Done of a `sync.WaitGroup`, on one core: *w*", m.WaitGroup},
		{"the same on each of two cores at once", m.WaitGroupOnTwo},
		{"AddGoroutine and DoneGoroutine of `quit`, on one core: *q*", m.Quit},
		{"the same on each of two cores at once", m.QuitOnTwo},
	} {
		fmt.Fprintf(&b, "| %s | %.1f ns |\n", row.name, row.ns)
	}
	return b.String()
}

func check(m scaling.Measured) string {
	var b bytes.Buffer
	b.WriteString("| on two cores | computed | measured |\n| --- | ---: | ---: |\n")
	row := func(name string, computed, measured float64) {
		fmt.Fprintf(&b, "| %s | %.0f ns | %.0f ns |\n", name, computed, measured)
	}
	row("an atomic add to one line, 2 *h*", 2*m.Moved, 2*m.Contended)
	row("Add and Done of a `sync.WaitGroup`, 4 *h*", m.Shared(2, m.Moved), m.WaitGroupOnTwo)
	row("Add and Done of `quit`, *q* + 2 *h* / 16", m.Striped(2, m.Moved), m.QuitOnTwo)
	return b.String()
}

func computed(m scaling.Measured) string {
	var b bytes.Buffer
	b.WriteString("| cores | `sync.WaitGroup` | `quit` | `quit`, stripe elsewhere " +
		"| all cores, `sync.WaitGroup` | all cores, `quit` " +
		"| stripes | their size | to close them |\n" +
		"| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	least, most := m.Add()
	for _, n := range scaling.Cores {
		low, high := m.Shared(n, least), m.Shared(n, most)
		quit, fresh := m.Striped(n, most), m.Fresh(n, most)
		fmt.Fprintf(&b, "| %d | %.0f–%.0f ns | %.0f ns | %.0f ns | %.0f–%.0f | %.0f–%.0f "+
			"| %d | %d KiB | %.1f µs |\n", n,
			low, high, quit, fresh, perMicrosecond(n, high), perMicrosecond(n, low),
			perMicrosecond(n, fresh), perMicrosecond(n, quit),
			scaling.Stripes(n), scaling.Bytes(n)/1024, m.Close(n)/1000)
	}
	return b.String()
}

// perMicrosecond is the number of pairs of Add and Done that all cores do.
func perMicrosecond(cores int, ns float64) float64 { return float64(cores) * 1000 / ns }

// sockets is computed for the larger machines. A line takes times as long
// between two sockets as inside one, and half of the moves are between two.
func sockets(m scaling.Measured) string {
	var b bytes.Buffer
	_, most := m.Add()
	b.WriteString("| cores, half of them on each socket | factor *r* (assumed) " +
		"| `sync.WaitGroup`, at most | `quit` | `quit`, stripe elsewhere |\n" +
		"| ---: | ---: | ---: | ---: | ---: |\n")
	for _, n := range []int{64, 128} {
		for _, factor := range []float64{2, 3} {
			add := most * (1 + factor) / 2
			fmt.Fprintf(&b, "| %d | %.0f | %.0f ns | %.0f ns | %.0f ns |\n", n, factor,
				m.Shared(n, add), m.Striped(n, add), m.Fresh(n, add))
		}
	}
	return b.String()
}
