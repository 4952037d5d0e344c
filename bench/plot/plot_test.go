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
)

// TestPictures wants the pictures in docs to be those of what was measured, and
// each to be well-formed, to name its curves, and to have colors for light and
// for dark pages, and no other ones.
func TestPictures(t *testing.T) {
	in, err := os.Open(filepath.Join("..", input))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	all, err := rows.Read(in, input)
	if err != nil {
		t.Fatal(err)
	}
	pictures, err := draw(all)
	if err != nil {
		t.Fatal(err)
	}
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
		if has, err := os.ReadFile(filepath.Join("..", output, name)); err != nil || !bytes.Equal(has, svg) {
			t.Errorf("docs/%s is not what was measured: run go run ./plot (%v)", name, err)
		}
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
