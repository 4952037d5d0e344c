//go:build unix

package article

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/internal/translation"
)

var update = flag.Bool("update", false,
	"write the tables and the code of ../../docs/migrating.md, in both languages")

const (
	doc     = "../../docs/migrating.md"
	chinese = "../../docs/migrating.zh-CN.md"
)

// A block of the page follows a line that names its sources.
var (
	codeBlock  = regexp.MustCompile("(?s)<!-- code: ([^\n]*) -->\n```go\n.*?```\n")
	tableBlock = regexp.MustCompile(`(?m)^<!-- table: (.*) -->\n(\|.*\n)*`)
	anyBlock   = regexp.MustCompile("(?m)^```go$")
	seconds    = regexp.MustCompile(`\b[0-9]+\.[0-9] s\b`)
)

// TestCode checks that the code on the page is that of the programs, which are
// compiled, and that the page has no other code.
func TestCode(t *testing.T) {
	page := read(t, doc)
	blocks := codeBlock.FindAllSubmatch(page, -1)
	if n := len(anyBlock.FindAll(page, -1)); n != len(blocks) || n < 10 {
		t.Errorf("%d blocks of Go, of which %d are a program's", n, len(blocks))
	}
	shown := make(map[string]bool)
	rewrite(t, doc, codeBlock, func(m [][]byte) string {
		file, decls, _ := strings.Cut(string(m[1]), " ")
		shown[filepath.Dir(file)] = true
		return fmt.Sprintf("<!-- code: %s -->\n```go\n%s```\n",
			m[1], code(t, file, strings.Fields(decls)))
	}, nil)
	for _, p := range peers {
		if !shown[p.program] {
			t.Errorf("%s is not on the page", p.program)
		}
	}
	for _, f := range fragments {
		if !shown[f.program] {
			t.Errorf("%s is not on the page", f.program)
		}
	}
	if *update {
		checkChinese(t)
	}
}

// code returns the declarations of a file with these names, or the whole file
// from its package clause on.
func code(t *testing.T, file string, names []string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, text, parser.ParseComments)
	must(t, err)
	at := func(p token.Pos) int { return fset.Position(p).Offset }
	if len(names) == 0 {
		return string(text[at(f.Package):])
	}
	var parts []string
	for _, d := range f.Decls {
		name := ""
		switch d := d.(type) {
		case *ast.FuncDecl:
			name = d.Name.Name
		case *ast.GenDecl:
			if s, ok := d.Specs[0].(*ast.TypeSpec); ok {
				name = s.Name.Name
			}
		}
		if i := slices.Index(names, name); i >= 0 {
			names = slices.Delete(slices.Clone(names), i, i+1)
			parts = append(parts, string(text[at(d.Pos()):at(d.End())])+"\n")
		}
	}
	if len(names) > 0 {
		t.Errorf("%s has no %v", file, names)
	}
	return strings.Join(parts, "\n")
}

// checkTables checks that the tables of the page have these cells. Times are
// those of the run that wrote them.
func checkTables(t *testing.T, cells map[[2]string]string) {
	t.Helper()
	tables := 0
	rewrite(t, doc, tableBlock, func(m [][]byte) string {
		tables++
		var b strings.Builder
		fmt.Fprintf(&b, "<!-- table: %s -->\n", m[1])
		cell := func(program, column string) string {
			c, ok := cells[[2]string{program, column}]
			if !ok {
				t.Errorf("no cell for %s, %s", program, column)
			}
			return c
		}
		programs := strings.Fields(string(m[1]))
		if strings.HasPrefix(programs[0], "with_") {
			peersTable(&b, programs, cell)
		} else {
			fragmentsTable(&b, programs, cell)
		}
		return b.String()
	}, seconds)
	if tables < 4 {
		t.Errorf("%d tables", tables)
	}
	if *update {
		checkChinese(t)
	}
}

// TestChinese checks that the page in Chinese is a translation of the other
// one, with its code and its measured tables.
func TestChinese(t *testing.T) { checkChinese(t) }

func checkChinese(t *testing.T) {
	t.Helper()
	page := read(t, doc)
	blocks := make(map[string]string)
	for _, m := range codeBlock.FindAllSubmatch(page, -1) {
		blocks[string(m[1])] = string(m[0])
	}
	for _, m := range tableBlock.FindAllSubmatch(page, -1) {
		blocks[string(m[1])] = inChinese(string(m[0]))
	}
	same := func(m [][]byte) string { return blocks[string(m[1])] }
	rewrite(t, chinese, codeBlock, same, nil)
	rewrite(t, chinese, tableBlock, same, nil)
	for _, d := range translation.Diff(string(page), string(read(t, chinese))) {
		t.Errorf("%s: %s", chinese, d)
	}
}

