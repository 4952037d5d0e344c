// Mutation changes the packages quit, quithttp and those in internal in small
// ways, one at a time, and reports the changes that no test notices:
//
//	go run ./verify/mutation -race
//	go run ./verify/mutation -short -sample 40
//	go run ./verify/mutation -race -run schedule.go:93
//
// All mutants are compiled into one test binary of each package, by go test
// -overlay, and an environment variable switches on one of them, so only the
// tests take time. Each test first runs alone, without a mutant. That run
// measures its time and the mutants that it reaches. Then each mutant meets the
// tests that reach it, the fast ones first, until one fails or its time is up.
// Child processes of the tests have the mutant too. With -race, a second binary
// has the race detector; it runs with the mutants that survive the first one
// and are about locks.
//
// The program prints a line for each mutant, with its number, which stays the
// same until the source changes. The exit status is 1 if a mutant survives that
// is not listed in verify/mutation.md.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// packages are the packages with mutants. Their tests are run.
var packages = []string{
	"./quit", "./quit/quithttp", "./quit/quittest",
	"./internal/timeline", "./internal/stacks", "./internal/text", "./internal/goid",
}

// With -short, the mutants are those in shortFiles, and tests whose name
// matches shortSkip are not run: they are slow, or of a package with slow
// tests.
const (
	shortFiles = "quit/counter.go,quit/event.go,quit/registry.go,quit/option.go,quit/closer.go," +
		"quit/name.go,quit/quit.go,quit/changed.go,internal/text/,internal/goid/"
	shortSkip = `^quithttp\.|^quittest\.|TestReserve|TestVeryDeepChain|TestHugeError|` +
		`TestClosersAreFreed|TestReturnsAtTheLast|TestReport[AOI]|TestBrokenErrors|` +
		`FuzzAgainstModel|TestCrowd|TestOnceEach|TestChild|TestExplore|TestChange[OA]|` +
		`FuzzIgnore|TestResultInTime|TestShares`
)

// listed is the file with the known survivors.
const listed = "verify/mutation.md"

