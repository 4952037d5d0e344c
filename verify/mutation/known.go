package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// survivor is a mutant that is known to survive. It is identified by its
// function and by the text of its line, which may move. It stands for all
// mutants of that operator on such lines.
type survivor struct {
	file, within, operator, text, why string
}

// readKnown reads the survivors listed in the file: all lines of the form
//
//   - `file` func operator `text of the line`: why
//
// The text may have backticks.
func readKnown(file string) ([]survivor, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []survivor
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		rest, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "- `")
		if !ok {
			continue
		}
		var s survivor
		var okFile, okWithin, okOperator, okText bool
		s.file, rest, okFile = strings.Cut(rest, "` ")
		s.within, rest, okWithin = strings.Cut(rest, " ")
		s.operator, rest, okOperator = strings.Cut(rest, " `")
		s.text, s.why, okText = strings.Cut(rest, "`: ")
		if !okFile || !okWithin || !okOperator || !okText || s.why == "" {
			return nil, fmt.Errorf("%s:%d: want \"- `file` func operator `text of the line`: why\"",
				file, n)
		}
		list = append(list, s)
	}
	return list, nil
}

func find(known []survivor, m *mutant) *survivor {
	for i, s := range known {
		if s.is(m) {
			return &known[i]
		}
	}
	return nil
}

func (s survivor) is(m *mutant) bool {
	return s.file == m.file && s.within == m.within && s.operator == m.operator && s.text == m.text
}

// stale returns an error that names the known survivors that are not mutants
// any more, since the source has changed.
func stale(known []survivor, mutants []*mutant) error {
	var errs []error
	for _, s := range known {
		if !slices.ContainsFunc(mutants, s.is) {
			errs = append(errs, fmt.Errorf("%s lists what is no mutant: %s %s %s `%s`",
				listed, s.file, s.within, s.operator, s.text))
		}
	}
	return errors.Join(errs...)
}