// inChinese returns a table in Chinese. A text that is not known stays as it
// is.
func inChinese(table string) string {
	var lines []string
	for line := range strings.SplitSeq(table, "\n") {
		if strings.HasPrefix(line, "|") {
			cells := strings.Split(line, "|")
			for i, cell := range cells {
				cells[i] = cellInChinese(cell)
			}
			line = strings.Join(cells, "|")
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func cellInChinese(cell string) string {
	text := strings.TrimSpace(cell)
	if text == "" {
		return cell
	}
	if whole, ok := words[text]; ok {
		return " " + whole + " "
	}
	parts := strings.Split(text, ", ")
	for i, part := range parts {
		if known, ok := words[part]; ok {
			parts[i] = known
		}
		for _, p := range phrases {
			parts[i] = p.english.ReplaceAllString(parts[i], p.chinese)
		}
	}
	return " " + strings.Join(parts, "，") + " "
}

// words has cells, and parts of cells.
var words = map[string]string{
	"program":                                 "程序",
	"package":                                 "包",
	"the work takes 1 s more":                 "工作还需 1 s",
	"the work takes 5 s more":                 "工作还需 5 s",
	"the article's":                           "文章里的",
	"none":                                    "无",
	"SIGTERM, 50 requests in flight":          "SIGTERM，50 个请求正在处理",
	"order of the ends":                       "结束的顺序",
	"a second SIGTERM while they run":         "处理期间收到第二个 SIGTERM",
	"a second Ctrl-C while they run":          "处理期间第二次按 Ctrl-C",
	"the poller fails while they run":         "处理期间 poller 失败",
	"SIGTERM, the `Close` of the cache hangs": "SIGTERM，缓存的 `Close` 卡住",
	"the database is closed then":             "此时数据库是否关闭",
	"killed by the signal":                    "被信号杀死",
	"poller, requests, cache, database":       "poller、请求、缓存、数据库",
	"requests, poller, cache, database":       "请求、poller、缓存、数据库",
	"yes":                                     "是",
	"no":                                      "否",
}

var phrases = []struct {
	english *regexp.Regexp
	chinese string
}{
	{regexp.MustCompile(`^([0-9]+) lost$`), "丢失 $1"},
	{regexp.MustCompile(`^status ([0-9]+)$`), "退出码 $1"},
	{regexp.MustCompile(`^still runs after ([0-9]+)s$`), "$1 s 后仍在运行"},
}

func fragmentsTable(b *strings.Builder, programs []string, cell func(_, column string) string) {
	fmt.Fprintln(b, "| program | package | the work takes 1 s more | the work takes 5 s more |")
	fmt.Fprintln(b, "| --- | --- | --- | --- |")
	for _, f := range fragments {
		if !slices.Contains(programs, f.program) {
			continue
		}
		row := func(pkg, suffix string) {
			fmt.Fprintf(b, "| [%s](../verify/article/%[1]s/main.go) | %s", f.program, pkg)
			for _, hold := range holds {
				fmt.Fprintf(b, " | %s", cell(f.program+suffix, fmt.Sprint(hold)))
			}
			fmt.Fprintln(b, " |")
		}
		if f.original != nil {
			row("the article's", original)
		}
		if f.program == "listen" || f.program == "grpc" {
			row("none", "")
		} else {
			row("`quit`", "")
		}
	}
}

func peersTable(b *strings.Builder, programs []string, cell func(program, column string) string) {
	fmt.Fprint(b, "|")
	for _, p := range programs {
		fmt.Fprintf(b, " | [%s](../verify/article/%[1]s/main.go)", p)
	}
	fmt.Fprintf(b, " |\n| ---%s |\n", strings.Repeat(" | ---", len(programs)))
	for _, r := range []struct{ column, title string }{
		{once, "SIGTERM, 50 requests in flight"},
		{inOrder, "order of the ends"},
		{twice, "a second SIGTERM while they run"},
		{ctrlC, "a second Ctrl-C while they run"},
		{fails, "the poller fails while they run"},
		{hangs, "SIGTERM, the `Close` of the cache hangs"},
		{dbClosed, "the database is closed then"},
	} {
		fmt.Fprintf(b, "| %s", r.title)
		for _, p := range programs {
			fmt.Fprintf(b, " | %s", cell(p, r.column))
		}
		fmt.Fprintln(b, " |")
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	page, err := os.ReadFile(file)
	must(t, err)
	return page
}

// rewrite replaces the blocks of a page. Without -update it checks that they
// are equal to their replacements, except for text that but matches.
func rewrite(t *testing.T, doc string, block *regexp.Regexp,
	with func(match [][]byte) string, but *regexp.Regexp,
) {
	t.Helper()
	old := read(t, doc)
	page := block.ReplaceAllFunc(old, func(m []byte) []byte {
		return []byte(with(block.FindSubmatch(m)))
	})
	if *update {
		must(t, os.WriteFile(doc, page, 0o644))
		return
	}
	mask := func(b []byte) []byte {
		if but != nil {
			b = but.ReplaceAll(b, []byte("… s"))
		}
		return b
	}
	had := strings.Split(string(mask(old)), "\n")
	for i, line := range strings.Split(string(mask(page)), "\n") {
		if i >= len(had) || had[i] != line {
			t.Errorf("%s:%d is not what these tests say, %q; go test . -update writes it",
				doc, i+1, line)
			return
		}
	}
}
