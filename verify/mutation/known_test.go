package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known.md")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("# Title\n\n- text\n- `quit/log.go` q.f remove `f(x, ` `)`: why it is: so\n")
	known, err := readKnown(file)
	if err != nil || len(known) != 1 || known[0].why != "why it is: so" {
		t.Fatalf("readKnown = %v, %v, want one with a reason", known, err)
	}
	for _, test := range []struct {
		m    mutant
		want bool
	}{
		{m: mutant{file: "quit/log.go", line: 3, within: "q.f", operator: opRemove,
			text: known[0].text}, want: true},
		{m: mutant{file: "quit/log.go", line: 3, within: "q.f", operator: opSwap,
			text: known[0].text}},
		{m: mutant{file: "quit/name.go", line: 3, within: "q.f", operator: opRemove,
			text: known[0].text}},
		{m: mutant{file: "quit/log.go", line: 3, within: "q.f", operator: opRemove, text: "f(y)"}},
		{m: mutant{file: "quit/log.go", line: 3, within: "q.g", operator: opRemove,
			text: known[0].text}},
	} {
		if got := find(known, &test.m) != nil; got != test.want {
			t.Errorf("find(%v) = %v, want %v", &test.m, got, test.want)
		}
		if err := stale(known, []*mutant{&test.m}); (err == nil) != test.want {
			t.Errorf("stale(%v) = %v", &test.m, err)
		}
	}
	for _, bad := range []string{"- `quit/log.go` f remove f(x): why\n",
		"- `quit/log.go` f remove `f(x)`\n",
		"- `quit/log.go` remove `f(x)`: why\n", "- `quit/log.go`: why\n"} {
		write(bad)
		if _, err := readKnown(file); err == nil || !strings.Contains(err.Error(), "known.md:1") {
			t.Errorf("readKnown of %q = %v, want an error with the line", bad, err)
		}
	}
	if _, err := readKnown(filepath.Join("..", "mutation.md")); err != nil {
		t.Error(err)
	}
}
