package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRewrite(t *testing.T) {
	const src = `//go:build unix

package p // here

import "fmt"

var f = func() bool { return a && (b || c) } // a func of a variable

func g(c chan int) {
	defer func() { _ = recover() }()
outer:
	for i := 0; i < 3 && f(); i++ {
		// A comment.
		switch {
		case i == 1:
			fallthrough
		default:
		}
		select {
		case <-c:
			continue outer
		case c <- 1:
		}
	}
	select {}
}

func empty() {}
`
	const want = `//go:build unix

package p; import "github.com/gracefulgo/graceful/internal/perturb" // here

import "fmt"

var f = func() bool { perturb.P(5); return a && perturb.B(6) && (b || !perturb.B(7) || c) } // a func of a variable

func g(c chan int) {
	perturb.P(8); defer func() { perturb.P(9); _ = recover() }()
perturb.P(10); outer:
	for i := 0; i < 3 && perturb.B(11) && f(); i++ {
		// A comment.
		perturb.P(12); switch {
		case i == 1:
			perturb.P(13); fallthrough
		default:
		}
		perturb.P(14); select {
		case <-c:
			perturb.P(15); continue outer
		case c <- 1:
		}
	}
	perturb.P(16); select {}
}

func empty() {}
`
	got, points, err := rewrite("p.go", []byte(src), 5)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if points != 12 {
		t.Errorf("%d points, want 12", points)
	}
}

func TestRewriteNothing(t *testing.T) {
	const src = "package p\n\ntype T struct{}\n"
	got, points, err := rewrite("p.go", []byte(src), 0)
	if string(got) != src || points != 0 || err != nil {
		t.Errorf("got %q, %d, %v", got, points, err)
	}
}

// TestRewriteAll checks that most of the package is rewritten, and its tests
// are not.
func TestRewriteAll(t *testing.T) {
	root, dir := filepath.Join("..", ".."), t.TempDir()
	if err := copyModule(dir, root); err != nil {
		t.Fatal(err)
	}
	points, err := rewriteAll(filepath.Join(dir, rewritten))
	if err != nil {
		t.Fatal(err)
	}
	if points < fewest {
		t.Errorf("%d points, want %d at least", points, fewest)
	}
	for name, want := range map[string]bool{"event.go": false, "event_test.go": true} {
		before, err := os.ReadFile(filepath.Join(root, rewritten, name))
		if err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(filepath.Join(dir, rewritten, name))
		if err != nil {
			t.Fatal(err)
		}
		if same := string(after) == string(before); same != want {
			t.Errorf("%s is unchanged: %t, want %t", name, same, want)
		}
	}
}
