package quit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gracefulgo/graceful/internal/stuck"
)

// TestDocsStuck compares the report of a stuck shutdown in the documentation
// with that of a real one. With -update it writes the report in the
// documentation.
func TestDocsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, release := stuck.Shutdown()
		release()
		root, err := filepath.Abs("..")
		if err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(q.Report().String(), filepath.ToSlash(root), "/src")
		file := filepath.Join("..", "docs", "stuck.txt")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the report of a stuck shutdown =\n%s\nand %s has\n%s", got, file, want)
		}
		readme, err := os.ReadFile(filepath.Join("..", "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(readme), "```\n"+string(want)+"```") {
			t.Errorf("the README does not show %s as it is", file)
		}
	})
}
