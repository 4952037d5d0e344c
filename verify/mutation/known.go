package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// survivor is a mutant that is known to survive. It is identified by the text
// of its line, which may move. It stands for all mutants of that operator on
// the line.
type survivor struct {
	file, operator, text, why string
}

// readKnown reads the survivors listed in the file: all lines of the form
//
//   - `file` operator `text of the line`: why
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
		var okFile, okOperator, okText bool
		s.file, rest, okFile = strings.Cut(rest, "` ")
		s.operator, rest, okOperator = strings.Cut(rest, " `")
		s.text, s.why, okText = strings.Cut(rest, "`: ")
		if !okFile || !okOperator || !okText || s.why == "" {
			return nil, fmt.Errorf("%s:%d: want \"- `file` operator `text of the line`: why\"",
				file, n)
		}
		list = append(list, s)
	}
	return list, nil
}

func find(known []survivor, m *mutant) *survivor {
	for i, s := range known {
		if s.file == m.file && s.operator == m.operator && s.text == m.text {
			return &known[i]
		}
	}
	return nil
}
