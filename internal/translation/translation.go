// Package translation compares a page in Markdown with its translation, for
// tests.
package translation

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	fence    = regexp.MustCompile("(?ms)^```.*?^```$")
	comment  = regexp.MustCompile(` +#.*`)
	row      = regexp.MustCompile(`(?m)^\|.*\|$`)
	figure   = regexp.MustCompile("`[^`]*`|[0-9]+(?:[.,/][0-9]+)*")
	heading  = regexp.MustCompile(`(?m)^#+ `)
	link     = regexp.MustCompile(`\]\(([^)#]*)[^)]*\)`)
	language = regexp.MustCompile(`\.[a-z]+-[A-Z]+\.md$`)
)

// Diff returns the first difference of each kind between the parts of page and
// translated that are to be the same: the code blocks, except for the comments
// of shell commands; the code and the figures in each cell of each table, in
// any order; the levels of the headings; and the targets of the links, except
// for fragments and for the language of a page.
func Diff(page, translated string) (differences []string) {
	for _, kind := range []struct {
		name string
		of   func(page string) []string
	}{
		{"code block", blocks},
		{"table row", rows},
		{"heading", headings},
		{"link", links},
	} {
		want, got := kind.of(page), kind.of(translated)
		for i := range max(len(want), len(got)) {
			if w, g := at(want, i), at(got, i); w != g {
				differences = append(differences,
					fmt.Sprintf("%s %d is %s, want %s", kind.name, i+1, g, w))
				break
			}
		}
	}
	return differences
}

func at(parts []string, i int) string {
	if i >= len(parts) {
		return "missing"
	}
	return fmt.Sprintf("%q", parts[i])
}

func blocks(page string) (blocks []string) {
	for _, b := range fence.FindAllString(page, -1) {
		if strings.HasPrefix(b, "```sh\n") {
			b = comment.ReplaceAllString(b, "")
		}
		blocks = append(blocks, b)
	}
	return blocks
}

func rows(page string) (rows []string) {
	for _, r := range row.FindAllString(fence.ReplaceAllString(page, ""), -1) {
		var cells []string
		for cell := range strings.SplitSeq(r, "|") {
			figures := figure.FindAllString(cell, -1)
			slices.Sort(figures)
			cells = append(cells, strings.Join(figures, " "))
		}
		rows = append(rows, strings.Join(cells, "|"))
	}
	return rows
}

func headings(page string) []string {
	return heading.FindAllString(fence.ReplaceAllString(page, ""), -1)
}

func links(page string) (targets []string) {
	for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		targets = append(targets, language.ReplaceAllString(m[1], ".md"))
	}
	slices.Sort(targets) // a translation may have them in another order
	return targets
}
