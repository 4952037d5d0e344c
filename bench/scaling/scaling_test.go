package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/bench/internal/rows"
	"github.com/gracefulgo/graceful/bench/internal/scaling"
)

// TestPage wants the figures of docs/scaling.md to be those of what was
// measured.
func TestPage(t *testing.T) {
	in, err := os.Open(filepath.Join("..", input))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	all, err := rows.Read(in, input)
	if err != nil {
		t.Fatal(err)
	}
	m, err := scaling.From(all)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("..", page))
	if err != nil {
		t.Fatal(err)
	}
	want, err := update(text, all, m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Error("docs/scaling.md has other figures than were measured: run go run ./scaling")
	}

	text = bytes.Replace(text, []byte("<!-- end check -->"), nil, 1)
	if _, err := update(text, all, m); err == nil || !strings.Contains(err.Error(), "end check") {
		t.Errorf("without the end of the check, the error is %v", err)
	}
}

func TestFormulas(t *testing.T) {
	m := scaling.Measured{Moved: 40, WaitGroup: 10, WaitGroupOnTwo: 50, Quit: 12}
	for _, tt := range []struct {
		name      string
		got, want float64
	}{
		{"extra", m.Extra(), 20},
		{"shared, at most", m.Shared(8, m.Moved), 10 + 2*7*40},
		{"shared by one", m.Shared(1, m.Moved), 10},
		{"stripes of 6 cores", float64(scaling.Stripes(6)), 64},
		{"stripes of 8 cores", float64(scaling.Stripes(8)), 64},
		{"striped", m.Striped(8, m.Moved), 12 + 2*40*7.0/64},
		{"fresh", m.Fresh(8, m.Moved), 12 + 2*40*7.0/64 + 80},
		{"close", m.Close(8), 64 * 40},
		{"bytes", float64(scaling.Bytes(8)), 8192},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}
