package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	boxWidth  = 130
	boxHeight = 36
	laneWidth = 34 // of a line that passes a level
	gap       = 22
	rowHeight = 110
	margin    = 24
	side      = 190 // the column of packages for tests
)

const style = `<style>
:root { color-scheme: light dark; --text: #1c1f24; --quiet: #5b626d; --line: #7d8794;
  --box: #eef2f6; --own: #d7e6f5; --edge: #9aa4b1; --page: #fbfbfa }
@media (prefers-color-scheme: dark) { :root { --text: #e5e7ea; --quiet: #9aa2ad;
  --line: #6f7885; --box: #1f242b; --own: #213a52; --edge: #59636f; --page: #15171b } }
.page { fill: var(--page) }
rect.box { fill: var(--box); stroke: var(--edge) }
rect.own { fill: var(--own) }
path { fill: none; stroke: var(--line); stroke-width: 1.3 }
marker path { fill: var(--line); stroke: none }
text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif;
  fill: var(--text) }
.name { text-anchor: middle }
.quiet { fill: var(--quiet); font-size: 12px }
</style>
`

// A place is a box of a package, or a lane in which a line passes a level.
type place struct {
	name     string // "" for a lane
	level    int
	up, down []*place
	x        float64 // of its middle
}

func (p *place) width() float64 {
	if p.name == "" {
		return laneWidth
	}
	return boxWidth
}

// draw draws the packages, each below those that import it. A line that passes
// a level has a lane of its own there, so no line crosses a box.
func draw(g *graph) string {
	tests := g.testing()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(g.imports)) {
		if !tests[name] {
			names = append(names, name)
		}
	}
	rows, lines := places(g, names)
	arrange(rows)

	widest := 0.0
	for _, row := range rows {
		widest = max(widest, rowWidth(row))
	}
	for _, row := range rows {
		x := margin + (widest-rowWidth(row))/2
		for _, p := range row {
			p.x = x + p.width()/2
			x += p.width() + gap
		}
	}
	top := len(rows) - 1
	y := func(level int) float64 { return float64(margin + (top-level)*rowHeight) }
	width := 2*margin + widest + side
	height := 2*margin + top*rowHeight + boxHeight

	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%d\" "+
		"viewBox=\"0 0 %.0f %d\" role=\"img\">\n", width, height, width, height)
	b.WriteString("<title>The packages of this repository, above those that they import</title>\n")
	b.WriteString(style)
	b.WriteString(`<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" ` +
		`markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>` + "\n")
	b.WriteString(`<rect class="page" width="100%" height="100%"/>` + "\n")
	for _, line := range lines {
		drawLine(&b, line, y)
	}
	for _, row := range rows {
		for _, p := range row {
			if p.name != "" {
				drawBox(&b, p.name, p.x, y(p.level))
			}
		}
	}
	drawTesting(&b, g, tests.sorted(), 2*margin+widest)
	b.WriteString("</svg>\n")
	return b.String()
}

// places returns the places of each level, and the lines, each from place to
// place.
func places(g *graph, names []string) (rows [][]*place, lines [][]*place) {
	level := g.levels(names)
	boxes := make(map[string]*place)
	put := func(p *place) *place {
		for len(rows) <= p.level {
			rows = append(rows, nil)
		}
		rows[p.level] = append(rows[p.level], p)
		return p
	}
	for _, name := range names {
		boxes[name] = put(&place{name: name, level: level[name]})
	}
	for _, from := range names {
		for _, to := range g.imports[from].sorted() {
			if boxes[to] == nil {
				continue
			}
			line := []*place{boxes[from]}
			for l := level[from] - 1; l > level[to]; l-- {
				line = append(line, put(&place{level: l}))
			}
			line = append(line, boxes[to])
			for i, p := range line[1:] {
				line[i].down = append(line[i].down, p)
				p.up = append(p.up, line[i])
			}
			lines = append(lines, line)
		}
	}
	return rows, lines
}

// arrange orders the places of each row so that few lines cross: each is moved
// to the mean of its neighbours, above and below in turn, and the best of these
// orders is kept.
func arrange(rows [][]*place) {
	best, fewest := copyRows(rows), crossings(rows)
	for round := range 24 {
		for i := range rows {
			row := rows[i]
			if round%2 == 1 {
				row = rows[len(rows)-1-i]
			}
			at := positions(rows)
			mean := func(p *place) float64 {
				near := p.up
				if round%2 == 0 {
					near = p.down
				}
				if len(near) == 0 {
					return at[p]
				}
				sum := 0.0
				for _, o := range near {
					sum += at[o]
				}
				return sum / float64(len(near))
			}
			slices.SortStableFunc(row, func(a, b *place) int {
				return cmp.Compare(mean(a), mean(b))
			})
		}
		if n := crossings(rows); n < fewest {
			best, fewest = copyRows(rows), n
		}
	}
	for i := range rows {
		copy(rows[i], best[i])
	}
	swap(rows)
}

