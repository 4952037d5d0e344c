package timeline

import (
	"fmt"
	"strings"
	"time"

	"github.com/gracefulgo/graceful/internal/text"
)

// MaxDepth is the number of levels that are indented. Deeper steps are indented
// no further.
const MaxDepth = 8

// String draws the timeline for a terminal of 80 columns: a line for each row,
// and then the details.
func (t *Timeline) String() string {
	d := drawing{Timeline: t}
	const maxName, maxSite = 26, 22
	for i := range t.Rows {
		w := &t.Rows[i]
		line := line{
			name: strings.Repeat("  ", min(w.Depth, MaxDepth)) + text.OneLine(w.Name),
			site: text.Tail(text.OneLine(w.Site), maxSite),
		}
		if w.Folded > 1 {
			line.times = " " + w.Times()
		}
		d.nameWidth = max(d.nameWidth, min(text.Width(line.name)+text.Width(line.times), maxName))
		d.siteWidth = max(d.siteWidth, text.Width(line.site))
		d.lines = append(d.lines, line)
	}
	// Marker, name, site, time, bar and state, separated by spaces.
	d.barWidth = 80 - 2 - d.nameWidth - 1 - d.siteWidth - 1 - 7 - 1 - 1 - 9

	fmt.Fprintf(&d.b, "quit: %s\n", t.headline())
	d.axis()
	for i := range t.Rows {
		d.row(&t.Rows[i], d.lines[i])
	}
	for i := range t.Details {
		d.detail(&t.Details[i])
	}
	return d.b.String()
}

// drawing is the state of String.
type drawing struct {
	*Timeline
	b                              strings.Builder
	lines                          []line // of the rows
	nameWidth, siteWidth, barWidth int
}

type line struct{ name, times, site string }

func (t *Timeline) headline() string {
	limit, within := "has no limit", ", without a limit"
	if t.Limit > 0 {
		limit = "may take " + text.Duration(t.Limit)
		within = " of " + text.Duration(t.Limit)
	}
	since := func(at time.Time) string { return text.Duration(at.Sub(t.Begin())) }
	var parts []string
	switch t.Stage() {
	case Idle:
		parts = append(parts, "not shutting down; a shutdown "+limit)
	case Fired:
		parts = append(parts, "shutdown requested "+since(t.Taken)+" ago, not begun")
	case Stopping:
		parts = append(parts, "shutting down for "+since(t.Taken)+within)
	case Stopped:
		parts = append(parts, "stopped after "+since(t.Ended)+within)
	}
	if t.Cause != nil {
		parts = append(parts, "cause: "+text.Clip(t.Reason, 40))
	}
	if t.Goroutines > 0 {
		parts = append(parts, text.Plural(t.Goroutines, "goroutine")+" counted")
	}
	if t.Failures > 0 {
		parts = append(parts, text.Plural(t.Failures, "failure"))
	}
	return strings.Join(parts, ", ")
}

// axis draws the time axis, with a label at each end.
func (d *drawing) axis() {
	if d.Stage() < Stopping || len(d.Rows) == 0 {
		return
	}
	label := text.Duration(d.Until().Sub(d.Begin()))
	pad := 2 + d.nameWidth + 1 + d.siteWidth + 1 + 7 + 1
	fmt.Fprintf(&d.b, "%s0%s%s\n", strings.Repeat(" ", pad),
		strings.Repeat("─", d.barWidth-1-text.Width(label)), label)
}

func (d *drawing) row(w *Row, l line) {
	marker := w.State.Marker()
	if w.State == OK {
		marker = " " // so that the marked rows stand out
	}
	took := ""
	if !w.Start.IsZero() {
		end := w.End
		if end.IsZero() {
			end = d.Taken
		}
		took = text.Duration(end.Sub(w.Start))
	}
	name := text.Clip(l.name, d.nameWidth-text.Width(l.times)) + l.times
	took = strings.Repeat(" ", max(7-text.Width(took), 0)) + took
	fmt.Fprintf(&d.b, "%s %s %s %s %s %s\n",
		marker, fit(name, d.nameWidth), fit(l.site, d.siteWidth), took, d.bar(w), w.State)
}

// fit cuts or pads s to n columns.
func fit(s string, n int) string {
	s = text.Clip(s, n)
	return s + strings.Repeat(" ", max(n-text.Width(s), 0))
}

// bar draws the time of a row on the axis. Its end is exact to an eighth of a
// column, and its length is at least that. The result has the same width for
// all rows.
func (d *drawing) bar(w *Row) string {
	until := d.Until()
	total := until.Sub(d.Begin())
	if w.Start.IsZero() || total <= 0 {
		return strings.Repeat(" ", d.barWidth)
	}
	end := w.End
	if end.IsZero() || end.After(until) {
		end = until
	}
	eighths := func(at time.Time) int {
		part := float64(at.Sub(d.Begin())) / float64(total)
		return int(min(max(part, 0), 1)*float64(d.barWidth*8) + 0.5)
	}
	from := min(eighths(w.Start)/8, d.barWidth-1)
	length := max(eighths(end)-from*8, 1)
	full := "█"
	if w.State >= Failed {
		full = "▒" // so that a failure needs no colour
	}
	last := " "
	switch {
	case length%8 == 0:
		last = ""
	case full == "█":
		last = string([]rune("▏▎▍▌▋▊▉")[length%8-1])
	case length < 8 || length%8 >= 4:
		last = full
	}
	return strings.Repeat(" ", from) + strings.Repeat(full, length/8) + last +
		strings.Repeat(" ", d.barWidth-from-(length+7)/8)
}

// detail draws a failure in full, or a step that still runs.
func (d *drawing) detail(f *Detail) {
	head := strings.TrimSpace(f.Title + " " + f.Times())
	first, more, _ := strings.Cut(f.Text, "\n")
	if f.State == Running {
		first = "running for " + text.Duration(d.Taken.Sub(f.Since))
		if f.Share > 0 {
			first += " of " + text.Duration(f.Share)
		}
		if f.Text != "" {
			first += ", " + f.Text
		}
	}
	if head != "" && first != "" {
		head += ": "
	}
	fmt.Fprintf(&d.b, "\n%s %s\n", f.State.Marker(), strings.TrimRight(head+first, " "))
	d.indent("  ", more)
	d.indent("    ", f.Stacks)
}

// indent writes the lines of s that are not empty.
func (d *drawing) indent(by, s string) {
	for line := range strings.SplitSeq(s, "\n") {
		if line != "" {
			d.b.WriteString(by + line + "\n")
		}
	}
}
