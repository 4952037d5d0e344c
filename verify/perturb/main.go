// Perturb runs the tests of package quit on a copy whose goroutines are delayed
// at random before every statement. It does so again and again with new seeds:
//
//	go run ./verify/perturb -for 10m
//	go run ./verify/perturb -for 10m -- -race -run 'Once|Report'
//	go run ./verify/perturb -seed 123 -- -v
//
// Arguments after -- are for go test. The seed chooses the order of the tests
// too. If a run fails, the program prints its seed and its output, and the exit
// status is 1 in the end. The same seed delays the same points as often and for
// as long, but the rest is up to the scheduler, so a failure may need several
// runs to come again. GOMAXPROCS and GODEBUG are passed on.
//
// Unless there is a -skip among the arguments, these are not run:
//
//   - TestExplore and FuzzAgainstModel: they have no timing, and are only slow
//     here,
//   - TestVeryDeepChain: millions of statements, one after the other,
//   - benchmarks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/gracefulgo/graceful/internal/perturb"
)

const (
	skipped   = "^(TestExplore|FuzzAgainstModel|TestVeryDeepChain)$"
	fewest    = 1000 // points: with fewer, most of the package was not found
	rewritten = "quit"
)

func main() {
	var (
		period = flag.Duration("for", 2*time.Minute, "start runs for this long")
		seed   = flag.Uint64("seed", 0, "run once, with this seed")
		pkg    = flag.String("pkg", "./quit",
			"the package, of those in ./quit, whose tests are run")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *period, *seed, *pkg, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "perturb:", err)
		os.Exit(1)
	}
}

// run makes the copy and runs the tests: once if there is a seed, otherwise
// until period is over or ctx is done.
func run(ctx context.Context, period time.Duration, seed uint64, pkg string, args []string) error {
	os.Setenv("GOWORK", "off")
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list -m: %w", err)
	}
	dir, err := os.MkdirTemp("", "perturb")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyModule(dir, strings.TrimSpace(string(root))); err != nil {
		return err
	}
	points, err := rewriteAll(filepath.Join(dir, rewritten))
	if err != nil {
		return err
	}
	fmt.Println(points, "points")
	if points < fewest {
		return fmt.Errorf("only %d points, want %d at least", points, fewest)
	}

	build := exec.CommandContext(ctx, "go", "build", "./"+rewritten+"/...")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("the copy does not build: %w\n%s", err, out)
	}
	if seed != 0 {
		return test(ctx, dir, seed, pkg, args)
	}
	runs, failed := 0, 0
	for end := time.Now().Add(period); ctx.Err() == nil && time.Now().Before(end); {
		err := test(ctx, dir, 1+uint64(rand.Uint32()), pkg, args)
		if ctx.Err() != nil {
			break
		}
		runs++
		if err != nil {
			failed++
		}
	}
	fmt.Printf("%d runs, %d failed\n", runs, failed)
	if failed > 0 {
		return errors.New("there were failures")
	}
	return ctx.Err()
}

// test runs the tests of pkg in dir once.
func test(ctx context.Context, dir string, seed uint64, pkg string, args []string) error {
	start := time.Now()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", fmt.Sprintf("-shuffle=%d", seed),
		"-skip="+skipped)
	cmd.Args = append(append(cmd.Args, args...), pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", perturb.SeedVar, seed))
	out, err := cmd.CombinedOutput()
	outcome := "ok"
	if err != nil {
		outcome = fmt.Sprintf("FAILED: %v", err)
	}
	fmt.Printf("seed %d, %v: %s\n%s", seed, time.Since(start).Round(time.Second), outcome, out)
	return err
}

// copyModule copies the files of the module in root to dir, except those whose
// names begin with a dot.
func copyModule(dir, root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join(root, e.Name()), filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			err = os.CopyFS(to, os.DirFS(from))
		default:
			err = copyFile(to, from)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o666)
}
