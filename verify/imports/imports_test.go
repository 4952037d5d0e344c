package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPicture compares docs/packages.svg with the imports of the code.
func TestPicture(t *testing.T) {
	root := filepath.Join("..", "..")
	g, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	got := draw(g)
	want, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(picture)))
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
		t.Errorf("%s is not that of the code: go run ./verify/imports", picture)
	}
	d := xml.NewDecoder(strings.NewReader(got))
	for err == nil {
		_, err = d.Token()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("%s is no XML: %v", picture, err)
	}
}

// TestNoLineCrossesABox wants each line to pass other levels in a lane.
func TestNoLineCrossesABox(t *testing.T) {
	g := small(t)
	rows, lines := places(g, []string{"examples", "internal/text", "quit", "quit/quithttp"})
	arrange(rows)
	if len(rows) != 4 || len(lines) != 5 {
		t.Fatalf("%d rows and %d lines, want 4 and 5", len(rows), len(lines))
	}
	for _, line := range lines {
		for i, p := range line[1:] {
			if p.level != line[i].level-1 {
				t.Errorf("a line goes from level %d to level %d", line[i].level, p.level)
			}
		}
	}
}

func TestRead(t *testing.T) {
	g := small(t)
	want := map[string][]string{
		"examples":      {"quit", "quit/quithttp"},
		"internal/help": {"quit"},
		"internal/text": nil,
		"quit":          {"internal/text"},
		"quit/quithttp": {"internal/text", "quit"},
	}
	for name, imports := range want {
		if got := g.imports[name].sorted(); !slices.Equal(got, imports) {
			t.Errorf("%s imports %q, want %q", name, got, imports)
		}
	}
	if len(g.imports) != len(want) {
		t.Errorf("there are %d packages, want %d", len(g.imports), len(want))
	}
	if got := g.testing().sorted(); !slices.Equal(got, []string{"internal/help"}) {
		t.Errorf("for tests: %q, want internal/help", got)
	}
	if got := g.users["internal/help"].sorted(); !slices.Equal(got, []string{"quit"}) {
		t.Errorf("users of internal/help: %q, want quit", got)
	}
}

// small reads a small repository.
func small(t *testing.T) *graph {
	t.Helper()
	dir := t.TempDir()
	for name, imports := range map[string]string{
		"quit/a.go":              "internal/text",
		"quit/a_test.go":         "internal/help quit",
		"quit/quithttp/a.go":     "quit internal/text",
		"internal/text/a.go":     "",
		"internal/help/a.go":     "quit",
		"examples/x/main.go":     "quit quit/quithttp examples/x/y",
		"examples/x/y/y.go":      "quit",
		"quit/testdata/bad/a.go": "internal/bad",
	} {
		text := "package a\n"
		for _, path := range strings.Fields(imports) {
			text += "import _ \"" + module + path + "\"\n"
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	g, err := read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
