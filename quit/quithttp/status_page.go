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

// pageAssets is what all pages have in common.
type pageAssets struct {
	head, tail string // of the page, around the report
	policy     string // its Content-Security-Policy
	report     *template.Template
}

// assets are made when they are first used. The style and the script are part
// of the page, so that it works under any path, and are allowed by their
// hashes. The address of the icon is an empty one, or browsers would ask the
// server for one.
var assets = sync.OnceValue(func() *pageAssets {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	unix := strings.NewReplacer("\r\n", "\n") // as browsers do before they hash
	css, js := unix.Replace(statusCSS), unix.Replace(statusJS)
	a := &pageAssets{
		report: template.Must(template.New("report").Parse(unix.Replace(statusHTML))),
		policy: "default-src 'none'; style-src " + hash(css) + "; script-src " + hash(js) +
			"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
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
<main id="report">
`
	a.tail = `</main>
<footer id="note">A snapshot. Reload the page for a newer one.</footer>
<script>` + js + `</script>
</body>
</html>
`
	return a
})

func (a *pageAssets) page(s shot) []byte {
	return []byte(a.head + string(s.html(s.clock)) + a.tail)
}

// shot is a report, and what depends on the time at which it was taken.
type shot struct {
	*timeline.Timeline
	clock time.Duration // from the fire; 0 before it
	span  time.Duration // of the time axis; 0: nothing is on it
}

func take(q *quit.QuitEvent) shot { return newShot(q.Report()) }

func newShot(r quit.Report) shot {
	s := shot{Timeline: timeline.Of(r)}
	s.clock = s.Until().Sub(s.Begin())
	switch s.Stage() {
	case timeline.Stopped:
		s.span = max(s.clock, 1)
	case timeline.Stopping:
		// The axis grows in steps, so that between them only the bars do.
		s.span = roundUp(max(s.clock, 100*time.Millisecond))
		if s.Limit > s.clock {
			s.span = min(s.span, s.Limit)
		}
	}
	return s
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

// picture is what the template draws. Lengths on the time axis are in percent,
// all others in pixels.
type picture struct {
	Class, Marker, State   string
	Before, Elapsed, After string // the time used, in words
	Live                   bool   // the elapsed time grows
	Used                   string // of the limit; "" if there is none
	Limit, Span            int64  // in milliseconds
	Facts                  []fact
	Ticks                  []tick
	Height                 int
	Rows                   []*row
	More                   int // steps that are not drawn
	Sections               []section

	shot  *shot
	clock time.Duration
}

type fact struct{ Name, Text string }

type tick struct{ At, Label string }

// row is a row of the timeline, with its texts and its place in the picture.
type row struct {
	*timeline.Row
	Class, Marker string
	Name, Site    string // as far as there is room for them
	Full          string
	FullSite      string
	Begun, Took   string
	Running       bool
	Since         int64 // the fire, in milliseconds, when it began
	BarX          string
	BarWidth      string
	X, Y          int
}

// section is details of the timeline under a heading.
type section struct {
	Title   string
	Details []detail
}

type detail struct{ Marker, Title, Text, Stacks string }

// mostRows bounds the page. What failed or runs, and not only because a step in
// it did, is on it in any case.
const mostRows = 1000

// html returns the report as it is drawn when the clock shows the given time.
// The same report at the same time is drawn the same.
func (s *shot) html(clock time.Duration) []byte {
	p := &picture{shot: s, clock: clock, Span: s.span.Milliseconds(), Limit: s.Limit.Milliseconds()}
	p.addTicks()
	p.addRows()
	p.addDetails()
	p.addHead()
	var b bytes.Buffer
	if err := assets().report.Execute(&b, p); err != nil {
		return []byte("<p>The report cannot be drawn: " + template.HTMLEscapeString(err.Error()) + "</p>\n")
	}
	return b.Bytes()
}

func (p *picture) addHead() {
	s := p.shot
	limit, within := "no limit", "without a limit"
	if s.Limit > 0 {
		limit = text.Duration(s.Limit)
		within = "of " + limit
	}
	switch s.Stage() {
	case timeline.Idle:
		p.Class, p.Marker, p.State = "planned", "·", "Not fired"
		p.Before = "a shutdown would have " + limit
	case timeline.Fired:
		p.Class, p.Marker, p.State = "running", "▸", "Fired"
		p.Elapsed, p.After = ticking(p.clock), "ago, not shut down"
	case timeline.Stopping:
		p.Class, p.Marker, p.State = "running", "▸", "Shutting down"
		p.Elapsed, p.After = ticking(p.clock), within
	case timeline.Stopped:
		p.Class, p.Marker, p.State = "ok", "✓", "Stopped"
		p.Before, p.Elapsed, p.After = "after", text.Duration(s.clock), within
	}
	p.Live = p.Class == "running"
	if s.Limit > 0 && s.Stage() >= timeline.Stopping {
		p.Used = percent(p.clock, s.Limit)
	}
	if s.Failures > 0 {
		p.State += " with " + text.Plural(s.Failures, "failure")
		if p.Class == "ok" {
			p.Class, p.Marker = "failed", "✗"
		}
	}
	if s.Cause != nil {
		p.Facts = append(p.Facts, fact{"Cause", text.Clip(s.Reason, 200)},
			fact{"Fired", s.Fired.Format("2006-01-02 15:04:05.000 MST")})
	}
	p.Facts = append(p.Facts, fact{"Goroutines counted", strconv.Itoa(s.Goroutines)})
}

// addTicks adds some round times to the axis, but none where its label would
// not fit.
func (p *picture) addTicks() {
	span := p.shot.span
	if span == 0 {
		return
	}
	p.Height = 24
	for at, each := time.Duration(0), roundUp(span/5); at <= span-span/8; at += each {
		p.Ticks = append(p.Ticks, tick{percent(at, span), text.Duration(at)})
	}
}

// addRows adds all rows that are to be on the page.
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

// place gives a row its texts and its place in the picture.
func (p *picture) place(w *timeline.Row) *row {
	r := &row{
		Row:      w,
		Class:    strings.ToLower(w.State.String()),
		Marker:   w.State.Marker(),
		Full:     text.OneLine(w.Step.Name),
		FullSite: text.OneLine(w.Step.Site),
		Running:  w.State == timeline.Running,
		X:        16 * min(w.Depth, timeline.MaxDepth),
		Y:        p.Height,
	}
	r.Name, r.Site = text.Clip(r.Full, 32-text.Width(w.Times())), text.Tail(r.FullSite, 28)
	if w.Start.IsZero() {
		p.Height += 26
		return r
	}
	p.Height += 38
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
	r.BarX, r.BarWidth = decimal(x), decimal(max(min(share(until, p.shot.span), 100)-x, least))
	return r
}

// addDetails adds what the rows have no room for, under headings.
func (p *picture) addDetails() {
	for i := range p.shot.Details {
		d := &p.shot.Details[i]
		shown := detail{Marker: d.State.Marker(), Title: d.Title, Text: d.Text, Stacks: d.Stacks}
		if shown.Title == "" { // it is of no step
			shown.Title, shown.Text, _ = strings.Cut(d.Text, "\n")
		}
		shown.Title = strings.TrimSpace(shown.Title + " " + d.Times())
		heading := "Failures"
		if d.State == timeline.Running {
			heading = "Running"
		}
		n := slices.IndexFunc(p.Sections, func(s section) bool { return s.Title == heading })
		if n < 0 {
			n = len(p.Sections)
			p.Sections = append(p.Sections, section{Title: heading})
		}
		p.Sections[n].Details = append(p.Sections[n].Details, shown)
	}
}

// ticking returns d as the script does while the time grows: 1.2s, 2m3s.
func ticking(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", max(d, 0).Truncate(100*time.Millisecond).Seconds())
	}
	return d.Truncate(time.Second).String()
}

// share returns part in percent of the whole.
func share(part, whole time.Duration) float64 {
	return min(max(100*float64(part)/float64(max(whole, 1)), 0), 100)
}

func percent(part, whole time.Duration) string { return decimal(share(part, whole)) }

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }
