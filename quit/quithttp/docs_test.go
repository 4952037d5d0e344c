package quithttp

import (
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gracefulgo/graceful/internal/stuck"
)

var update = flag.Bool("update", false, "write docs/stuck.svg anew")

// TestDocsPicture compares the picture in the documentation with the page of a
// real shutdown. With -update it writes the picture.
func TestDocsPicture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, release := stuck.Shutdown()
		release()
		shot := take(q)
		rows := regexp.MustCompile(`(?s)<div class="timeline".*\n</div>\n`).
			FindString(string(shot.html(shot.clock)))
		if rows == "" {
			t.Fatal("the page has no timeline")
		}
		// A file of its own needs a size, the style, and namespaces.
		const svg = `<svg xmlns="http://www.w3.org/2000/svg"`
		var b strings.Builder
		fmt.Fprintf(&b, "%s width=\"860\" height=\"%d\">\n", svg, 26*len(shot.Rows)+68)
		fmt.Fprintf(&b, "<style>%s</style>\n", strings.ReplaceAll(statusCSS, "\r\n", "\n"))
		b.WriteString(`<foreignObject width="100%" height="100%">` + "\n")
		b.WriteString(`<body xmlns="http://www.w3.org/1999/xhtml">` + "\n")
		b.WriteString(strings.ReplaceAll(rows, "<svg", svg))
		b.WriteString("</body>\n</foreignObject>\n</svg>\n")
		got := b.String()
		if err := xml.Unmarshal([]byte(got), new(struct{})); err != nil {
			t.Errorf("the picture is not well-formed: %v", err)
		}

		file := filepath.Join("..", "..", "docs", "stuck.svg")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the picture of a stuck shutdown is not %s, but\n%s", file, got)
		}
	})
}
