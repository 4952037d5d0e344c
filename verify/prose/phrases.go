package main

import (
	"fmt"
	"regexp"
	"strings"
)

// A paragraph is a piece of prose, with the lines that it came from.
type paragraph struct {
	lines []int    // the number of each
	raw   []string // as it stands in the file
}

func (p *paragraph) add(line int, text string) {
	p.lines = append(p.lines, line)
	p.raw = append(p.raw, text)
}

// text joins the lines. Code and the targets of links become dots, so that they
// match nothing.
func (p *paragraph) text() string {
	text := strings.Join(p.raw, "\n")
	dots := func(s string) string {
		return strings.Map(func(c rune) rune {
			if c == '\n' {
				return c
			}
			return '.'
		}, s)
	}
	text = inlineCode.ReplaceAllStringFunc(text, func(s string) string {
		return strings.ReplaceAll(dots(s), ".", "_")
	})
	return target.ReplaceAllStringFunc(text, func(s string) string {
		return "]" + strings.ReplaceAll(dots(s[1:]), ".", "_")
	})
}

// line returns the line of offset in text.
func (p *paragraph) line(text string, offset int) int {
	return p.lines[strings.Count(text[:offset], "\n")]
}

// A phrase is one that has plainer words.
type phrase struct {
	pattern *regexp.Regexp
	instead string
	users   bool // only in prose for users: pages, and comments of no test
}

// Words in a pattern are apart by one space, which also matches a line's end.
func say(pattern, instead string) phrase {
	pattern = strings.ReplaceAll(pattern, " ", `\s+`)
	return phrase{pattern: regexp.MustCompile(pattern), instead: instead}
}

func sayToUsers(pattern, instead string) phrase {
	p := say(pattern, instead)
	p.users = true
	return p
}

// start is the start of a sentence, with the mark of a list or a heading.
const start = `(?:^\s*(?:[-*+>]\s|\d+[.)]\s|#+\s)?\s*(?:\*\*)?|[.!?:;]["')*]*\s+)`

var phrases = []phrase{
	// A func may be named Of: "Of returns" begins its comment.
	say(start+`(Of [a-zA-Z]+)`, `a sentence that begins with its subject, not with "Of"`),
	say(`\b([Aa]lso (?:where|if|when|while|though|with|without|in case))\b`, `"even if"`),
	say(`(?:`+start+`|[,;(] )([Oo]ther than)\b`, `"unlike"`),
	say(`\b(other than in)\b`, `"unlike in"`),
	say(`\b((?:end|stop)(?:s|ed|ing|ped|ping)? (?:a|the|your) (?:\w+ )?program well)\b`,
		`"shuts a program down gracefully"`),
	say(`\b((?:goes|go|gone|going|went) on without)\b`, `"no longer waited for"`),
	say(`\b((?:what|who)(?:ever)? (?:hangs|holds|hung|held))\b`,
		`the noun: "a closer that hangs", "the blocked goroutines"`),
	say(`\b((?:for|of|by|to|with|from|in) (?:whoever|whatever|whom|(?:what|who) (?:has|is|was)))\b`,
		`the noun`),
	say(`\b(is what is|is what was|are what is)\b`, `the verb, as in "Close is called"`),
	say(`\b([Tt]he whole (?:has|takes|ends))\b`, `"the shutdown may take … in all"`),
	say(`\b(makes? \w+ the share)\b`, `"limits one closer to …"`),
	say(`\b((?:im)?patient)\b`, `"gracefully", "by force"`),
	sayToUsers(`\b([Tt]he stop)\b`, `"the shutdown"`),
}

// stops are the words that may follow: those of one server, or of a func.
var stops = regexp.MustCompile(`^\s+(of|func|funcs|function|signal|method)\b`)

// nouns are the words that often stand where a noun would say more.
var nouns = regexp.MustCompile(`(?i)\b(what|who|whom|whoever|whatever)\b`)

var words = regexp.MustCompile(`[A-Za-z][A-Za-z'’-]*`)

// prose counts the words of paragraphs for folder, and notes their phrases.
func (r *result) prose(name, folder string, paragraphs []paragraph) {
	c := r.folders[folder]
	for i := range paragraphs {
		p := &paragraphs[i]
		text := p.text()
		c.words += len(words.FindAllStringIndex(text, -1))
		for _, at := range nouns.FindAllStringIndex(text, -1) {
			c.nouns++
			r.add(finding{path: name, line: p.line(text, at[0]), word: true,
				text: fmt.Sprintf("%q: %s", text[at[0]:at[1]], around(text, at[0], at[1]))})
		}
		for _, ph := range phrases {
			if ph.users && strings.HasSuffix(name, "_test.go") {
				continue
			}
			for _, at := range ph.pattern.FindAllStringSubmatchIndex(text, -1) {
				found := strings.Join(strings.Fields(text[at[2]:at[3]]), " ")
				if found == "Of returns" || ph.users && stops.MatchString(text[at[3]:]) {
					continue
				}
				r.add(finding{path: name, line: p.line(text, at[2]),
					text: fmt.Sprintf("%q, want %s", found, ph.instead)})
			}
		}
	}
	if c != (count{}) {
		r.folders[folder] = c
	}
}

// around is the text before and after a word, on one line.
func around(text string, from, to int) string {
	from, to = max(from-30, 0), min(to+40, len(text))
	return "…" + strings.Join(strings.Fields(strings.ToValidUTF8(text[from:to], "")), " ") + "…"
}
