package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/bench/internal/rows"
	"github.com/gracefulgo/graceful/bench/internal/sample"
	"github.com/gracefulgo/graceful/bench/internal/scaling"
)

func filled(t *testing.T, text string, in io.Reader) (string, error) {
	t.Helper()
	all, err := rows.Read(in, "the test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := scaling.From(all)
	if err != nil {
		t.Fatal(err)
	}
	return fill(text, all, m)
}

// TestFill has a w of 300, a q of 150 and an h of 30, the medians of the
// sample.
func TestFill(t *testing.T) {
	page, err := filled(t, text, strings.NewReader(sample.Output(3)))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| Add and Done of a `sync.WaitGroup`, on one core: *w* | 300.0 ns |",
		"| the same on each of two cores at once | 600.0 ns |",
		"| an atomic add to one line, 2 *h* | 60 ns | 90 ns |",
		"| Add and Done of a `sync.WaitGroup`, 4 *h* | 300 ns | 600 ns |",
		"| 2 | 300–600 ns | 169 ns | 469 ns |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "{{") {
		t.Errorf("the page has a place without figures:\n%s", page)
	}
	_, err = filled(t, strings.Replace(text, "{{check}}", "", 1),
		strings.NewReader(sample.Output(3)))
	if want := "text.md has no line {{check}}, or several"; err == nil || err.Error() != want {
		t.Errorf("without a place, the error is %v, want %q", err, want)
	}
}

// TestPage checks that docs/scaling.md has the current figures.
func TestPage(t *testing.T) {
	in, err := os.Open(filepath.Join("..", input))
	got, noPage := os.ReadFile(filepath.Join("..", page))
	if err != nil && noPage != nil {
		t.Skip("nothing has been measured yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	want, err := filled(t, text, in)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/scaling.md is not what was measured: run go run ./scaling (%v)", noPage)
	}
}

func TestFormulas(t *testing.T) {
	m := scaling.Measured{Moved: 40, WaitGroup: 10, WaitGroupOnTwo: 50, Quit: 12}
	least, most := m.Add()
	for _, tt := range []struct {
		name      string
		got, want float64
	}{
		{"busy at least", least, 12.5},
		{"busy at most", most, 40},
		{"shared", m.Shared(8, most), 2 * 8 * 40},
		{"shared by one", m.Shared(1, 2), 10},
		{"stripes of 6 cores", float64(scaling.Stripes(6)), 64},
		{"stripes of 8 cores", float64(scaling.Stripes(8)), 64},
		{"striped", m.Striped(8, most), 12 + 2*40*7.0/64},
		{"fresh", m.Fresh(8, most), 12 + 2*40*7.0/64 + 80},
		{"close", m.Close(8), 64 * 40},
		{"bytes", float64(scaling.Bytes(8)), 8192},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}
