package translation

import (
	"strings"
	"testing"
)

const page = "# A\n\n[B](b.md#b)\n\n```sh\ngo test  # all\n```\n\n| a | b |\n| --- | --- |\n" +
	"| 1 of 2 | `f` |\n\n## C\n"

func TestDiff(t *testing.T) {
	same := strings.NewReplacer("A", "甲", "b.md#b", "b.zh-CN.md#乙", "# all", "# 全部",
		"1 of 2", "2 个中的 1 个")
	if got := Diff(page, same.Replace(page)); len(got) > 0 {
		t.Errorf("a translation differs: %q", got)
	}
	for _, tt := range []struct{ old, new, want string }{
		{"go test", "go vet", `code block 1 is "` + "```sh" + `\ngo vet\n` + "```" +
			`", want "` + "```sh" + `\ngo test\n` + "```" + `"`},
		{"1 of 2", "1 of 3", `table row 3 is "|1 3|` + "`f`" + `|", want "|1 2|` + "`f`" + `|"`},
		{"`f`", "`g`", `table row 3 is "|1 2|` + "`g`" + `|", want "|1 2|` + "`f`" + `|"`},
		{"## C\n", "", `heading 2 is missing, want "## "`},
		{"b.md", "c.md", `link 1 is "c.md", want "b.md"`},
	} {
		got := Diff(page, strings.Replace(page, tt.old, tt.new, 1))
		if len(got) != 1 || got[0] != tt.want {
			t.Errorf("with %q for %q, Diff = %q, want %q", tt.new, tt.old, got, tt.want)
		}
	}
}
