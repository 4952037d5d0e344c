// Package chart draws curves as SVG that are readable on light and on dark
// pages: the colors are variables, set by the page's color scheme.
package chart

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Chart is one picture. Both axes are logarithmic.
type Chart struct {
	Title, Subtitle string
	X               string // the meaning of the values of x
	XTicks          []float64
	XLabel          func(x float64) string
	Curves          []Curve
	Band            *Band
	YMin            float64 // if not 0, the axis begins there at the latest
}

// Curve is a line, named at its end.
type Curve struct {
	Name   string
	Like   string      // the curve with the same color; empty if it has its own
	Points plotter.XYs // y in ns
	Strong bool        // it is the subject of the picture
	Dashed bool        // computed
	Below  bool        // its name is below its last point, which is not at the edge
	Left   bool        // its name is to the left of it
}

// Band is the area between two curves.
type Band struct{ Low, High plotter.XYs }

// Colors that stand for variables of the style.
var (
	page   = color.RGBA{1, 1, 1, 255}
	ink    = color.RGBA{1, 1, 2, 255}
	quiet  = color.RGBA{1, 1, 3, 255}
	line   = color.RGBA{1, 1, 4, 255}
	area   = color.RGBA{1, 1, 5, 255}
	strong = color.RGBA{1, 1, 6, 255}
	others = []color.RGBA{
		{1, 2, 1, 255}, {1, 2, 2, 255}, {1, 2, 3, 255}, {1, 2, 4, 255}, {1, 2, 5, 255},
		{1, 2, 6, 255}, {1, 2, 7, 255},
	}
)

// theme has each color for light and for dark pages.
var theme = []struct {
	name        string
	placeholder color.RGBA
	light, dark string
}{
	{"page", page, "#ffffff", "#0d1117"},
	{"ink", ink, "#1c1f24", "#e6e8eb"},
	{"quiet", quiet, "#59616d", "#9aa2ad"},
	{"line", line, "#e1e4e8", "#2b3038"},
	{"area", area, "#f6d5d2", "#4a2723"},
	{"strong", strong, "#0b5cd5", "#6cb0ff"},
	{"o1", others[0], "#c0392b", "#ff8f85"},
	{"o2", others[1], "#2e7d32", "#7fd08a"},
	{"o3", others[2], "#a05a00", "#f0b35a"},
	{"o4", others[3], "#7b3fa0", "#cf9bf0"},
	{"o5", others[4], "#00757f", "#5ecfd8"},
	{"o6", others[5], "#6b6f76", "#b4b9c1"},
	{"o7", others[6], "#b0307a", "#f58cc4"},
}

const (
	width, height = 820, 440 // of the picture, in px
	right         = 190      // of the names of the curves
	top           = 64       // of the titles
)

