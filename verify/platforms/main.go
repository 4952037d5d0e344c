//go:build unix

// Platforms runs the tests on other platforms: other processors, emulated;
// other systems; other versions and settings of Go.
//
//	go run ./verify/platforms             # a selection, as in CI
//	go run ./verify/platforms -long       # all sensible tests
//	go run ./verify/platforms -only linux/s390x,windows/amd64 -long
//	go run ./verify/platforms -long -update
//
// It prints a table with a row for each platform: how many tests have passed,
// were skipped by themselves, and are left out, and the program that ran them.
// The exit status is 1 if a test fails.
//
// A platform whose runner is missing is skipped with the reason; if the
// environment variable CI is set, it is an error. Nothing is installed, except
// wazero, which go install builds into a temporary folder. With -update the
// rows are written to verify/platforms.md, with the tests that are left out and
// the reasons.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	var (
		long    = flag.Bool("long", false, "run all tests that make sense on a platform")
		only    = flag.String("only", "", "the platforms, separated by commas; all by default")
		update  = flag.Bool("update", false, "write the results to verify/platforms.md")
		verbose = flag.Bool("v", false, "print the commands")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &session{long: *long, verbose: *verbose}
	if err := s.run(ctx, *only, *update); err != nil {
		fmt.Fprintln(os.Stderr, "platforms:", err)
		os.Exit(1)
	}
}

// session is one run of the program.
type session struct {
	long, verbose bool

	temp   string // removed in the end
	goroot string
}

// result is the result of a platform.
type result struct {
	platform *platform
	form     string // short or long
	runner   string // with its version
	gover    string // the version of Go
	counts
	leftOut int
	took    time.Duration
	skipped string // the reason why nothing was run; "" if it was
	err     error
}

// counts are numbers of tests and examples, without subtests.
type counts struct{ passed, skipped, failed int }

func (s *session) run(ctx context.Context, only string, update bool) error {
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	os.Setenv("GOWORK", "off")
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list -m: %w", err)
	}
	if err := os.Chdir(strings.TrimSpace(string(root))); err != nil {
		return err
	}
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	s.goroot = strings.TrimSpace(string(goroot))
	if s.temp, err = os.MkdirTemp("", "platforms"); err != nil {
		return err
	}
	defer os.RemoveAll(s.temp)
	os.Setenv("PATH", s.temp+string(os.PathListSeparator)+os.Getenv("PATH"))

	var results []result
	for _, p := range chosen {
		if !s.long && p.short.packages == nil {
			continue
		}
		r := s.test(ctx, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Printf("%s: %s\n", p.name, r.outcome())
		results = append(results, r)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(table, "\n"+strings.ReplaceAll(heading, "|", "\t|"))
	for _, r := range results {
		fmt.Fprintln(table, strings.ReplaceAll(r.row(), "|", "\t|"))
	}
	table.Flush()
	if update {
		if err := updateDoc("verify/platforms.md", results); err != nil {
			return err
		}
	}
	var failures []error
	for _, r := range results {
		if r.err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", r.platform.name, r.err))
		}
	}
	return errors.Join(failures...)
}

// choose returns the platforms with the names in list.
func choose(list string) ([]*platform, error) {
	if list == "" {
		return platforms, nil
	}
	var chosen []*platform
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(platforms, func(p *platform) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no platform is named %q", name)
		}
		chosen = append(chosen, platforms[i])
	}
	return chosen, nil
}

