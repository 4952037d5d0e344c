//go:build unix

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// heading is the heading of the rows, in Markdown.
const heading = "| platform | form | passed | skipped | left out | time | outcome | day | Go | " +
	"run by |"

// row returns the result as a row of a table.
func (r result) row() string {
	return fmt.Sprintf("| %s | %s | %d | %d | %d | %v | %s | %s | %s | %s |",
		r.platform.name, r.form,
		r.passed, r.counts.skipped, r.leftOut, r.took.Round(time.Second), r.outcome(),
		time.Now().UTC().Format(time.DateOnly), r.gover, r.runner)
}

// mark is the line before text that updateDoc writes.
func mark(of string) string { return "<!-- " + of + ", by go run ./verify/platforms -update -->\n" }

const endMark = "<!-- end -->\n"

// updateDoc writes the results to a file. It keeps earlier results of other
// platforms, or of the other form.
func updateDoc(file string, results []result) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := replaced(string(old), "results", func(old string) string {
		rows := strings.SplitAfter(old, "\n")
		for _, r := range results {
			key := fmt.Sprintf("| %s | %s |", r.platform.name, r.form)
			rows = slices.DeleteFunc(rows, func(row string) bool {
				return strings.HasPrefix(row, key)
			})
			rows = append(rows, r.row()+"\n")
		}
		return strings.Join(rows, "")
	})
	if err != nil {
		return err
	}
	text, err = replaced(text, "tests", func(string) string { return selections() })
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), 0o666)
}

// replaced returns text with the part after a mark replaced.
func replaced(text, of string, by func(old string) string) (string, error) {
	before, rest, begins := strings.Cut(text, mark(of))
	old, after, ends := strings.Cut(rest, endMark)
	if !begins || !ends {
		return "", fmt.Errorf("there is no place for the %s", of)
	}
	return before + mark(of) + by(old) + endMark + after, nil
}

// selections lists in Markdown the tests that are run, and those that are left
// out, with the reason.
func selections() string {
	var b strings.Builder
	for _, p := range platforms {
		fmt.Fprintf(&b, "\n### %s\n\nEnvironment: `%s`. ", p.name, strings.Join(p.env, " "))
		if len(p.args) > 0 {
			fmt.Fprintf(&b, "Flags: `%s`. ", strings.Join(p.args, " "))
		}
		fmt.Fprintf(&b, "Long form: %s. Short form: %s.\n", p.long, p.short)
		if len(p.leftOut) > 0 {
			b.WriteString("\n")
		}
		for _, l := range p.leftOut {
			fmt.Fprintf(&b, "- left out: `%s`: %s.\n", l.test, l.why)
		}
	}
	return b.String() + "\n"
}

func (s selection) String() string {
	switch {
	case s.packages == nil:
		return "not run"
	case s.run == "":
		return "`" + strings.Join(s.packages, " ") + "`"
	case strings.HasPrefix(s.run, quick):
		return "`" + strings.Join(s.packages, " ") +
			"`, the tests that depend on the processor and the scheduler"
	}
	return fmt.Sprintf("`%s -run '%s'`", strings.Join(s.packages, " "), s.run)
}