// swap exchanges neighbours as long as fewer lines cross then.
func swap(rows [][]*place) {
	for better := true; better; {
		better = false
		for _, row := range rows {
			for i := 1; i < len(row); i++ {
				before := crossings(rows)
				row[i-1], row[i] = row[i], row[i-1]
				if crossings(rows) < before {
					better = true
				} else {
					row[i-1], row[i] = row[i], row[i-1]
				}
			}
		}
	}
}

func copyRows(rows [][]*place) [][]*place {
	c := make([][]*place, len(rows))
	for i, row := range rows {
		c[i] = slices.Clone(row)
	}
	return c
}

// positions returns where each place is in its row, from 0 to 1.
func positions(rows [][]*place) map[*place]float64 {
	at := make(map[*place]float64)
	for _, row := range rows {
		for i, p := range row {
			at[p] = (float64(i) + 0.5) / float64(len(row))
		}
	}
	return at
}

// crossings counts the pairs of lines between two rows that cross.
func crossings(rows [][]*place) int {
	at, n := positions(rows), 0
	for _, row := range rows {
		type pair struct{ from, to float64 }
		var pairs []pair
		for _, p := range row {
			for _, d := range p.down {
				pairs = append(pairs, pair{at[p], at[d]})
			}
		}
		for i, a := range pairs {
			for _, b := range pairs[:i] {
				if (a.from-b.from)*(a.to-b.to) < 0 {
					n++
				}
			}
		}
	}
	return n
}

func rowWidth(row []*place) float64 {
	width := float64(-gap)
	for _, p := range row {
		width += p.width() + gap
	}
	return width
}

// drawLine draws a line from the foot of one box to the head of another. Lines
// of one box leave it side by side.
func drawLine(b *strings.Builder, line []*place, y func(level int) float64) {
	first, last := line[0], line[len(line)-1]
	x, from := port(first, first.down, line[1]), y(first.level)+boxHeight
	fmt.Fprintf(b, `<path d="M%.0f %.0f`, x, from)
	for i, p := range line[1:] {
		to, px := y(p.level), p.x
		if p == last {
			px = port(last, last.up, line[i])
		}
		half := (to - from) / 2
		fmt.Fprintf(b, "C%.0f %.0f %.0f %.0f %.0f %.0f", x, from+half, px, to-half, px, to)
		x, from = px, to
		if p != last {
			from += boxHeight
			fmt.Fprintf(b, "V%.0f", from)
		}
	}
	b.WriteString(`" marker-end="url(#end)"/>` + "\n")
}

// port returns where on the side of p the line to or from other ends.
func port(p *place, all []*place, other *place) float64 {
	sorted := slices.SortedStableFunc(slices.Values(all), func(a, b *place) int {
		return cmp.Compare(a.x, b.x)
	})
	i := slices.Index(sorted, other)
	return p.x + (float64(i)+0.5)/float64(len(sorted))*(boxWidth-20) - (boxWidth-20)/2
}

func drawBox(b *strings.Builder, name string, x, y float64) {
	class := "box"
	if strings.HasPrefix(name, "quit") {
		class += " own"
	}
	fmt.Fprintf(b, `<rect class="%s" x="%.0f" y="%.0f" width="%d" height="%d" rx="4"/>`+"\n",
		class, x-boxWidth/2, y, boxWidth, boxHeight)
	fmt.Fprintf(b, `<text class="name" x="%.0f" y="%.0f">%s</text>`+"\n", x, y+boxHeight/2+5, name)
}

// drawTesting draws the packages for tests, each with those that use it.
func drawTesting(b *strings.Builder, g *graph, names []string, x float64) {
	y := float64(margin)
	fmt.Fprintf(b, `<text class="quiet" x="%.0f" y="%.0f">for tests, and used by</text>`+"\n",
		x, y+12)
	y += 26
	for _, name := range names {
		drawBox(b, name, x+boxWidth/2, y)
		y += boxHeight + 16
		for _, user := range g.users[name].sorted() {
			fmt.Fprintf(b, `<text class="quiet" x="%.0f" y="%.0f">%s</text>`+"\n", x+8, y, user)
			y += 16
		}
		y += 14
	}
}
