//go:build unix

package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Checkout returns a new folder named "graceful" with a copy of each file of
// this repository that git tracks, and of no other file. It skips the test if
// there is no git repository, unless CI is set.
func Checkout(t testing.TB) string {
	t.Helper()
	git := func(args ...string) string {
		out, err := exec.Command("git", args...).Output()
		if err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("git %v: %v", args, err)
			}
			t.Skipf("git %v: %v", args, err)
		}
		return string(out)
	}
	root := strings.TrimSuffix(git("rev-parse", "--show-toplevel"), "\n")
	dir := filepath.Join(t.TempDir(), "graceful")
	for name := range strings.SplitSeq(git("-C", root, "ls-files", "-z"), "\x00") {
		if name == "" { // after the last file
			continue
		}
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
