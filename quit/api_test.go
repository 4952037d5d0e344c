package quit_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAPI compares the exported names of the packages with testdata/api.txt. A
// changed line of that file is a change that users notice.
func TestAPI(t *testing.T) {
	var api strings.Builder
	for _, folder := range []string{".", "quithttp", "quittest"} {
		for _, line := range exported(t, folder) {
			api.WriteString(line + "\n")
		}
	}
	const file = "testdata/api.txt"
	if *update {
		if err := os.WriteFile(file, []byte(api.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, now := strings.Split(string(want), "\n"), strings.Split(api.String(), "\n")
	for _, line := range before {
		if !slices.Contains(now, line) {
			t.Errorf("gone: %s", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(before, line) {
			t.Errorf("new: %s", line)
		}
	}
	if t.Failed() {
		t.Log("if that is meant: go test ./quit -run TestAPI -update, and a line in CHANGELOG.md")
	}
}

// exported returns a sorted line for each name that the package in folder
// exports on Linux.
func exported(t *testing.T, folder string) (lines []string) {
	t.Helper()
	context := build.Default
	context.GOOS, context.GOARCH = "linux", "amd64"
	pkg, err := context.ImportDir(folder, 0)
	if err != nil {
		t.Fatal(err)
	}
	files := token.NewFileSet()
	text := func(node any) string {
		var b bytes.Buffer
		if err := printer.Fprint(&b, files, node); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(b.String()), " ")
	}
	add := func(format string, args ...any) {
		lines = append(lines, pkg.Name+": "+fmt.Sprintf(format, args...))
	}
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(
			files, filepath.Join(folder, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.FileExports(file)
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil &&
					!ast.IsExported(strings.TrimPrefix(text(d.Recv.List[0].Type), "*")) {
					continue
				}
				d.Body = nil
				add("%s", text(d))
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						fields, isStruct := s.Type.(*ast.StructType)
						if !isStruct {
							add("type %s", text(s))
							continue
						}
						add("type %s struct", s.Name)
						for _, f := range fields.Fields.List {
							for _, n := range f.Names {
								add("field %s.%s %s", s.Name, n, text(f.Type))
							}
							if len(f.Names) == 0 {
								add("field %s.%s, embedded", s.Name, text(f.Type))
							}
						}
					case *ast.ValueSpec:
						add("%s %s", d.Tok, text(s))
					}
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}
