// The program plot draws the curves of docs/cost.md and docs/scaling.md from
// the figures of run.sh:
//
//	go run ./plot
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot/plotter"

	"github.com/gracefulgo/graceful/bench/internal/chart"
	"github.com/gracefulgo/graceful/bench/internal/rows"
	"github.com/gracefulgo/graceful/bench/internal/scaling"
)

const (
	input  = "testdata/cost.txt"
	output = "../docs"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("plot: ")
	in, err := os.Open(input)
	if err != nil {
		log.Fatal(err)
	}
	defer in.Close()
	all, err := rows.Read(in, input)
	if err != nil {
		log.Fatal(err)
	}
	pictures, err := draw(all)
	if err != nil {
		log.Fatal(err)
	}
	for name, svg := range pictures {
		if err := os.WriteFile(filepath.Join(output, name), svg, 0o666); err != nil {
			log.Fatal(err)
		}
	}
}

// draw returns all pictures by the names of their files.
func draw(all *rows.Rows) (map[string][]byte, error) {
	pictures := make(map[string][]byte)
	for _, o := range rows.Operations {
		if o.Picture == nil {
			continue
		}
		c, err := measured(all, o)
		if err != nil {
			return nil, err
		}
		if pictures[o.Picture.File], err = c.SVG(); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Picture.File, err)
		}
	}
	m, err := scaling.From(all)
	if err != nil {
		return nil, err
	}
	pictures["scaling.svg"], err = computed(m).SVG()
	return pictures, err
}

// measured returns the curves of an operation's first figure.
func measured(all *rows.Rows, o rows.Operation) (chart.Chart, error) {
	unit := o.Measures[0].Unit
	c := chart.Chart{Title: o.Picture.Title, Subtitle: o.Picture.Subtitle, X: o.Picture.X,
		XLabel: chart.Count}
	for _, peer := range o.Picture.Peers {
		curve := chart.Curve{Name: peer.Label, Strong: peer.Peer == rows.Quit}
		for _, value := range all.Values(o.Benchmark, unit) {
			x, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return c, err
			}
			y, ok := all.Median(rows.Row{Benchmark: o.Benchmark, Peer: peer.Peer,
				Value: value, Unit: unit})
			if !ok {
				continue
			}
			if o.Measures[0].PerN {
				y /= x
			}
			curve.Points = append(curve.Points, plotter.XY{X: x, Y: y})
		}
		if len(curve.Points) == 0 {
			return c, fmt.Errorf("%s has no figures of %s", o.Benchmark, peer.Peer)
		}
		c.Curves = append(c.Curves, curve)
	}
	for _, value := range all.Values(o.Benchmark, unit) {
		x, _ := strconv.ParseFloat(value, 64) // it was parsed above
		c.XTicks = append(c.XTicks, x)
	}
	return c, nil
}

// computed returns the cost of counting on more cores.
func computed(m scaling.Measured) chart.Chart {
	c := chart.Chart{
		YMin:  10,
		Title: "Counting on more cores than were measured on",
		Subtitle: "An Add and a Done, the time that they take each core. One and two cores " +
			"measured, more computed",
		X:      "cores that count all the time",
		XLabel: chart.Count,
	}
	low, high := m.Add()
	curves := []chart.Curve{
		{Name: "WaitGroup, at most", Dashed: true},
		{Name: "WaitGroup, at least", Like: "WaitGroup, at most", Dashed: true},
		{Name: "quit, stripe elsewhere", Dashed: true},
		{Name: "quit", Dashed: true, Strong: true},
		{Name: "measured", Like: "WaitGroup, at most", Left: true,
			Points: plotter.XYs{{X: 1, Y: m.WaitGroup}, {X: 2, Y: m.WaitGroupOnTwo}}},
		{Name: "measured", Strong: true, Below: true,
			Points: plotter.XYs{{X: 1, Y: m.Quit}, {X: 2, Y: m.QuitOnTwo}}},
	}
	c.XTicks = []float64{1}
	for _, n := range scaling.Cores {
		x := float64(n)
		c.XTicks = append(c.XTicks, x)
		for i, y := range []float64{
			m.Shared(n, high), m.Shared(n, low), m.Fresh(n, high), m.Striped(n, high),
		} {
			curves[i].Points = append(curves[i].Points, plotter.XY{X: x, Y: y})
		}
	}
	c.Band = &chart.Band{Low: curves[1].Points, High: curves[0].Points}
	c.Curves = curves
	return c
}
