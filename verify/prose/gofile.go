package main

import (
	"fmt"
	"go/scanner"
	"go/token"
	"path"
	"regexp"
	"strings"
)

var (
	// generated is the line that marks a Go file that a command writes.
	generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
	directive = regexp.MustCompile(`^//(go:|line |export |lint:|nolint|\s*\+build)`)
	listItem  = regexp.MustCompile(`^\s+([-*+•]|\d+[.)])\s`)
	output    = regexp.MustCompile(`(?i)^\s*(unordered )?output:`)
)

// A lineKind is the kind of a line of a Go file.
type lineKind uint8

const (
	codeLine    lineKind = iota // code, perhaps with a comment behind it
	commentLine                 // a comment alone
	freeLine                    // within a raw string, a directive or an output
)

// goFile measures a Go file.
func (r *result) goFile(name, text string) {
	if generated.MatchString(text) {
		return
	}
	lines := strings.Split(text, "\n")
	kinds := make([]lineKind, len(lines)+1)
	var file goText
	file.test = strings.HasSuffix(name, "_test.go")

	var s scanner.Scanner
	set := token.NewFileSet()
	f := set.AddFile(name, -1, len(text))
	s.Init(f, []byte(text), func(token.Position, string) {}, scanner.ScanComments)
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			break
		}
		first := f.Line(pos)
		last := first + strings.Count(lit, "\n")
		switch tok {
		case token.STRING:
			for n := first; n <= last && first != last; n++ {
				kinds[n] = freeLine
			}
		case token.COMMENT:
			alone := strings.TrimSpace(lines[first-1][:f.Position(pos).Column-1]) == ""
			file.comment(lit, first, alone, kinds)
		}
	}
	file.flush()

	for i, line := range lines {
		width, want := r.limits.columns(line), r.limits.Code
		switch kinds[i+1] {
		case freeLine:
			continue
		case commentLine:
			want = r.limits.Comment
			if unbreakable(line) {
				continue
			}
		}
		if width > want {
			kind := "code"
			if kinds[i+1] == commentLine {
				kind = "a comment"
			}
			r.add(finding{path: name, line: i + 1, text: fmt.Sprintf(
				"%s of %d columns, want %d at most", kind, width, want)})
		}
	}
	r.prose(name, path.Dir(name), file.paragraphs)
}

// unbreakable reports whether a comment's line is a single word, as a URL is.
func unbreakable(line string) bool {
	word := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "//"))
	return !strings.ContainsAny(strings.TrimPrefix(word, "- "), " \t")
}

// A goText collects the paragraphs of the comments of a Go file.
type goText struct {
	test       bool
	paragraphs []paragraph
	current    paragraph
	last       int  // the line of the last comment
	alone      bool // it had no code before it
	list       bool // within a list
	output     bool // within the expected output of an Example
}

// comment adds a comment that begins in line first.
func (t *goText) comment(lit string, first int, alone bool, kinds []lineKind) {
	if directive.MatchString(lit) {
		kinds[first] = freeLine
		return
	}
	if first != t.last+1 || alone != t.alone {
		t.flush()
		t.list, t.output = false, false
	}
	if !alone {
		t.flush() // a comment behind code is one of its own
	}
	block := strings.HasPrefix(lit, "/*")
	if block {
		lit = strings.TrimSuffix(lit, "*/")
	}
	for i, line := range strings.Split(lit[2:], "\n") {
		n := first + i
		t.last, t.alone = n, alone
		if kinds[n] == codeLine && alone {
			kinds[n] = commentLine
		}
		if t.test && alone && output.MatchString(line) {
			t.flush()
			t.output = true
		}
		indented := strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "  ")
		switch {
		case t.output:
			kinds[n] = freeLine
		case strings.TrimSpace(line) == "":
			t.flush()
			t.list = false
		case !block && listItem.MatchString(line):
			t.flush()
			t.list = true
			t.current.add(n, line)
		case !block && indented && !t.list:
			t.flush() // code, or a drawing
			if alone {
				kinds[n] = codeLine
			}
		default:
			t.current.add(n, line)
		}
	}
}

func (t *goText) flush() {
	if len(t.current.lines) > 0 {
		t.paragraphs = append(t.paragraphs, t.current)
	}
	t.current = paragraph{}
}
