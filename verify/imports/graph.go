package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/gracefulgo/graceful/"

// A graph has the packages of the repository. All packages below bench are one
// node, and so are those below examples and below verify.
type graph struct {
	imports map[string]set // by the code of a package, without its tests
	users   map[string]set // of a package, tests included
}

type set map[string]bool

func (s set) sorted() []string { return slices.Sorted(maps.Keys(s)) }

// read reads the imports of all Go files below root.
func read(root string) (*graph, error) {
	g := &graph{imports: make(map[string]set), users: make(map[string]set)}
	files := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if name == "testdata" || strings.HasPrefix(name, ".") && path != root {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from := node(filepath.ToSlash(folder))
		add(g.imports, from, from)
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			ours, ok := strings.CutPrefix(imported, module)
			if !ok {
				continue
			}
			to := node(ours)
			add(g.users, to, from)
			if !strings.HasSuffix(name, "_test.go") {
				add(g.imports, from, to)
			}
		}
		return nil
	})
	for name, to := range g.imports {
		delete(to, name)
	}
	for name, from := range g.users {
		delete(from, name)
	}
	return g, err
}

// node returns the node of the package in folder.
func node(folder string) string {
	switch top, _, _ := strings.Cut(folder, "/"); top {
	case "bench", "examples", "verify":
		return top
	}
	return folder
}

func add(sets map[string]set, key, value string) {
	if sets[key] == nil {
		sets[key] = make(set)
	}
	sets[key][value] = true
}

// testing returns the internal packages that quit and the packages below it do
// not import, directly or through others: those for tests.
func (g *graph) testing() set {
	reached := make(set)
	var visit func(name string)
	visit = func(name string) {
		if !reached[name] {
			reached[name] = true
			for to := range g.imports[name] {
				visit(to)
			}
		}
	}
	for name := range g.imports {
		if strings.HasPrefix(name, "quit") {
			visit(name)
		}
	}
	rest := make(set)
	for name := range g.imports {
		if strings.HasPrefix(name, "internal/") && !reached[name] {
			rest[name] = true
		}
	}
	return rest
}

// levels returns the level of each package of names, 0 at the bottom. A package
// is above those that it imports, and as high as its lowest importer lets it.
func (g *graph) levels(names []string) map[string]int {
	level := make(map[string]int)
	var height func(name string) int
	height = func(name string) int {
		if h, known := level[name]; known {
			return h
		}
		h := 0
		for to := range g.imports[name] {
			if slices.Contains(names, to) {
				h = max(h, height(to)+1)
			}
		}
		level[name] = h
		return h
	}
	for _, name := range names {
		height(name)
	}
	for changed := true; changed; {
		changed = false
		for _, name := range names {
			lowest := -1
			for _, from := range names {
				if g.imports[from][name] && (lowest < 0 || level[from] < lowest) {
					lowest = level[from]
				}
			}
			if lowest > level[name]+1 {
				level[name], changed = lowest-1, true
			}
		}
	}
	return level
}
