package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gracefulgo/graceful/verify/mutation/toggle"
)

// work is the packages with their mutants and tests.
type work struct {
	root, temp string
	race       bool
	only       *regexp.Regexp // matches the names, such as quit.TestStop, of the tests to run
	skip       *regexp.Regexp // matches none of them
	slowest    time.Duration  // slower tests are not run

	mutants  []*mutant // by number
	packages []*listing
	overlay  string // its file

	binaries []*binary
	tests    []*test // the tests that pass, fastest first
}

// listing is the output of go list for a package.
type listing struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// binary is the test binary of a package, with all mutants.
type binary struct {
	pkg        *listing
	file, race string // race: with the race detector; "": not built
}

// test is a test, an example or a fuzz test with its seeds.
type test struct {
	binary  *binary
	name    string
	took    time.Duration
	reached []byte // 1 for each mutant that it reaches
}

// mutate writes the mutants of all packages, and the overlay that contains
// them.
func (w *work) mutate(ctx context.Context) error {
	format := "{{.ImportPath}}\t{{.Dir}}\t{{.Export}}\t{{join .GoFiles \" \"}}"
	args := append([]string{"list", "-export", "-deps", "-f", format}, packages...)
	out, err := output(ctx, w.root, "go", args...)
	if err != nil {
		return err
	}
	exports := make(map[string]string)
	byDir := make(map[string]*listing)
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		exports[f[0]] = f[2]
		byDir[f[1]] = &listing{f[0], f[1], f[2], strings.Fields(f[3])}
	}
	replace := make(map[string]string)
	for _, name := range packages {
		p := byDir[filepath.Join(w.root, filepath.FromSlash(name))]
		if p == nil {
			return fmt.Errorf("go list tells nothing of %s", name)
		}
		w.packages = append(w.packages, p)
		if err := w.mutatePackage(p, exports, replace); err != nil {
			return err
		}
	}
	if len(w.mutants) > toggle.Most {
		return fmt.Errorf("%d mutants, %d is the most", len(w.mutants), toggle.Most)
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	w.overlay = filepath.Join(w.temp, "overlay.json")
	return os.WriteFile(w.overlay, data, 0o666)
}

func (w *work) mutatePackage(p *listing, exports, replace map[string]string) error {
	fset := token.NewFileSet()
	var files []*ast.File
	var sources [][]byte
	for _, name := range p.GoFiles {
		src, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, name, src,
			parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files, sources = append(files, f), append(sources, src)
	}
	info := &types.Info{Types: make(map[ast.Expr]types.TypeAndValue),
		Defs: make(map[*ast.Ident]types.Object),
		Uses: make(map[*ast.Ident]types.Object)}
	open := func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", open)}
	pkg, err := config.Check(p.ImportPath, fset, files, info)
	if err != nil {
		return err
	}
	for i, f := range files {
		path := filepath.Join(p.Dir, p.GoFiles[i])
		name, err := filepath.Rel(w.root, path)
		if err != nil {
			return err
		}
		r := &rewriter{fset: fset, info: info, pkg: pkg, file: filepath.ToSlash(name),
			src:   sources[i],
			first: len(w.mutants)}
		out := r.rewrite(f)
		if out == nil {
			continue
		}
		w.mutants = append(w.mutants, r.found...)
		to := filepath.Join(w.temp, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(to, out, 0o666); err != nil {
			return err
		}
		replace[path] = to
	}
	return nil
}

// build builds the tests. Those of quit are always needed, since the other
// packages serve it. Those of another package are needed if it has chosen
// mutants, or may reach some.
func (w *work) build(ctx context.Context, chosen []*mutant) error {
	for i, p := range w.packages {
		if !w.wanted(p, chosen) || w.skip.MatchString(path.Base(p.ImportPath)+".") {
			continue
		}
		b := &binary{pkg: p, file: filepath.Join(w.temp, fmt.Sprintf("%d.test", i))}
		if _, err := output(ctx, p.Dir, "go", "test", "-c", "-vet=off", "-overlay="+w.overlay,
			"-o", b.file); err != nil {
			return err
		}
		if slices.ContainsFunc(chosen, func(m *mutant) bool { return m.races }) {
			b.race = filepath.Join(w.temp, fmt.Sprintf("%d.race.test", i))
			if _, err := output(ctx, p.Dir, "go", "test", "-c", "-race", "-vet=off",
				"-overlay="+w.overlay, "-o", b.race); err != nil {
				return err
			}
		}
		w.binaries = append(w.binaries, b)
	}
	return nil
}

// wanted reports whether the tests of p may reach a chosen mutant: it is in p,
// or in a package that p imports.
func (w *work) wanted(p *listing, chosen []*mutant) bool {
	for _, m := range chosen {
		if m.pkg == p.ImportPath ||
			strings.Contains(p.ImportPath, "/quit") && !strings.HasPrefix(m.pkg, p.ImportPath) &&
				!strings.Contains(m.pkg, "/quit/") && !strings.HasSuffix(p.ImportPath, "quittest") {
			return true
		}
	}
	return false
}

// measure runs each test alone, without a mutant. It leaves out tests that fail
// or are slow.
func (w *work) measure(ctx context.Context, workers int) error {
	var all []*test
	for _, b := range w.binaries {
		out, err := output(ctx, b.pkg.Dir, b.file, "-test.list=.")
		if err != nil {
			return err
		}
		for name := range strings.Lines(out) {
			name = strings.TrimSpace(name)
			full := path.Base(b.pkg.ImportPath) + "." + name
			if !strings.HasPrefix(name, "Benchmark") && w.only.MatchString(full) &&
				!w.skip.MatchString(full) {
				all = append(all, &test{binary: b, name: name})
			}
		}
	}
	start := time.Now()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards w.tests, slow and first
		slow  []string
		first error
		queue = make(chan int)
	)
	for range workers {
		wg.Go(func() {
			for i := range queue {
				t := all[i]
				err := w.measureTest(ctx, t, filepath.Join(w.temp, fmt.Sprintf("reached%d", i)))
				mu.Lock()
				switch {
				case errors.Is(err, context.DeadlineExceeded):
					slow = append(slow, t.name)
				case err != nil:
					first = errors.Join(first, err)
				default:
					w.tests = append(w.tests, t)
				}
				mu.Unlock()
			}
		})
	}
	for i := range all {
		queue <- i
	}
	close(queue)
	wg.Wait()
	if first != nil && ctx.Err() == nil {
		fmt.Println("not run, since they fail without a mutant:", first)
	}
	slices.SortFunc(w.tests, func(a, b *test) int { return int(a.took - b.took) })
	fmt.Printf("%d tests, measured in %v; not run, since they take longer than %v: %s\n",
		len(w.tests), time.Since(start).Round(time.Second), w.slowest, strings.Join(slow, " "))
	return ctx.Err()
}

