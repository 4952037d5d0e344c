package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// rewriteAll rewrites all Go files in and below dir, except tests, and returns
// the number of points.
func rewriteAll(dir string) (points int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "testdata":
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		out, n, err := rewrite(path, src, points)
		if err != nil {
			return err
		}
		points += n
		return os.WriteFile(path, out, 0o666)
	})
	return points, err
}

// rewrite returns the source with a call of package perturb at each point:
// before each statement, and before the right side of each && and ||. Points
// are numbered from first on. Everything stays on its line, so positions in
// messages and stacks are those of the source.
func rewrite(name string, src []byte, first int) (out []byte, points int, err error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, 0, err
	}
	type point struct {
		at     int // in src
		format string
	}
	var found []point
	add := func(at token.Pos, format string) {
		found = append(found, point{fset.Position(at).Offset, format})
	}
	addAll := func(list []ast.Stmt) {
		for _, s := range list {
			add(s.Pos(), "perturb.P(%d); ")
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BlockStmt:
			switch {
			case len(n.List) == 0: // it may be the body of a select that waits for ever
			case isClause(n.List[0]):
			default:
				addAll(n.List)
			}
		case *ast.CaseClause:
			addAll(n.Body)
		case *ast.CommClause:
			addAll(n.Body)
		case *ast.BinaryExpr:
			switch n.Op {
			case token.LAND:
				add(n.Y.Pos(), "perturb.B(%d) && ")
			case token.LOR:
				add(n.Y.Pos(), "!perturb.B(%d) || ")
			}
		}
		return true
	})
	if len(found) == 0 {
		return src, 0, nil
	}
	slices.SortStableFunc(found, func(a, b point) int { return a.at - b.at })

	var buf bytes.Buffer
	done := fset.Position(file.Name.End()).Offset
	buf.Write(src[:done])
	buf.WriteString(`; import "github.com/gracefulgo/graceful/internal/perturb"`)
	for i, p := range found {
		buf.Write(src[done:p.at])
		fmt.Fprintf(&buf, p.format, first+i)
		done = p.at
	}
	buf.Write(src[done:])
	return buf.Bytes(), len(found), nil
}

// isClause reports whether s is a clause in the body of a switch or a select,
// and so not a statement of its own.
func isClause(s ast.Stmt) bool {
	switch s.(type) {
	case *ast.CaseClause, *ast.CommClause:
		return true
	}
	return false
}
