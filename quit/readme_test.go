package quit_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeSnippets checks that each Go snippet of the README is in a compiled
// file.
func TestReadmeSnippets(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "../examples/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.WriteString(squeeze(string(text)))
		}
	}
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(snippets) < 10 {
		t.Fatalf("%d snippets found, the README has more", len(snippets))
	}
	for _, s := range snippets {
		if !strings.Contains(code.String(), squeeze(string(s[1]))) {
			t.Errorf("this snippet of the README is in no file that is compiled:\n%s", s[1])
		}
	}
}

// squeeze replaces runs of space, so that line breaks and indentation do not
// count.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") + " " }
