package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/verify/mutation/toggle"
)

// TestOperators compiles one program with the mutants of all functions below,
// and runs it with each of them.
func TestOperators(t *testing.T) {
	t.Setenv("GOWORK", "off")
	funcs := []struct {
		source string
		want   string              // the result of f
		with   map[string][]string // by operator: the result with each of its mutants
	}{
		{`f() bool { return one < one+0 }`, "false",
			map[string][]string{opReturn: {"false"}, opBound: {"true"}, opArith: {"false"},
				opConstant: {"true"}}},
		{`f() bool { return one >= one }`, "true",
			map[string][]string{opReturn: {"false"}, opBound: {"false"}}},
		{`f() bool { return one == one }`, "true",
			map[string][]string{opReturn: {"false"}, opEqual: {"false"}}},
		{`f() bool { return yes && no }`, "false",
			map[string][]string{opReturn: {"false"}, opLogic: {"true"}}},
		{`f() bool { return no || yes && yes }`, "true",
			map[string][]string{opReturn: {"false"}, opLogic: {"false", "true"}}},
		{`f() int { return two - one }`, "1", map[string][]string{opReturn: {"0"}, opArith: {"3"}}},
		{`f() string { return "a" + "b"[:one] }`, "ab", map[string][]string{opReturn: {""}}},
		{`f() (n int) { n = two; if yes { return 7 }; return n }`, "7",
			map[string][]string{opReturn: {"0"}, opRemove: {"7", "2", "2"}, opNegate: {"2"}}},
		{`f() (n int) { n = 5; n -= two; n++; return n }`, "4",
			map[string][]string{opReturn: {"0"}, opRemove: {"-1", "6", "3"}, opArith: {"8", "2"}}},
		{`f() (n int) { n = 7; defer func() { n += two }(); return n }`, "9",
			map[string][]string{opReturn: {"0"}, opRemove: {"2", "7"},
				opDefer: {"7"}, opArith: {"5"}, opSwap: {"9"}}},
		{`f() (n int) { mu.Lock(); n = tries(); mu.Unlock(); return n }`, "0",
			map[string][]string{opReturn: {"0"}, opLock: {"1"}, opRemove: {"0"}, opSwap: {"1"}}},
		{`f() time.Duration { return 2 * time.Second }`, "2s",
			map[string][]string{opReturn: {"0s"}, opHalf: {"1s"}, opDouble: {"4s"}}},
		{`f() any { n.Store(3); defer n.Store(0); return n.Load() }`, "3",
			map[string][]string{opReturn: {"<nil>"}, opStore: {"0"}, opDefer: {"3"},
				opConstant: {"3"}, opSwap: {"3"}}},
		{`f() bool { c := make(chan int); close(c); return ended(c) }`, "true",
			map[string][]string{opReturn: {"false"}, opClose: {"false"}}},
		{`f() bool { id := goid.ID(); same := make(chan bool, 2); ` +
			`go send(same, &id); return <-same }`, "false",
			map[string][]string{opReturn: {"false"}, opRemove: {"deadlock"}, opGo: {"true"}}},
		{`f() int { select { case <-closed: return 7; default: return 5 } }`, "7",
			map[string][]string{opReturn: {"0"}, opCase: {"5"}}},
		{`f() int { c := make(chan int, 2); select { case c <- 7: default: }; return len(c) }`, "1",
			map[string][]string{opReturn: {"0"}, opRemove: {"0"}, opCase: {"1", "0"}}},
		{`f() (n int) { for i := range 3 { if i == two { continue }; n = n + i }; return n }`, "1",
			map[string][]string{opReturn: {"0"}, opRemove: {"0", "3", "0"},
				opEqual: {"2"}, opJump: {"3"}, opArith: {"-1"}}},
		{`f() int { switch { case two > one: return 7 }; return two }`, "7",
			map[string][]string{opReturn: {"0"}, opRemove: {"2", "2"},
				opNegate: {"2"}, opBound: {"7"}}},
	}

	var src strings.Builder
	src.WriteString("package main\n\nimport (\n\t\"time\"\n\n" +
		"\t\"github.com/gracefulgo/graceful/internal/goid\"\n)\n\n")
	var list strings.Builder
	for i, f := range funcs {
		name := fmt.Sprintf("f%d", i)
		src.WriteString("func " + strings.Replace(f.source, "f()", name+"()", 1) + "\n")
		fmt.Fprintf(&list, "%q: func() any { return %s() }, ", name, name)
	}
	const rest = `package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/gracefulgo/graceful/internal/goid"
)

var (
	one, two, yes, no = 1, 2, true, false
	mu                sync.Mutex
	n                 atomic.Int64
	closed            = make(chan int)
)

func tries() int {
	if mu.TryLock() {
		mu.Unlock()
		return 1
	}
	return 0
}

func ended(c chan int) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func send(to chan bool, id *uint64) { to <- goid.ID() == *id }

func main() {
	close(closed)
	fmt.Print(map[string]func() any{ LIST }[os.Args[1]]())
}
`
	mutants, out := rewriteSource(t, src.String(), strings.ReplaceAll(rest, "LIST", list.String()))
	if got, want := strings.Count(string(out), "\n"),
		strings.Count(src.String(), "\n"); got != want {
		t.Errorf("the rewritten source has %d lines, want %d", got, want)
	}

	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	program := filepath.Join(root, "verify", "mutation", "program") // does not exist
	write := func(name, data string) string {
		name = filepath.Join(temp, name)
		if err := os.WriteFile(name, []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
		return name
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(program, "funcs.go"): write("funcs.go", string(out)),
		filepath.Join(program, "rest.go"): write("rest.go",
			strings.ReplaceAll(rest, "LIST", list.String())),
	}})
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(temp, "program.exe")
	build := exec.Command("go", "build", "-overlay="+write("overlay.json", string(overlay)), "-o",
		binary, "./verify/mutation/program")
	build.Dir = root
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s\n%s", err, text, out)
	}
	result := func(name string, mutant int) string {
		cmd := exec.Command(binary, name)
		cmd.Env = append(os.Environ(), toggle.ActiveVar+"="+strconv.Itoa(mutant))
		text, err := cmd.CombinedOutput()
		if strings.Contains(string(text), "all goroutines are asleep - deadlock!") {
			return "deadlock"
		}
		if err != nil {
			return fmt.Sprintf("%v: %s", err, text)
		}
		return string(text)
	}
	const first = 9 // the line of the first function
	for i, f := range funcs {
		name := fmt.Sprintf("f%d", i)
		if got := result(name, -1); got != f.want {
			t.Errorf("func %s returns %s, want %s", f.source, got, f.want)
		}
		with := make(map[string][]string)
		for _, m := range mutants {
			if m.line == first+i {
				with[m.operator] = append(with[m.operator], result(name, m.id))
			}
		}
		if got, want := fmt.Sprint(with), fmt.Sprint(f.with); got != want {
			t.Errorf("func %s returns, with its mutants,\n%s, want\n%s", f.source, got, want)
		}
	}
}

// rewriteSource returns the mutants of the first file of a package with two
// files, and its new source.
func rewriteSource(t *testing.T, src, rest string) ([]*mutant, []byte) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for _, s := range []string{src, rest} {
		f, err := parser.ParseFile(fset, "", s, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Types: make(map[ast.Expr]types.TypeAndValue)}
	config := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	pkg, err := config.Check("program", fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	r := &rewriter{fset: fset, info: info, pkg: pkg, src: []byte(src)}
	out := r.rewrite(files[0])
	return r.found, out
}
