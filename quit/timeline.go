package quit

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gracefulgo/graceful/internal/text"
)

// String draws the report as a timeline for a terminal of 80 columns: a line a
// step with its name, site, time taken, a bar on the common time axis, and the
// outcome. Steps that are alike are folded into one line. What failed or hangs
// is marked in the first column, and told below in full, with its stacks.
func (r Report) String() string {
	t := timeline{Report: r, end: r.taken}
	if !r.Ended.IsZero() {
		t.end = r.Ended
	}
	t.rows = t.rowsOf(r.Steps, 0, nil)
	for _, w := range t.rows {
		t.nameWidth = max(t.nameWidth, min(text.Width(w.name)+text.Width(w.times()), 26))
		t.siteWidth = max(t.siteWidth, min(text.Width(w.site), maxSite))
	}
	// Marker, name, site, time, bar and outcome, with a space between each two.
	t.barWidth = 80 - 2 - t.nameWidth - 1 - t.siteWidth - 1 - 7 - 1 - 1 - 9

	var b strings.Builder
	fmt.Fprintf(&b, "quit: %s\n", t.headline())
	t.axis(&b)
	for _, w := range t.rows {
		t.row(&b, w)
	}
	t.details(&b)
	return b.String()
}

// timeline is a Report that is being drawn.
type timeline struct {
	Report
	end                            time.Time // of the axis
	rows                           []row
	nameWidth, siteWidth, barWidth int
}

// row is one line: a step, or several that are alike.
type row struct {
	*Step
	name, site string
	path       []string // of the steps that this one is in
	folded     int      // how many steps like it stand for it; the times are those of all
	start, end time.Time
}

// rowsOf returns the rows of steps and of what is in them, and folds those that
// follow each other and differ in nothing but their times.
func (t *timeline) rowsOf(steps []Step, depth int, path []string) []row {
	var rows []row
	foldable := -1 // index of the row that the next step may be folded into
	for i := range steps {
		s := &steps[i]
		w := row{Step: s, name: strings.Repeat("  ", depth) + text.OneLine(s.Name), site: siteTail(text.OneLine(s.Site)),
			path: path, folded: 1, start: s.Start, end: s.End}
		plain := s.Err == nil && !s.Abandoned && len(s.Steps) == 0 && s.Start.IsZero() == s.End.IsZero()
		if plain && foldable >= 0 && rows[foldable].alike(w) {
			f := &rows[foldable]
			f.folded++
			if f.end.Before(w.end) {
				f.end = w.end
			}
			if w.start.Before(f.start) {
				f.start = w.start
			}
			continue
		}
		rows = append(rows, w)
		foldable = -1
		if plain {
			foldable = len(rows) - 1
		}
		rows = append(rows, t.rowsOf(s.Steps, depth+1, append(path[:len(path):len(path)], stepTitle(s)))...)
	}
	return rows
}

func (w *row) alike(o row) bool {
	return w.name == o.name && w.site == o.site && w.Phase == o.Phase && w.Start.IsZero() == o.Start.IsZero()
}

// times says how many steps the row stands for, if not one.
func (w *row) times() string {
	if w.folded == 1 {
		return ""
	}
	return fmt.Sprintf(" ×%d", w.folded)
}

// outcome returns the marker and the word for what became of the step.
func (w *row) outcome() (marker, word string) {
	switch {
	case w.Abandoned:
		return "✗", "ABANDONED"
	case w.Err != nil:
		return "✗", "FAILED"
	case w.Start.IsZero():
		return "·", "planned"
	case w.End.IsZero():
		return "▸", "running"
	}
	return " ", "ok"
}

func (t *timeline) headline() string {
	limit, within := "no limit", ", without a limit"
	if !t.Deadline.IsZero() {
		limit = short(t.Deadline.Sub(t.from()))
		within = " of " + limit
	}
	var parts []string
	switch {
	case t.Fired.IsZero():
		parts = append(parts, "not fired; a shutdown would have "+limit)
	case t.Ended.IsZero() && !t.started():
		parts = append(parts, "fired "+short(t.taken.Sub(t.Fired))+" ago, not shut down")
	case t.Ended.IsZero():
		parts = append(parts, "shutting down for "+short(t.taken.Sub(t.Fired))+within)
	default:
		parts = append(parts, "stopped after "+short(t.Ended.Sub(t.Fired))+within)
	}
	if t.Cause != nil {
		parts = append(parts, "cause: "+text.Clip(text.OneLine(strings.TrimPrefix(errorText(t.Cause), "quit: ")), 40))
	}
	if t.Goroutines > 0 {
		parts = append(parts, plural(t.Goroutines, "goroutine")+" counted")
	}
	if n := t.failures; n > 0 {
		parts = append(parts, plural(n, "failure"))
	}
	return strings.Join(parts, ", ")
}

func (t *timeline) started() bool { return len(t.Steps) > 0 && !t.Steps[0].Start.IsZero() }

// from returns the time at which the axis begins.
func (t *timeline) from() time.Time {
	if t.Fired.IsZero() {
		return t.taken
	}
	return t.Fired
}

// axis draws the line of the time axis: its beginning and its end.
func (t *timeline) axis(b *strings.Builder) {
	if !t.started() {
		return
	}
	label := short(t.end.Sub(t.from()))
	pad := 2 + t.nameWidth + 1 + t.siteWidth + 1 + 7 + 1
	fmt.Fprintf(b, "%s0%s%s\n", strings.Repeat(" ", pad),
		strings.Repeat("─", max(t.barWidth-1-text.Width(label), 1)), label)
}

