package quit_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gracefulgo/graceful/internal/translation"
)

const (
	readmeEnglish = "../README.md"
	readmeChinese = "../README.zh-CN.md"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestReadmeSnippets finds each Go snippet of the README in a file that is
// compiled.
func TestReadmeSnippets(t *testing.T) {
	readme := readFile(t, readmeEnglish)
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "../examples/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			code.WriteString(squeeze(readFile(t, file)))
		}
	}
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readme, -1)
	if len(snippets) < 10 {
		t.Fatalf("%d snippets found, the README has more", len(snippets))
	}
	for _, s := range snippets {
		if !strings.Contains(code.String(), squeeze(s[1])) {
			t.Errorf("this snippet of the README is in no file that is compiled:\n%s", s[1])
		}
	}
}

// squeeze replaces each run of white space with one space, so that indentation
// does not count.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") + " " }

// measured is the table of README.md that a command of the module bench writes.
var measured = regexp.MustCompile("(?s)<!-- brief: begin -->\n(.*?)<!-- brief: end -->\n")

// TestReadmeChinese checks that README.zh-CN.md is a translation of README.md.
// With -update it translates the measured table again.
func TestReadmeChinese(t *testing.T) {
	english, chinese := readFile(t, readmeEnglish), readFile(t, readmeChinese)
	table := translate(measured.FindString(english))
	if *update {
		chinese = measured.ReplaceAllLiteralString(chinese, table)
		if err := os.WriteFile(readmeChinese, []byte(chinese), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got := measured.FindString(chinese); got != table || got == "" {
		t.Errorf("the measured table of %s is\n%s\nwant\n%s\n"+
			"go test ./quit -run %s -update writes it", readmeChinese, got, table, t.Name())
	}
	for _, d := range translation.Diff(english, chinese) {
		t.Errorf("%s: %s", readmeChinese, d)
	}
}

// translate translates the measured table of README.md. Unknown text stays in
// English.
func translate(table string) string {
	var b strings.Builder
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") {
			b.WriteString(line)
			continue
		}
		cells := strings.Split(strings.TrimSuffix(line, " |\n"), " | ")
		b.WriteString(titles.Replace(cells[0]))
		for _, cell := range cells[1:] {
			parts := strings.Split(cell, ", ")
			for i, part := range parts {
				for _, w := range words {
					if w.english.MatchString(part) {
						parts[i] = w.english.ReplaceAllString(part, w.chinese)
						break
					}
				}
			}
			b.WriteString(" | " + strings.Join(parts, "，"))
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// titles translates the scenarios, which are in the first cells.
var titles = strings.NewReplacer(
	"eight parts, the last one opened is closed first",
	"八个部分，最后打开的最先关闭",
	"four requests in flight, of 500 ms",
	"四个正在处理的请求，各需 500 ms",
	"four parts that need 500 ms, and do not depend on each other",
	"四个互不依赖的部分，各需 500 ms",
	"the only closer hangs: the end within the timeout",
	"唯一的 closer 卡住：在时限内结束",
	"… and the output names it",
	"……而且输出里有它的名字",
	"the third of five closers hangs: the other four",
	"五个 closer 中的第三个卡住：其余四个都被调用",
	"a worker panics",
	"一个 worker panic",
	"a second Ctrl-C after 700 ms, while a closer hangs",
	"closer 卡住时，隔 700 ms 第二次按 Ctrl-C",
	"32 clients, a new connection for each request",
	"32 个客户端，每个请求新建一个连接",
	"a hijacked connection, as of a WebSocket",
	"被劫持（hijack）的连接，例如 WebSocket",
)

// words translates the parts of the other cells.
var words = []struct {
	english *regexp.Regexp
	chinese string
}{
	{regexp.MustCompile(`^by hand$`), "手写"},
	{regexp.MustCompile(`^kept$`), "做到"},
	{regexp.MustCompile(`^\*\*lost\*\*$`), "**没做到**"},
	{regexp.MustCompile(`^\*\*lost\*\* ([0-9]+)$`), "**丢失** $1"},
	{regexp.MustCompile(`^([0-9]+) lost$`), "丢失 $1"},
	{regexp.MustCompile(`^\*\*hung\*\*$`), "**卡死**"},
	{regexp.MustCompile(`^\*\*crashed\*\* ([0-9]+)$`), "**崩溃**，丢失 $1"},
	{regexp.MustCompile(`^n/a$`), "不适用"},
	{regexp.MustCompile(`^a service that panics is started anew$`), "panic 的服务会被重启"},
	{regexp.MustCompile(`^status ([0-9]+)$`), "退出码 $1"},
	{regexp.MustCompile(`^in ([0-9]+) stops$`), "共停止 $1 次"},
	{regexp.MustCompile(`^(.*) left$`), "剩余 $1"},
	{regexp.MustCompile(`^(.*) after it$`), "$1 后结束"},
}