// test runs the tests of a platform.
func (s *session) test(ctx context.Context, p *platform) (r result) {
	start := time.Now()
	r.platform, r.form = p, "short"
	if s.long {
		r.form = "long"
	}
	defer func() { r.took = time.Since(start) }()
	missing := func(why string) result {
		r.skipped = why
		if os.Getenv("CI") != "" {
			r.err = errors.New(why)
		}
		return r
	}
	for _, command := range p.needs {
		if _, err := exec.LookPath(command); err != nil {
			return missing(command + " is not installed")
		}
	}
	u := &use{session: s, env: slices.Clone(p.env), exec: p.exec}
	if p.prepare != nil {
		if r.err = p.prepare(ctx, u); r.err != nil {
			return r
		}
	}
	if u.end != nil {
		defer u.end()
	}
	r.runner = "this machine"
	if len(p.version) > 0 {
		r.runner = p.version[0] + ": " + firstLine(s.command(ctx, u, p.version...))
	}
	r.gover = firstLine(s.command(ctx, u, "go", "env", "GOVERSION"))
	selected, limit := p.short, "5m"
	if s.long {
		selected, limit = p.long, "30m"
	}
	r.leftOut = len(p.leftOut)
	args := append([]string{"test", "-json", "-count=1", "-timeout=" + limit}, p.args...)
	if !s.long && !slices.Contains(p.args, "-short") {
		args = append(args, "-short")
	}
	if u.exec != "" {
		args = append(args, "-exec="+u.exec)
	}
	if selected.run != "" {
		args = append(args, "-run="+selected.run)
	}
	if len(p.leftOut) > 0 {
		args = append(args, "-skip="+pattern(p.leftOut))
	}
	r.counts, r.err = s.goTest(s.command(ctx, u,
		append([]string{"go"}, append(args, selected.packages...)...)...))
	if r.err == nil && r.passed == 0 {
		r.err = errors.New("no test was run")
	}
	return r
}

// pattern returns a regular expression for the names in list.
func pattern(list []leftOut) string {
	var names []string
	for _, l := range list {
		names = append(names, l.test)
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

// use is a platform that is prepared for tests.
type use struct {
	*session
	env  []string
	exec string // for go test
	end  func()
}

func (s *session) command(ctx context.Context, u *use, line ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = append(os.Environ(), u.env...)
	// The tests are processes of the go command, which does not end them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func firstLine(cmd *exec.Cmd) string {
	out, err := cmd.Output()
	if err != nil {
		return fmt.Sprintf("%s: %v", cmd.Args[0], err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// goTest runs go test -json, and prints the output of tests that fail.
func (s *session) goTest(cmd *exec.Cmd) (counts, error) {
	if s.verbose {
		fmt.Println(cmd)
	}
	var c counts
	out, err := cmd.StdoutPipe()
	if err != nil {
		return c, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return c, err
	}
	type key struct{ pkg, test string }
	texts := make(map[key]*strings.Builder) // of tests that have not ended
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct{ Action, Package, ImportPath, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // not of go test
			continue
		}
		top, _, _ := strings.Cut(e.Test, "/")
		k := key{e.Package + e.ImportPath, top}
		switch {
		case e.Action == "output" || e.Action == "build-output":
			if texts[k] == nil {
				texts[k] = new(strings.Builder)
			}
			texts[k].WriteString(e.Output)
		case e.Test != top: // a subtest
		case e.Action == "fail" || e.Action == "build-fail":
			if e.Test != "" {
				c.failed++
			}
			if text := texts[k]; text != nil {
				fmt.Print(text)
			}
			delete(texts, k)
		case e.Action == "pass" || e.Action == "skip":
			if e.Test != "" && e.Action == "pass" {
				c.passed++
			} else if e.Test != "" {
				c.skipped++
			}
			delete(texts, k)
		}
	}
	err = errors.Join(lines.Err(), cmd.Wait())
	if err != nil {
		fmt.Print(stderr.String())
		for k, text := range texts { // a test during which the process has ended
			fmt.Printf("%s %s has not ended:\n%s", k.pkg, k.test, text)
		}
		if c.failed > 0 {
			err = fmt.Errorf("%d tests have failed", c.failed)
		}
	}
	return c, err
}

func (r result) outcome() string {
	switch {
	case r.err != nil:
		return "FAIL: " + r.err.Error()
	case r.skipped != "":
		return "skipped: " + r.skipped
	}
	return "ok"
}
