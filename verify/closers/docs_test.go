package closers

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false,
	"write the cells of ../../docs/closers.md that are made from these tests")

const (
	doc     = "../../docs/closers.md"
	noHang  = "not made to hang" // the text of a row without a subtest "hang"
	columns = 6                  // library, code, end, does not wait for, no failure, tests
)

// source is the content of these tests, for the rows of the tables.
type source struct {
	code  map[string]string          // the code of the function close…, by the row's name
	file  map[string]string          // the file of the row's test
	runs  map[string][]string        // its subtests
	calls map[string]map[string]bool // the names that a function uses, by its name
}

func parse(t *testing.T) source {
	s := source{map[string]string{}, map[string]string{}, map[string][]string{},
		map[string]map[string]bool{}}
	files, err := filepath.Glob("*_test.go")
	must(t, err)
	fset := token.NewFileSet()
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		f, err := parser.ParseFile(fset, file, text, 0)
		must(t, err)
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil {
				continue
			}
			name := fn.Name.Name
			if row, ok := strings.CutPrefix(name, "close"); ok {
				from, to := fset.Position(fn.Body.Lbrace), fset.Position(fn.Body.Rbrace)
				s.code[row] = string(text[from.Offset+1 : to.Offset])
			}
			if row, ok := strings.CutPrefix(name, "Test"); ok {
				s.file[row] = file
			}
			uses := map[string]bool{}
			s.calls[name] = uses
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Ident:
					uses[n.Name] = true
				case *ast.CallExpr:
					sel, ok := n.Fun.(*ast.SelectorExpr)
					if !ok || sel.Sel.Name != "Run" || len(n.Args) != 2 {
						break
					}
					if lit, ok := n.Args[0].(*ast.BasicLit); ok {
						run, _ := strconv.Unquote(lit.Value)
						row := strings.TrimPrefix(name, "Test")
						s.runs[row] = append(s.runs[row], run)
					}
				}
				return true
			})
		}
	}
	return s
}

// reaches reports whether the function from uses the name to, directly or
// through another function of these tests.
func (s source) reaches(from, to string, seen map[string]bool) bool {
	if from == to {
		return true
	}
	if seen[from] {
		return false
	}
	seen[from] = true
	for name := range s.calls[from] {
		if s.reaches(name, to, seen) {
			return true
		}
	}
	return false
}

// codeCell returns a row's code as a cell of a table, with the same lines.
func codeCell(code string) string {
	var lines []string
	for line := range strings.Lines(code) {
		line = strings.TrimSpace(line)
		if len(lines) == 0 {
			line = strings.TrimPrefix(line, "return ")
		}
		if line != "" {
			lines = append(lines, "`"+strings.ReplaceAll(line, "|", `\|`)+"`")
		}
	}
	return strings.Join(lines, "<br>")
}

var (
	link      = regexp.MustCompile(`^(.*\]\(https://pkg\.go\.dev/([^)#]+)[^)]*\)).*$`)
	testName  = regexp.MustCompile(`\bTest(\w+)`)
	cellBreak = regexp.MustCompile(` \| `)
)

// libraryCell returns the first cell with the tested version.
func libraryCell(cell string, requires map[string]string) string {
	m := link.FindStringSubmatch(cell)
	if m == nil {
		return cell
	}
	best := ""
	for path := range requires {
		if (m[2] == path || strings.HasPrefix(m[2], path+"/")) && len(path) > len(best) {
			best = path
		}
	}
	if best == "" { // the standard library
		return m[1]
	}
	return m[1] + " " + requires[best]
}

// TestDocs checks that each function close… has its row in the tables, that
// each row has its test, and that code, versions and tests in them are current.
func TestDocs(t *testing.T) {
	t.Parallel()
	s := parse(t)
	requires := map[string]string{}
	mod, err := os.ReadFile("go.mod")
	must(t, err)
	for line := range strings.Lines(string(mod)) {
		if f := strings.Fields(line); len(f) >= 2 && strings.HasPrefix(f[1], "v") {
			requires[f[0]] = f[1]
		}
	}
	old, err := os.ReadFile(doc)
	must(t, err)
	var text bytes.Buffer
	rows := map[string]bool{}
	for line := range strings.Lines(string(old)) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "| [") {
			fmt.Fprintln(&text, line)
			continue
		}
		cells := cellBreak.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |"), -1)
		m := testName.FindStringSubmatch(cells[len(cells)-1])
		if len(cells) != columns || m == nil {
			t.Fatalf("a row has %d cells, want %d, the last one with its test:\n%s",
				len(cells), columns, line)
		}
		row := m[1]
		if rows[row] {
			t.Errorf("%s has two rows", row)
		}
		rows[row] = true
		if s.code[row] == "" || s.file[row] == "" ||
			!s.reaches("Test"+row, "close"+row, map[string]bool{}) {
			t.Errorf("the row of %s has no func close%[1]s, or no Test%[1]s that uses it", row)
			continue
		}
		hang := false
		for _, run := range s.runs[row] {
			hang = hang || strings.HasPrefix(run, "hang")
		}
		if hang == strings.Contains(cells[2], noHang) {
			t.Errorf("%s has a subtest that hangs: %v. Its row says %q", row, hang, cells[2])
		}
		cells[0] = libraryCell(cells[0], requires)
		cells[1] = codeCell(s.code[row])
		cells[5] = fmt.Sprintf("[Test%s](../verify/closers/%s): %s",
			row, s.file[row], strings.Join(s.runs[row], ", "))
		fmt.Fprintf(&text, "| %s |\n", strings.Join(cells, " | "))
	}
	for row := range s.code {
		if !rows[row] {
			t.Errorf("%s has no row", row)
		}
	}
	if len(rows) < 25 {
		t.Errorf("%d rows", len(rows))
	}
	if bytes.Equal(old, text.Bytes()) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what these tests say; go test -run TestDocs -update writes it:\n%s",
			doc, text.Bytes())
	}
	must(t, os.WriteFile(doc, text.Bytes(), 0o644))
}
