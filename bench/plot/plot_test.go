package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/bench/internal/rows"
	"github.com/gracefulgo/graceful/bench/internal/sample"
)

func drawn(t *testing.T, in io.Reader) map[string][]byte {
	t.Helper()
	all, err := rows.Read(in, "the test")
	if err != nil {
		t.Fatal(err)
	}
	pictures, err := draw(all)
	if err != nil {
		t.Fatal(err)
	}
	return pictures
}

// TestPictures checks that each picture is well-formed, names its curves, and
// has colors for light and for dark pages, and no others.
func TestPictures(t *testing.T) {
	pictures := drawn(t, strings.NewReader(sample.Output(3)))
	want := map[string][]string{"scaling.svg": {"WaitGroup, at most", "quit, stripe elsewhere"}}
	for _, o := range rows.Operations {
		if o.Picture != nil {
			for _, peer := range o.Picture.Peers {
				want[o.Picture.File] = append(want[o.Picture.File], peer.Label)
			}
		}
	}
	if len(pictures) != len(want) {
		t.Errorf("there are %d pictures, want %d", len(pictures), len(want))
	}
	for name, names := range want {
		svg := pictures[name]
		texts, err := textsOf(svg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, n := range names {
			if !strings.Contains(texts, "\n"+n+"\n") {
				t.Errorf("%s does not name the curve %q", name, n)
			}
		}
		page, style, ok := bytes.Cut(svg, []byte("<style>"))
		style, rest, closed := bytes.Cut(style, []byte("</style>"))
		if !ok || !closed || !bytes.Contains(style, []byte("prefers-color-scheme: dark")) {
			t.Errorf("%s has no style for dark pages", name)
		}
		if bytes.Contains(page, []byte("#")) || bytes.Contains(rest, []byte("#")) {
			t.Errorf("%s has a color that is not in its style", name)
		}
	}
}

// TestDocs checks that the pictures in docs are those of the current figures.
func TestDocs(t *testing.T) {
	in, err := os.Open(filepath.Join("..", input))
	if _, noPicture := os.Stat(filepath.Join("..", output, "scaling.svg")); err != nil &&
		noPicture != nil {
		t.Skip("nothing has been measured yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for name, svg := range drawn(t, in) {
		if got, err := os.ReadFile(filepath.Join("..", output, name)); err != nil ||
			!bytes.Equal(got, svg) {
			t.Errorf("docs/%s is not what was measured: run go run ./plot (%v)", name, err)
		}
	}
}

// textsOf returns all texts of a picture, a line each.
func textsOf(svg []byte) (string, error) {
	texts := "\n"
	in := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := in.Token()
		if errors.Is(err, io.EOF) {
			return texts, nil
		}
		if err != nil {
			return texts, err
		}
		if text, ok := token.(xml.CharData); ok {
			texts += string(text) + "\n"
		}
	}
}