// SVG draws the chart.
func (c Chart) SVG() ([]byte, error) {
	p := plot.New()
	p.BackgroundColor = page
	p.X.Label.Text = c.X
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	low, high := c.bounds()
	p.Y.Min, p.Y.Max = low, high
	p.X.Tick.Marker = plot.ConstantTicks(c.xTicks())
	p.Y.Tick.Marker = plot.ConstantTicks(timeTicks(low, high))
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Tick.Color = quiet, quiet
		axis.Tick.Label.Color, axis.Label.TextStyle.Color = quiet, quiet
		axis.Tick.Label.Font = sans(11, false)
		axis.Label.TextStyle.Font = sans(11, false)
		axis.Label.Padding = 6
		axis.LineStyle.Width, axis.Tick.LineStyle.Width = 0.6, 0.6
	}
	p.Y.LineStyle.Width, p.Y.Tick.LineStyle.Width, p.Y.Tick.Length = 0, 0, 3
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	grid.Horizontal.Color, grid.Horizontal.Width, grid.Horizontal.Dashes = line, 0.7, nil
	p.Add(grid)

	if c.Band != nil {
		outline := slices.Clone(c.Band.Low)
		for _, xy := range slices.Backward(c.Band.High) {
			outline = append(outline, xy)
		}
		polygon, err := plotter.NewPolygon(outline)
		if err != nil {
			return nil, err
		}
		polygon.Color, polygon.LineStyle.Width = area, 0
		p.Add(polygon)
	}
	colors := c.colors()
	// The strong one is drawn last, above the others.
	for _, i := range c.order() {
		curve := c.Curves[i]
		l, points, err := plotter.NewLinePoints(curve.Points)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", curve.Name, err)
		}
		l.Color, l.Width = colors[i], 1.4
		points.Color, points.Radius, points.Shape = colors[i], 2, draw.CircleGlyph{}
		if curve.Strong {
			l.Width, points.Radius = 2.6, 3
		}
		if curve.Dashed {
			l.Dashes = []vg.Length{5, 3}
			points.Radius = 0
		}
		p.Add(l, points)
	}

	canvas := vgsvg.New(width, height)
	all := draw.New(canvas)
	all.SetColor(page)
	all.Fill(all.Rectangle.Path())
	body := draw.Crop(all, 14, -right, 12, -top)
	p.Draw(body)
	style := func(size vg.Length, bold bool, c color.Color, y text.YAlignment) text.Style {
		return text.Style{Color: c, Font: sans(size, bold), YAlign: y,
			Handler: plot.DefaultTextHandler}
	}
	left := all.Min.X + 16
	all.FillText(style(16, true, ink, draw.YTop), vg.Point{X: left, Y: all.Max.Y - 12}, c.Title)
	all.FillText(style(11.5, false, quiet, draw.YTop),
		vg.Point{X: left, Y: all.Max.Y - 37}, c.Subtitle)

	data := p.DataCanvas(body)
	x, y := p.Transforms(&data)
	var ends []vg.Length
	var named []int // the curves at the edge
	for i, curve := range c.Curves {
		last := curve.Points[len(curve.Points)-1]
		at := vg.Point{X: x(last.X), Y: y(last.Y)}
		if at.X < data.Max.X-1 {
			name := vg.Point{X: at.X + 5, Y: at.Y + 9}
			if curve.Below {
				name.Y = at.Y - 11
			}
			sty := style(11, curve.Strong, colors[i], draw.YCenter)
			if curve.Left {
				name.X, sty.XAlign = at.X-7, draw.XRight
			}
			all.FillText(sty, name, curve.Name)
			continue
		}
		ends = append(ends, at.Y)
		named = append(named, i)
	}
	for k, at := range spread(ends, 14, data.Min.Y, data.Max.Y) {
		i := named[k]
		from := vg.Point{X: data.Max.X + 3, Y: ends[k]}
		to := vg.Point{X: data.Max.X + 16, Y: at}
		all.StrokeLine2(draw.LineStyle{Color: colors[i], Width: 0.6}, from.X, from.Y, to.X, to.Y)
		all.FillText(style(11, c.Curves[i].Strong, colors[i], draw.YCenter),
			vg.Point{X: to.X + 3, Y: at}, c.Curves[i].Name)
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	return c.themed(out.Bytes())
}

// colors returns the color of each curve.
func (c Chart) colors() []color.Color {
	byName := make(map[string]color.Color)
	var all []color.Color
	for _, curve := range c.Curves {
		switch {
		case curve.Strong:
			byName[curve.Name] = strong
		case curve.Like != "":
			byName[curve.Name] = byName[curve.Like]
		default:
			byName[curve.Name] = others[len(byName)%len(others)]
		}
		all = append(all, byName[curve.Name])
	}
	return all
}

// order returns the indexes of the curves, strong ones last.
func (c Chart) order() []int {
	var weak, last []int
	for i, curve := range c.Curves {
		if curve.Strong {
			last = append(last, i)
		} else {
			weak = append(weak, i)
		}
	}
	return append(weak, last...)
}

func sans(size vg.Length, bold bool) font.Font {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	if bold {
		f.Weight = xfont.WeightBold
	}
	return f
}