func (t *timeline) row(b *strings.Builder, w row) {
	marker, word := w.outcome()
	took := ""
	if !w.start.IsZero() {
		end := w.end
		if end.IsZero() {
			end = t.taken
		}
		took = short(end.Sub(w.start))
	}
	name := text.Clip(w.name, t.nameWidth-text.Width(w.times())) + w.times()
	line := fmt.Sprintf("%s %s %s %s %s %s", marker, fit(name, t.nameWidth), fit(w.site, t.siteWidth),
		strings.Repeat(" ", max(7-text.Width(took), 0))+took, fit(t.bar(w), t.barWidth), word)
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// bar draws a step's time on the axis, in eighths of a column at its end. What
// takes no time that could be seen is still a line of an eighth.
func (t *timeline) bar(w row) string {
	total := t.end.Sub(t.from())
	if w.start.IsZero() || total <= 0 {
		return ""
	}
	end := w.end
	if end.IsZero() || end.After(t.end) {
		end = t.end
	}
	eighths := func(at time.Time) int {
		part := float64(at.Sub(t.from())) / float64(total)
		return int(min(max(part, 0), 1)*float64(t.barWidth*8) + 0.5)
	}
	from := min(eighths(w.start)/8, t.barWidth-1)
	until := max(eighths(end)-from*8, 1)
	full := "█"
	if w.Abandoned || w.Err != nil {
		full = "▒" // a failure is seen without colour
	}
	bar := strings.Repeat(" ", from) + strings.Repeat(full, until/8)
	switch {
	case until%8 == 0:
	case full == "█":
		bar += string([]rune("▏▎▍▌▋▊▉")[until%8-1])
	case until < 8 || until%8 >= 4:
		bar += full
	}
	return bar
}

// details tells each failure in full, below the table: of steps in their order,
// with stacks, and then all others.
func (t *timeline) details(b *strings.Builder) {
	told := make(map[string]bool)
	for _, w := range t.rows {
		if w.Err == nil && w.Stacks == "" {
			continue
		}
		title := strings.Join(append(w.path[:len(w.path):len(w.path)], stepTitle(w.Step)), ": ")
		lines := failureLines(w.Err)
		if len(w.Steps) > 0 {
			lines = nil // its own steps tell
			for _, line := range failureLines(w.Err) {
				told["quit: "+title+": "+strings.TrimPrefix(line, "quit: ")] = false
			}
		}
		for _, line := range lines {
			line = title + ": " + strings.TrimPrefix(line, "quit: ")
			told["quit: "+line] = true
			fmt.Fprintf(b, "\n✗ %s\n", text.OneLine(line))
		}
		switch {
		case len(lines) > 0 || w.Stacks == "":
		case !w.End.IsZero():
			fmt.Fprintf(b, "\n✗ %s\n", text.OneLine(title+": "+errorText(w.Err)))
			told["quit: "+title+": "+errorText(w.Err)] = true
		default:
			fmt.Fprintf(b, "\n▸ %s: running for %s\n", text.OneLine(title), short(t.taken.Sub(w.Start)))
		}
		for line := range strings.SplitSeq(strings.TrimRight(w.Stacks, "\n"), "\n") {
			if line != "" {
				b.WriteString("    " + strings.ReplaceAll(line, "\t", "    ") + "\n")
			}
		}
	}
	for _, line := range failureLines(t.err) {
		if !told[line] {
			fmt.Fprintf(b, "\n✗ %s\n", text.OneLine(strings.TrimPrefix(line, "quit: ")))
		}
	}
}

// stepTitle names a step with its site, as errors do.
func stepTitle(s *Step) string {
	if s.Site == "" {
		return text.OneLine(s.Name)
	}
	return text.OneLine(s.Name) + " (" + s.Site + ")"
}

// plural returns n with the noun, which is regular.
func plural[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// short returns d in at most seven columns: 12µs, 1.23s, 2m03s, 1h02m.
func short(d time.Duration) string {
	three := func(unit time.Duration, name string) string {
		switch v := float64(d) / float64(unit); {
		case v >= 99.95:
			return fmt.Sprintf("%.0f%s", v, name)
		case v >= 9.995:
			return trimZeros(fmt.Sprintf("%.1f", v)) + name
		default:
			return trimZeros(fmt.Sprintf("%.2f", v)) + name
		}
	}
	switch {
	case d <= 0:
		return "0s"
	case d < time.Microsecond:
		return fmt.Sprintf("%dns", d)
	case d < 999500*time.Nanosecond:
		return three(time.Microsecond, "µs")
	case d < 999500*time.Microsecond:
		return three(time.Millisecond, "ms")
	case d < 59950*time.Millisecond:
		return three(time.Second, "s")
	case d < time.Hour-500*time.Millisecond:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 1000*time.Hour:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dh", d/time.Hour)
}

func trimZeros(s string) string { return strings.TrimRight(strings.TrimRight(s, "0"), ".") }

// fit is text.Clip, and fills up to n columns.
func fit(s string, n int) string {
	s = text.Clip(s, n)
	return s + strings.Repeat(" ", max(n-text.Width(s), 0))
}

// maxSite is the most that a site takes of the table, in columns.
const maxSite = 22

// siteTail keeps the end of a long site, which has the line.
func siteTail(s string) string {
	if n := utf8.RuneCountInString(s); n > maxSite {
		return "…" + string([]rune(s)[n-maxSite+1:])
	}
	return s
}