type options struct {
	seed    uint64
	sample  int
	only    string
	ids     string
	files   string
	race    bool
	short   bool
	tests   string
	skip    string
	slowest time.Duration
	workers int
	list    bool
}

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", 0, "chooses the sample, and the order; 0: by chance")
	flag.IntVar(&o.sample, "sample", 0, "try so many mutants; 0: all")
	flag.StringVar(&o.only, "run", "", "try those of file.go or file.go:line")
	flag.StringVar(&o.ids, "ids", "", "try those with these numbers, as 3,17")
	flag.StringVar(&o.files, "files", "",
		"try those in files whose path begins with one of these, as quit/log.go,internal/")
	flag.BoolVar(&o.race, "race", false, "with the mutants of locks, and the race detector")
	flag.StringVar(&o.tests, "tests", "", "run only tests whose name, as quit.TestStop, matches")
	flag.StringVar(&o.skip, "skip", "", "run no test whose name, as quit.TestStop, matches")
	flag.BoolVar(&o.short, "short", false,
		"try only those in some files, with only fast tests, as CI does")
	flag.DurationVar(&o.slowest, "slowest", 5*time.Second,
		"run no test that takes longer alone; with -short, a minute")
	flag.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "how many mutants are tried at once")
	flag.BoolVar(&o.list, "list", false, "list the mutants, and try none")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "mutation: unexpected argument", flag.Arg(0))
		os.Exit(2)
	}
	if o.short {
		o.files, o.skip, o.slowest = shortFiles, shortSkip, time.Minute
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "mutation:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	os.Setenv("GOWORK", "off")
	temp, err := os.MkdirTemp("", "mutation")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	root, err := output(ctx, ".", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	root = strings.TrimSpace(root)
	known, err := readKnown(filepath.Join(root, filepath.FromSlash(listed)))
	if err != nil {
		return err
	}
	w := &work{root: root, temp: temp, slowest: o.slowest, race: o.race}
	if w.only, err = regexp.Compile(o.tests); err != nil {
		return err
	}
	if w.skip, err = regexp.Compile(cmp.Or(o.skip, "^$")); err != nil {
		return err
	}
	if err := w.mutate(ctx); err != nil {
		return err
	}
	if !o.list {
		if err := stale(known, w.mutants); err != nil {
			return err
		}
	}
	chosen, seed, err := choose(w.mutants, o)
	if err != nil {
		return err
	}
	fmt.Printf("%d mutants, %d chosen, seed %d\n", len(w.mutants), len(chosen), seed)
	if o.list {
		for _, m := range chosen {
			fmt.Printf("%s #%d: `%s` %s %s `%s`\n", m, m.id, m.file, m.within, m.operator, m.text)
		}
		return nil
	}
	if err := w.build(ctx, chosen); err != nil {
		return err
	}
	if err := w.measure(ctx, o.workers); err != nil {
		return err
	}
	return w.tryAll(ctx, chosen, o.workers, known)
}

// choose returns the mutants that the options select, in random order.
func choose(all []*mutant, o options) ([]*mutant, uint64, error) {
	var chosen []*mutant
	file, line, hasLine := strings.Cut(o.only, ":")
	for _, m := range all {
		if m.races && !o.race {
			continue
		}
		if o.only != "" && (filepath.Base(m.file) != filepath.Base(file) ||
			hasLine && strconv.Itoa(m.line) != line) {
			continue
		}
		if o.ids != "" && !slices.Contains(strings.Split(o.ids, ","), strconv.Itoa(m.id)) {
			continue
		}
		if o.files != "" && !slices.ContainsFunc(strings.Split(o.files, ","), func(p string) bool {
			return strings.HasPrefix(m.file, p)
		}) {
			continue
		}
		chosen = append(chosen, m)
	}
	if len(chosen) == 0 {
		return nil, 0, errors.New("no such mutant")
	}
	seed := o.seed
	if seed == 0 {
		seed = uint64(rand.Uint32()) + 1
	}
	if o.sample > 0 && o.sample < len(chosen) || !o.list {
		r := rand.New(rand.NewPCG(seed, 0))
		r.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	}
	if o.sample > 0 && o.sample < len(chosen) {
		chosen = chosen[:o.sample]
	}
	return chosen, seed, nil
}

// The outcomes of a mutant.
const (
	killed   = "killed"
	survived = "survived"
	timedOut = "timeout"
	explains = "explained" // it survived, and is listed
)

// tryAll tries the mutants, and prints the outcome of each and the sums.
func (w *work) tryAll(ctx context.Context, chosen []*mutant, workers int, known []survivor) error {
	var (
		next  atomic.Int64
		wg    sync.WaitGroup
		mu    sync.Mutex // guards the fields below, and stdout
		sum   = make(map[string]int)
		by    = make(map[string]map[string]int) // outcomes by operator
		start = time.Now()
	)
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(chosen) || ctx.Err() != nil {
					return
				}
				m := chosen[i]
				outcome, detail := w.try(ctx, m)
				if ctx.Err() != nil {
					return
				}
				if outcome == survived {
					if s := find(known, m); s != nil {
						outcome, detail = explains, s.why
					}
				}
				mu.Lock()
				sum[outcome]++
				if by[m.operator] == nil {
					by[m.operator] = make(map[string]int)
				}
				by[m.operator][outcome]++
				fmt.Printf("%s %s #%d %s", m, outcome, m.id, detail)
				if outcome == survived {
					fmt.Printf(": `%s` %s %s `%s`", m.file, m.within, m.operator, m.text)
				}
				fmt.Println()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	total := sum[killed] + sum[timedOut] + sum[survived] + sum[explains]
	for _, operator := range sortedKeys(by) {
		fmt.Printf("%-10s", operator)
		for _, outcome := range []string{killed, timedOut, explains, survived} {
			fmt.Printf("  %4d %s", by[operator][outcome], outcome)
		}
		fmt.Println()
	}
	fmt.Printf("%d mutants in %v: %d killed, %d by the time limit, %d survived that are listed, "+
		"%d survived\n",
		total, time.Since(start).Round(time.Second), sum[killed], sum[timedOut],
		sum[explains], sum[survived])
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case sum[survived] > 0:
		return fmt.Errorf("%d mutants survived that are not listed in %s", sum[survived], listed)
	}
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	var keys []K
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
