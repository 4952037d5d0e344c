package main

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

var (
	fence       = regexp.MustCompile("^\\s*(```|~~~)")
	heading     = regexp.MustCompile(`^#{1,6}\s`)
	item        = regexp.MustCompile(`^\s*([-*+]|\d+[.)])\s+`)
	definition  = regexp.MustCompile(`^\s*\[[^\]]+\]:\s`)
	target      = regexp.MustCompile(`\]\([^)]*\)|<https?:[^>]*>`)
	inlineCode  = regexp.MustCompile("``[^`]+``|`[^`]+`")
	htmlComment = regexp.MustCompile(`(?s)<!--.*?-->`)
)

// generators names the command that writes a page, or a part of it.
var generators = map[string]string{
	"docs/benchmarks.md": "docs/bench.sh",
	"docs/closers.md":    "verify/closers",
	"docs/comparison.md": "bench/scenarios",
	"docs/cost.md":       "bench/report",
	"docs/lossless.md":   "docs/lossless.sh",
	"docs/scaling.md":    "bench/scaling",
}

// generator returns the command that writes the page at path, or "".
func generator(path string) string {
	for page, by := range generators {
		if path == page || strings.HasSuffix(path, "/"+page) {
			return by
		}
	}
	return ""
}

// page measures a Markdown page.
func (r *result) page(name, text string) {
	text = htmlComment.ReplaceAllStringFunc(text, blank)
	var paragraphs []paragraph
	var current paragraph
	flush := func() {
		if len(current.lines) > 0 {
			r.paragraphWidth(name, current)
			paragraphs = append(paragraphs, current)
		}
		current = paragraph{}
	}
	inFence, inList, after := false, false, true
	for i, line := range strings.Split(text, "\n") {
		n := i + 1
		indented := strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t")
		switch {
		case fence.MatchString(line):
			flush()
			inFence = !inFence
		case inFence:
		case strings.TrimSpace(line) == "":
			flush()
			after = true
			continue
		case heading.MatchString(line):
			flush()
			current.add(n, line)
			flush()
			inList = false
		case strings.HasPrefix(strings.TrimSpace(line), "|"):
			flush()
			for _, cell := range strings.Split(line, "|") {
				var p paragraph
				p.add(n, strings.TrimSpace(cell))
				paragraphs = append(paragraphs, p)
			}
		case definition.MatchString(line):
			flush()
		case item.MatchString(line) && (inList || !indented):
			flush()
			inList = true
			current.add(n, line)
		case indented && after && !inList:
			flush() // code
			continue
		default:
			if after && !strings.HasPrefix(line, " ") {
				inList = false
			}
			current.add(n, line)
		}
		after = false
	}
	flush()
	if chinese(name) {
		return
	}
	r.prose(name, path.Dir(name), paragraphs)
}

// paragraphWidth notes the lines of a wrapped paragraph that are too wide.
func (r *result) paragraphWidth(name string, p paragraph) {
	if len(p.lines) == 1 {
		return
	}
	for i, n := range p.lines {
		line := p.raw[i]
		width := r.limits.columns(line)
		words := strings.Fields(item.ReplaceAllString(line, ""))
		if width > r.limits.Page && len(words) > 1 {
			r.add(finding{path: name, line: n, text: fmt.Sprintf("a line of %d columns in a "+
				"wrapped paragraph, want %d at most, or one line in all", width, r.limits.Page)})
		}
	}
}

// blank replaces all of s but its line ends.
func blank(s string) string {
	return strings.Map(func(c rune) rune {
		if c == '\n' {
			return c
		}
		return ' '
	}, s)
}
