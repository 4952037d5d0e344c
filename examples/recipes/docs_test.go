package recipes_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocs checks that each Go snippet of docs/recipes.md is in a file of this
// folder, and that docs/recipes.md links to each recipe.
func TestDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	recipes := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.WriteString(squeeze(string(text)))
		if file == "doc.go" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		recipes++
		if !strings.Contains(string(doc), "(../examples/recipes/"+file+")") {
			t.Errorf("docs/recipes.md has no link to %s", file)
		}
	}
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	if len(snippets) < recipes || recipes == 0 {
		t.Errorf("%d snippets for %d recipes", len(snippets), recipes)
	}
	for _, s := range snippets {
		if !strings.Contains(code.String(), squeeze(s[1])) {
			t.Errorf("this snippet of docs/recipes.md is in no file of examples/recipes:\n%s", s[1])
		}
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(string(doc), -1) {
		if strings.Contains(link[1], "://") {
			continue
		}
		if _, err := os.Stat(filepath.Join("../../docs", link[1])); err != nil {
			t.Errorf("docs/recipes.md: %v", err)
		}
	}
}

// squeeze replaces each run of white space with one space, so that indentation
// does not count.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") + " " }
