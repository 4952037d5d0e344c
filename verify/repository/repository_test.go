// Package repository tests the files that GitHub reads.
package repository

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var root = filepath.Join("..", "..")

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// nested returns the folders of all modules but the root, from the root on:
// "/bench".
func nested(t *testing.T) (folders []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if entry.Name() != "go.mod" {
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if folder != "." {
			folders = append(folders, "/"+filepath.ToSlash(folder))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) < 2 {
		t.Fatalf("there are %q, want more modules", folders)
	}
	slices.Sort(folders)
	return folders
}

// TestDependabot wants every module that requires others in dependabot.yml.
func TestDependabot(t *testing.T) {
	var got []string
	item := regexp.MustCompile(`(?m)^      - (/\S+)$`)
	for _, found := range item.FindAllStringSubmatch(read(t, ".github/dependabot.yml"), -1) {
		got = append(got, found[1])
	}
	if want := nested(t); !slices.Equal(got, want) {
		t.Errorf("dependabot.yml has the modules\n%q, want\n%q", got, want)
	}
}

// TestContributing wants every module that requires others in CONTRIBUTING.md.
func TestContributing(t *testing.T) {
	text := read(t, "CONTRIBUTING.md")
	for _, folder := range nested(t) {
		if !strings.Contains(text, "`"+folder[1:]+"`") {
			t.Errorf("CONTRIBUTING.md does not name `%s`", folder[1:])
		}
	}
}

// TestSecurityLinked wants vulnerabilities to be led away from the issues.
func TestSecurityLinked(t *testing.T) {
	if !strings.Contains(read(t, ".github/ISSUE_TEMPLATE/config.yml"), "/SECURITY.md\n") {
		t.Error("the list of issue templates has no link to SECURITY.md")
	}
}

// TestVersions wants the first section of the changelog to be the changes to
// come, and the next one a version.
func TestVersions(t *testing.T) {
	heading := regexp.MustCompile(`(?m)^## \[(.*?)\]( - (\d{4}-\d\d-\d\d|not tagged yet))?$`)
	found := heading.FindAllStringSubmatch(read(t, "CHANGELOG.md"), -1)
	if len(found) < 2 || found[0][1] != "Unreleased" ||
		!regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(found[1][1]) || found[1][3] == "" {
		t.Errorf("the sections of CHANGELOG.md are %q, want Unreleased and a version", found)
	}
}