func (w *work) measureTest(ctx context.Context, t *test, file string) error {
	if err := os.WriteFile(file, make([]byte, len(w.mutants)), 0o666); err != nil {
		return err
	}
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, w.slowest)
	defer cancel()
	cmd := command(limited, t.binary.pkg.Dir, t.binary.file, "-test.run=^"+t.name+"$")
	cmd.Env = append(os.Environ(), toggle.ReachedVar+"="+file)
	out, err := cmd.CombinedOutput()
	t.took = time.Since(start)
	if limited.Err() != nil {
		return limited.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", t.name, err, out)
	}
	t.reached, err = os.ReadFile(file)
	return err
}

// try runs the tests that reach m, with m on, until one fails. The first runs
// are of many fast tests, the last ones of few slow ones.
func (w *work) try(ctx context.Context, m *mutant) (outcome, detail string) {
	outcome, detail = w.tryWith(ctx, m, false)
	if outcome == survived && m.races && w.race {
		outcome, detail = w.tryWith(ctx, m, true)
	}
	return outcome, detail
}

func (w *work) tryWith(ctx context.Context, m *mutant, race bool) (outcome, detail string) {
	tests := 0
	for _, own := range []bool{true, false} { // those of its own package first
		for _, b := range w.binaries {
			if (b.pkg.ImportPath == m.pkg) != own {
				continue
			}
			var batch []*test
			var took time.Duration
			limit := 100 * time.Millisecond // of a batch's fast tests; grows
			flush := func() (string, string) {
				if len(batch) == 0 {
					return survived, ""
				}
				tests += len(batch)
				outcome, detail := w.runBatch(ctx, m, b, batch, took, race)
				batch, took = nil, 0
				return outcome, detail
			}
			for _, t := range w.tests {
				if t.binary != b || t.reached[m.id] == 0 {
					continue
				}
				if took+t.took > limit && len(batch) > 0 {
					if outcome, detail := flush(); outcome != survived {
						return outcome, detail
					}
					limit *= 4
				}
				batch, took = append(batch, t), took+t.took
			}
			if outcome, detail := flush(); outcome != survived {
				return outcome, detail
			}
		}
	}
	if tests == 0 {
		return survived, "reached by no test"
	}
	return survived, fmt.Sprintf("%d tests", tests)
}

// runBatch runs the tests of a batch in one process.
func (w *work) runBatch(
	ctx context.Context, m *mutant, b *binary, batch []*test, took time.Duration, race bool,
) (outcome, detail string) {
	file, limit := b.file, 10*time.Second+8*took
	if race {
		file, limit = b.race, 30*time.Second+40*took
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var names []string
	for _, t := range batch {
		names = append(names, t.name)
	}
	cmd := command(limited, b.pkg.Dir, file, "-test.failfast",
		"-test.run=^("+strings.Join(names, "|")+")$")
	cmd.Env = append(os.Environ(), toggle.ActiveVar+"="+strconv.Itoa(m.id))
	out, err := cmd.CombinedOutput()
	switch {
	case limited.Err() != nil:
		return timedOut, "in " + names[0] + "…"
	case err != nil:
		return killed, "by " + failed(out)
	}
	return survived, ""
}

// failed returns the test that has failed, or the reason.
func failed(out []byte) string {
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "--- FAIL: "); ok {
			return strings.Fields(name)[0]
		}
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return line
		}
	}
	return "the exit status"
}

// output runs a command and returns its standard output.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.Bytes())
	}
	return string(out), nil
}
