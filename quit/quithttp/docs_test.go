package quithttp

import (
	"flag"
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
// real shutdown. With -update it writes the picture anew.
func TestDocsPicture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, release := stuck.Shutdown()
		release()
		shot := take(q)
		timeline := regexp.MustCompile(`(?s)<svg class="timeline".*\n</svg>`)
		picture := timeline.FindString(string(shot.html(shot.clock)))
		if picture == "" {
			t.Fatal("the page has no timeline")
		}
		// In a file of its own, the picture needs a size and the style.
		opening, rest, _ := strings.Cut(picture, ">\n")
		opening = strings.Replace(opening, `width="100%"`, `width="860"`, 1)
		got := opening + ">\n<style>" + strings.ReplaceAll(statusCSS, "\r\n", "\n") + "</style>\n" +
			rest + "\n"

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