// spread returns the heights ys, moved apart so that there is a gap between any
// two.
func spread(ys []vg.Length, gap, low, high vg.Length) []vg.Length {
	index := make([]int, len(ys))
	for i := range index {
		index[i] = i
	}
	slices.SortFunc(index, func(a, b int) int {
		return int(math.Copysign(1, float64(ys[a]-ys[b])))
	})
	at := slices.Clone(ys)
	for range 200 { // push neighbours apart, a little on both sides
		for k := 1; k < len(index); k++ {
			if d := gap - (at[index[k]] - at[index[k-1]]); d > 0 {
				at[index[k]] += d / 2
				at[index[k-1]] -= d / 2
			}
		}
		for _, i := range index {
			at[i] = min(max(at[i], low), high)
		}
	}
	return at
}

func (c Chart) bounds() (low, high float64) {
	low, high = math.Inf(1), 0
	for _, curve := range c.Curves {
		for _, xy := range curve.Points {
			low, high = min(low, xy.Y), max(high, xy.Y)
		}
	}
	if c.YMin != 0 {
		low = min(low, c.YMin)
	}
	return low / 1.3, high * 1.3
}

func (c Chart) xTicks() []plot.Tick {
	var ticks []plot.Tick
	for _, x := range c.XTicks {
		ticks = append(ticks, plot.Tick{Value: x, Label: c.XLabel(x)})
	}
	return ticks
}

// timeTicks are the decades, and 2 and 5 times them if there are few.
func timeTicks(low, high float64) []plot.Tick {
	steps := []float64{1}
	if high/low < 300 {
		steps = []float64{1, 2, 5}
	}
	var ticks []plot.Tick
	for decade := 1e-2; decade <= high; decade *= 10 {
		for _, step := range steps {
			if v := decade * step; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: Time(v)})
			}
		}
	}
	return ticks
}

// Time returns a time in ns as a text, with a unit.
func Time(ns float64) string {
	units := []string{"ns", "µs", "ms", "s"}
	i := 0
	for ; ns >= 999.5 && i < len(units)-1; i++ {
		ns /= 1000
	}
	return strconv.FormatFloat(math.Round(ns*100)/100, 'f', -1, 64) + " " + units[i]
}

// Count returns a number as a text.
func Count(x float64) string {
	if x >= 1e6 {
		return strconv.FormatFloat(x/1e6, 'f', -1, 64) + " million"
	}
	s := strconv.FormatFloat(x, 'f', -1, 64)
	if len(s) > 3 {
		s = s[:len(s)-3] + "," + s[len(s)-3:]
	}
	return s
}

// themed replaces the placeholders by variables.
func (c Chart) themed(svg []byte) ([]byte, error) {
	s := string(svg)
	var light, dark strings.Builder
	for _, t := range theme {
		s = strings.ReplaceAll(s, fmt.Sprintf("#%02X%02X%02X",
			t.placeholder.R, t.placeholder.G, t.placeholder.B), "var(--"+t.name+")")
		fmt.Fprintf(&light, " --%s: %s;", t.name, t.light)
		fmt.Fprintf(&dark, " --%s: %s;", t.name, t.dark)
	}
	s = strings.ReplaceAll(s, "font-family:Liberation Sans",
		"font-family:Arial,'Liberation Sans',Helvetica,sans-serif")
	s = strings.Replace(s, fmt.Sprintf(`width="%dpt" height="%dpt"`, width, height),
		fmt.Sprintf(`width="%d" height="%d" role="img"`, width, height), 1)
	begin := strings.Index(s, "<svg")
	if begin < 0 {
		return nil, fmt.Errorf("no <svg in the picture")
	}
	end := begin + strings.Index(s[begin:], ">") + 1
	style := "\n<title>" + escape(c.Title+": "+c.Subtitle) + "</title>\n<style>\n:root {" +
		light.String() + " }\n@media (prefers-color-scheme: dark) {\n:root {" +
		dark.String() + " }\n}\n</style>"
	return []byte(s[begin:end] + style + s[end:]), nil
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
