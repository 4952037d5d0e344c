package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// limits are the widths in columns, and how often a word may stand.
type limits struct {
	Comment, Code, Page, Tab int
	Rate                     float64 // in 1,000 words
}

var defaults = limits{Comment: 80, Code: 100, Page: 100, Tab: 4, Rate: 1}

// A finding is one thing to change.
type finding struct {
	path string
	line int
	text string
	word bool // a "what" or "who": a finding only if there are too many
}

func (f finding) String() string {
	if f.line == 0 {
		return f.path + ": " + f.text
	}
	return fmt.Sprintf("%s:%d: %s", f.path, f.line, f.text)
}

// A count is how many words a folder has.
type count struct{ words, nouns int }

func (c count) rate() float64 {
	if c.words == 0 {
		return 0
	}
	return 1000 * float64(c.nouns) / float64(c.words)
}

// A result is the outcome of all that was measured.
type result struct {
	limits   limits
	findings []finding
	folders  map[string]count
}

func newResult(l limits) *result {
	return &result{limits: l, folders: make(map[string]count)}
}

// measure reads a file, or all files of a folder.
func (r *result) measure(path string) error {
	return filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			hidden := strings.HasPrefix(name, ".") && strings.Trim(name, ".") != ""
			if name == "testdata" || hidden && name != ".github" {
				return filepath.SkipDir
			}
			return nil
		}
		ext := filepath.Ext(name)
		if ext != ".go" && ext != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if ext == ".go" {
			r.goFile(filepath.ToSlash(path), string(text))
		} else {
			r.page(filepath.ToSlash(path), string(text))
		}
		return nil
	})
}

// add notes a finding. On a page that a command writes it names the command.
func (r *result) add(f finding) {
	if by := generator(f.path); by != "" {
		f.text += " (written by " + by + ")"
	}
	r.findings = append(r.findings, f)
}

func (r *result) sort() {
	slices.SortStableFunc(r.findings, func(a, b finding) int {
		return cmp.Or(strings.Compare(a.path, b.path), cmp.Compare(a.line, b.line))
	})
}

// total is the sum of all folders.
func (r *result) total() (sum count) {
	for _, c := range r.folders {
		sum.words += c.words
		sum.nouns += c.nouns
	}
	return sum
}

// problems are the findings that have to go.
func (r *result) problems() []finding {
	var problems []finding
	for _, f := range r.findings {
		if !f.word {
			problems = append(problems, f)
		}
	}
	if sum := r.total(); sum.rate() > r.limits.Rate {
		problems = append(problems, finding{path: "all", text: fmt.Sprintf(
			`"what" and "who" stand %.1f times in 1,000 words, want %.1f at most`,
			sum.rate(), r.limits.Rate)})
	}
	return problems
}

// table lists the folders, with how often "what" and "who" stand in each.
func (r *result) table() string {
	var b strings.Builder
	b.WriteString("   words  what/who  in 1,000\n")
	row := func(name string, c count) {
		fmt.Fprintf(&b, "%8d  %8d  %8.1f  %s\n", c.words, c.nouns, c.rate(), name)
	}
	var names []string
	for name := range r.folders {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		row(name, r.folders[name])
	}
	row("all", r.total())
	return b.String()
}

// columns is the width of a line.
func (l limits) columns(line string) int {
	n := 0
	for _, c := range line {
		switch {
		case c == '\t':
			n += l.Tab - n%l.Tab
		case c >= 0x2e80 && c < 0xa000 || c >= 0xff00 && c < 0xff61:
			n += 2 // Chinese characters
		default:
			n++
		}
	}
	return n
}

// chinese reports whether the page at path is in Chinese.
func chinese(path string) bool { return strings.HasSuffix(path, ".zh-CN.md") }
