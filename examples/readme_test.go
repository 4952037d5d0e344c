package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestTable checks that the README has a row for each program, in this module
// and in those below, and that the command in each row runs that program.
func TestTable(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, row := range regexp.MustCompile("(?m)^\\| \\[[^]]*\\]\\(([^)]*)\\) \\|[^|]*\\| "+
		"`([^|]*)` \\|[^|]*\\|$").FindAllStringSubmatch(string(readme), -1) {
		folder, command := row[1], row[2]
		rows = append(rows, folder)
		if got := folderOf(command); got != filepath.Join("examples", folder) {
			t.Errorf("%q of the row of %s runs %s", command, folder, got)
		}
	}

	var programs []string
	for _, pattern := range []string{"*/main.go", "frameworks/*/main.go", "consumers/*/main.go"} {
		mains, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, main := range mains {
			programs = append(programs, filepath.ToSlash(filepath.Dir(main)))
		}
	}
	slices.Sort(rows)
	slices.Sort(programs)
	if !slices.Equal(rows, programs) || len(rows) == 0 {
		t.Errorf("the table has %v, and the programs are %v", rows, programs)
	}
}

var runs = regexp.MustCompile(`\bgo (?:-C (\S+) )?(?:run|build -o \S+) (\S+)`)

// folderOf returns the folder whose program the command runs or builds,
// relative to the root.
func folderOf(command string) string {
	words := runs.FindStringSubmatch(command)
	if words == nil {
		return "nothing"
	}
	return filepath.Join(words[1], words[2])
}
