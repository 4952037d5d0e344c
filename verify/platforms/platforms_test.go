//go:build unix

package main

import (
	"bytes"
	"context"
	"debug/pe"
	"encoding/binary"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLeftOut checks that each test that a platform leaves out exists, and at
// least one for each part of a name that it selects.
func TestLeftOut(t *testing.T) {
	tests := make(map[string]bool)
	for _, dir := range []string{"quit", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(
			path string, _ fs.DirEntry, err error,
		) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
					tests[f.Name.Name] = true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range platforms {
		for _, l := range p.leftOut {
			if !tests[l.test] {
				t.Errorf("%s leaves out %s, which is no test", p.name, l.test)
			}
			if l.why == "" {
				t.Errorf("%s does not say why it leaves out %s", p.name, l.test)
			}
		}
		for _, s := range []selection{p.short, p.long} {
			for _, part := range regexp.MustCompile(`\w+`).FindAllString(s.run, -1) {
				found := false
				for name := range tests {
					found = found || strings.Contains(name, part)
				}
				if !found {
					t.Errorf("%s selects %s, and there is no such test", p.name, part)
				}
			}
		}
	}
}

// TestDoc checks that the page lists the current selections, and a result of
// each platform.
func TestDoc(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "platforms.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := string(doc)
	got, err := replaced(want, "tests", func(string) string { return selections() })
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Error("verify/platforms.md lists other tests than are run: update it with -update")
	}
	for _, p := range platforms {
		if !strings.Contains(want, "| "+p.name+" | ") {
			t.Errorf("verify/platforms.md has no result of %s", p.name)
		}
	}
}

func TestReplaced(t *testing.T) {
	text := "before\n" + mark("x") + "old\n" + endMark + "between\n" + mark("y") + endMark
	got, err := replaced(text, "x", func(old string) string { return old + "new\n" })
	want := strings.Replace(text, "old\n", "old\nnew\n", 1)
	if got != want || err != nil {
		t.Errorf("replaced(%q) = %q, %v, want %q", text, got, err, want)
	}
	if _, err := replaced("before\n", "x", nil); err == nil {
		t.Error("replaced() without a mark = nil, want an error")
	}
}

// TestGoTest counts the tests in the output of go test -json.
func TestGoTest(t *testing.T) {
	for _, test := range []struct {
		name, events, status string
		want                 counts
		fails                bool
	}{
		{
			name: "passed",
			events: `{"Action":"pass","Package":"p","Test":"TestA/sub"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Test":"ExampleC"}
{"Action":"pass","Package":"p"}
{"Action":"skip","Package":"without tests"}`,
			status: "0",
			want:   counts{passed: 2, skipped: 1},
		},
		{
			name: "failed",
			events: `{"Action":"fail","Package":"p","Test":"TestA/sub"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}`,
			status: "1",
			want:   counts{passed: 1, failed: 1},
			fails:  true,
		},
		{
			name:   "did not build",
			events: `{"Action":"build-fail","ImportPath":"p"}`,
			status: "1",
			fails:  true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", `printf '%s\n' "$0"; exit "$1"`,
				test.events, test.status)
			got, err := new(session).goTest(cmd)
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("goTest() = %+v, %v, want %+v, fails %t", got, err, test.want, test.fails)
			}
		})
	}
}

// TestMissing checks that a platform without its runner is skipped, but not in
// CI.
func TestMissing(t *testing.T) {
	p := &platform{name: "missing", needs: []string{"no such command"}}
	for _, ci := range []string{"", "true"} {
		t.Setenv("CI", ci)
		r := new(session).test(context.Background(), p)
		if r.skipped != "no such command is not installed" || (r.err != nil) != (ci != "") {
			t.Errorf("with CI=%q, test() = skipped %q, %v", ci, r.skipped, r.err)
		}
	}
}

// TestForwarder reads the library as the loader of Windows does.
func TestForwarder(t *testing.T) {
	f, err := pe.NewFile(bytes.NewReader(forwarder("a.dll", "Func", "OTHER.Target")))
	if err != nil {
		t.Fatal(err)
	}
	section := f.Sections[0]
	data, err := section.Data()
	if err != nil {
		t.Fatal(err)
	}
	directory := f.OptionalHeader.(*pe.OptionalHeader64).DataDirectory
	exports := directory[pe.IMAGE_DIRECTORY_ENTRY_EXPORT]
	number := func(address uint32) uint32 {
		return binary.LittleEndian.Uint32(data[address-section.VirtualAddress:])
	}
	text := func(address uint32) string {
		s, _, _ := strings.Cut(string(data[address-section.VirtualAddress:]), "\x00")
		return s
	}
	d := exports.VirtualAddress
	if got := text(number(d + 12)); got != "a.dll" {
		t.Errorf("the library is %q, want %q", got, "a.dll")
	}
	if got := text(number(number(d + 32))); got != "Func" {
		t.Errorf("the function is %q, want %q", got, "Func")
	}
	function := number(number(d + 28))
	if got := text(function); got != "OTHER.Target" || function < d || function >= d+exports.Size {
		t.Errorf("the function is that of %q, at %#x, want %q, inside the directory at %#x",
			got, function, "OTHER.Target", d)
	}
}
