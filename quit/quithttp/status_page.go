package quithttp

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gracefulgo/graceful/internal/text"
	"github.com/gracefulgo/graceful/internal/timeline"
	"github.com/gracefulgo/graceful/quit"
)

//go:embed status.html
var statusHTML string

//go:embed status.css
var statusCSS string

//go:embed status.js
var statusJS string

// pageAssets are the constant parts of the page.
type pageAssets struct {
	head, middle, tail string // before the note, between note and report, after the report
	policy             string // the Content-Security-Policy
	report             *template.Template
}

// assets returns the assets, which are made on the first call. The page
// contains its style and script, so that it works under any path. The policy
// allows them by their hashes. The icon is empty, since browsers would
// otherwise request one.
var assets = sync.OnceValue(func() *pageAssets {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	unix := strings.NewReplacer("\r\n", "\n") // browsers do this before they hash
	css, js := unix.Replace(statusCSS), unix.Replace(statusJS)
	a := &pageAssets{
		report: template.Must(template.New("report").Parse(unix.Replace(statusHTML))),
		policy: "default-src 'none'; style-src " + hash(css) + "; script-src " + hash(js) +
			"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'" +
			"; frame-ancestors 'none'",
	}
	a.head = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>quit</title>
<style>` + css + `</style>
</head>
<body>
<p id="note" role="status">`
	a.middle = `</p>
<main id="report">
`
	a.tail = `</main>
<script>` + js + `</script>
</body>
</html>
`
	return a
})

func (a *pageAssets) page(s shot) []byte {
	note := "A snapshot of " + timeOfDay(s.Taken) + ". Reload the page for a newer one."
	return []byte(a.head + note + a.middle + string(s.html(s.clock)) + a.tail)
}

// shot is a report with its times relative to the fire.
type shot struct {
	*timeline.Timeline
	clock time.Duration // from the fire; 0 before it
	span  time.Duration // of the time axis; 0: it is empty
}

func take(q *quit.QuitEvent) shot { return newShot(q.Report()) }

func newShot(r quit.Report) shot {
	s := shot{Timeline: timeline.Of(r)}
	s.clock = s.Until().Sub(s.Begin())
	switch s.Stage() {
	case timeline.Stopped:
		s.span = max(s.clock, 1)
	case timeline.Stopping:
		// The axis grows in steps. Between two steps only the bars grow.
		s.span = roundUp(max(s.clock, 100*time.Millisecond))
		if s.Limit > s.clock {
			s.span = min(s.span, s.Limit)
		}
	}
	return s
}

// waits reports whether a running step waits for a number whose changes the
// report's Changed does not report.
func (s *shot) waits() bool {
	return slices.ContainsFunc(s.Rows, func(w timeline.Row) bool { return w.Waits != "" })
}

// roundUp returns the next of 1, 2, 5, 10, 20, 50 and so on.
func roundUp(d time.Duration) time.Duration {
	unit := time.Duration(math.Pow10(int(math.Floor(math.Log10(float64(max(d, 1)))))))
	for _, n := range []time.Duration{1, 2, 5} {
		if d <= n*unit {
			return n * unit
		}
	}
	return 10 * unit
}

// picture is the data of the template. Lengths on the time axis are in percent.
type picture struct {
	Class, Marker, State   string
	Before, Elapsed, After string // the time used, in words
	Live                   bool   // the elapsed time grows
	Span                   int64  // of the axis, in milliseconds
	Facts                  []fact
	Ticks                  []tick
	Rows                   []*row
	More                   int // number of steps that are not drawn
	Sections               []section

	shot  *shot
	clock time.Duration
}

type fact struct{ Name, Text string }

type tick struct {
	At, Label string
	Last      bool // at the end of the axis
}

// row is a row of the timeline with its texts and its bar. Times in
// milliseconds are relative to the fire.
type row struct {
	*timeline.Row
	Class, Marker  string
	Name, Site     string // cut
	Full, FullSite string
	Begun, Took    string
	Running        bool
	Since          int64  // the start, in milliseconds
	Until          int64  // the end of the share, in milliseconds
	Left, Within   string // the rest of the share and all of it; "" without a limit
	BarX, BarWidth string
	ShareWidth     string // "" without a limit
	Level          int    // of indentation
}

// section is a list of details under a heading.
type section struct {
	Title   string
	Details []detail
}

type detail struct{ Marker, Title, Text, Stacks string }

// mostRows limits the rows of the page. Beyond the limit, a step has a row only
// if it is running or has failed itself.
const mostRows = 1000

// html draws the report for the given time since the fire. The result depends
// on nothing else.
func (s *shot) html(clock time.Duration) []byte {
	p := &picture{shot: s, clock: clock}
	if s.span > 0 {
		p.Span = max(s.span.Milliseconds(), 1)
		p.addTicks()
	}
	p.addRows()
	p.addDetails()
	p.addHead()
	var b bytes.Buffer
	if err := assets().report.Execute(&b, p); err != nil {
		why := template.HTMLEscapeString(err.Error())
		return []byte("<p>The report cannot be drawn: " + why + "</p>\n")
	}
	return b.Bytes()
}

func (p *picture) addHead() {
	s := p.shot
	limit, within := "a shutdown has no limit", "without a limit"
	if s.Limit > 0 {
		limit = "a shutdown may take " + text.Duration(s.Limit)
		within = "of " + text.Duration(s.Limit)
	}
	switch s.Stage() {
	case timeline.Idle:
		p.Class, p.State = "planned", "Not shutting down"
		p.Before = limit
	case timeline.Fired:
		p.Class, p.Marker, p.State = "running", "▸", "Shutdown requested"
		p.Elapsed, p.After = ticking(p.clock), "ago, not begun"
	case timeline.Stopping:
		p.Class, p.Marker, p.State = "running", "▸", "Shutting down"
		p.Elapsed, p.After = ticking(p.clock), within
	case timeline.Stopped:
		p.Class, p.Marker, p.State = "ok", "✓", "Stopped"
		p.Before, p.Elapsed, p.After = "after", text.Duration(s.clock), within
	}
	p.Live = p.Class == "running"
	if s.Failures > 0 {
		p.State += " with " + text.Plural(s.Failures, "failure")
		if p.Class == "ok" {
			p.Class, p.Marker = "failed", "✗"
		}
	}
	if s.Cause != nil {
		p.Facts = append(p.Facts, fact{"Cause", text.Clip(s.Reason, 200)},
			fact{"Requested", s.Fired.Format("2006-01-02 15:04:05.000 MST")})
	}
	p.Facts = append(p.Facts, fact{"Goroutines counted", strconv.Itoa(s.Goroutines)})
}

// addTicks adds round times to the axis, and its end if that is the deadline of
// the shutdown. Labels that would not fit are left out.
func (p *picture) addTicks() {
	span := p.shot.span
	last := span - span/6
	deadline := p.shot.Stage() == timeline.Stopping && span == p.shot.Limit
	if deadline {
		last = span / 2
	}
	for at, each := time.Duration(0), roundUp(span/5); at <= last; at += each {
		p.Ticks = append(p.Ticks, tick{At: percent(at, span), Label: text.Duration(at)})
	}
	if deadline {
		end := tick{At: percent(span, span), Label: "deadline " + text.Duration(span), Last: true}
		p.Ticks = append(p.Ticks, end)
	}
}

// addRows adds the rows that are drawn.
func (p *picture) addRows() {
	for i := range p.shot.Rows {
		w := &p.shot.Rows[i]
		must := w.Tells || w.State == timeline.Running && len(w.Steps) == 0
		if !must && len(p.Rows) >= mostRows {
			p.More += w.Folded
			continue
		}
		p.Rows = append(p.Rows, p.place(w))
	}
}

// place returns a row with its texts and its bar.
func (p *picture) place(w *timeline.Row) *row {
	r := &row{
		Row:      w,
		Class:    strings.ToLower(w.State.String()),
		Marker:   w.State.Marker(),
		Full:     text.OneLine(w.Step.Name),
		FullSite: text.OneLine(w.Step.Site),
		Running:  w.State == timeline.Running,
		Level:    min(w.Depth, timeline.MaxDepth),
	}
	r.Name, r.Site = text.Clip(r.Full, 80), text.Tail(r.FullSite, 28) // the browser cuts more
	if w.Start.IsZero() {
		return r
	}
	from := w.Start.Sub(p.shot.Begin())
	until := p.clock
	r.Since, r.Begun = from.Milliseconds(), text.Duration(from)
	if r.Running {
		r.Took = ticking(until - from)
	} else {
		until = w.End.Sub(p.shot.Begin())
		r.Took = text.Duration(until - from)
	}
	const least = 0.3 // percent, to be seen
	x := min(share(from, p.shot.span), 100-least)
	width := func(end time.Duration) string {
		return decimal(max(min(share(end, p.shot.span), 100)-x, least))
	}
	r.BarX, r.BarWidth = decimal(x), width(until)
	if limit := w.Share(); r.Running && limit > 0 {
		end := from + limit
		r.Until, r.ShareWidth = end.Milliseconds(), width(end)
		r.Left, r.Within = ticking(end-p.clock), text.Duration(limit)
	}
	return r
}

// addDetails adds the failures, and the stacks of running steps. The rows have
// everything else that is known about a running step.
func (p *picture) addDetails() {
	for i := range p.shot.Details {
		d := &p.shot.Details[i]
		if d.State == timeline.Running && d.Stacks == "" {
			continue
		}
		shown := detail{Marker: d.State.Marker(), Title: d.Title, Text: d.Text, Stacks: d.Stacks}
		if shown.Title == "" { // a failure outside the steps
			shown.Title, shown.Text, _ = strings.Cut(d.Text, "\n")
		}
		shown.Title = strings.TrimSpace(shown.Title + " " + d.Times())
		heading := "Failures"
		if d.State == timeline.Running {
			heading = "Still running"
		}
		n := slices.IndexFunc(p.Sections, func(s section) bool { return s.Title == heading })
		if n < 0 {
			n = len(p.Sections)
			p.Sections = append(p.Sections, section{Title: heading})
		}
		p.Sections[n].Details = append(p.Sections[n].Details, shown)
	}
}

// ticking formats d like the script: 1.2s, 2m3s.
func ticking(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", max(d, 0).Truncate(100*time.Millisecond).Seconds())
	}
	return d.Truncate(time.Second).String()
}

// timeOfDay formats t for a reader of the page.
func timeOfDay(t time.Time) string { return t.Format("15:04:05 MST") }

// share returns part as a percentage of the whole.
func share(part, whole time.Duration) float64 {
	return min(max(100*float64(part)/float64(max(whole, 1)), 0), 100)
}

func percent(part, whole time.Duration) string { return decimal(share(part, whole)) }

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }
