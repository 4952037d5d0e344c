//go:build unix

// Command scenarios measures how programs behave when they are stopped, with
// package quit and with other packages. Each cell of its table is a process.
//
//	go run ./scenarios -list
//	go run ./scenarios -peer quit -scenario hang-middle -v
//	go run ./scenarios -peer quit,hand
//	go run ./scenarios -markdown
//
// The last command measures all cells, which takes some minutes, and writes
// docs/comparison.md.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gracefulgo/graceful/bench/scenarios/internal/scenario"
)

var (
	peerFlag     = flag.String("peer", "", "the `names` of peers, with commas; all by default")
	scenarioFlag = flag.String("scenario", "",
		"the `names` of scenarios, with commas; all by default")
	verbose  = flag.Bool("v", false, "show the journal and the output of each process")
	list     = flag.Bool("list", false, "list peers and scenarios")
	markdown = flag.Bool("markdown", false,
		"write docs/comparison.md, and its shortened table into the README")
	parallel = flag.Int("j", 4*runtime.NumCPU(),
		"how many processes run at once; most of them wait")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "scenarios:", err)
		os.Exit(1)
	}
}

func run() error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if *parallel < 1 {
		return fmt.Errorf("-j=%d: want at least 1", *parallel)
	}
	if *list {
		for _, p := range peers {
			fmt.Println(p.String())
		}
		for _, t := range scenario.Themes() {
			fmt.Printf("\n%s\n", t.Title)
			for _, s := range t.Scenarios {
				fmt.Printf("  %-18s %s\n", s.Name, s.Title)
			}
		}
		return nil
	}
	somePeers, err := pick(*peerFlag, peers, func(p Peer) string { return p.Name }, "peer")
	if err != nil {
		return err
	}
	var all []*scenario.Scenario
	for _, t := range scenario.Themes() {
		all = append(all, t.Scenarios...)
	}
	some, err := pick(*scenarioFlag, all, func(s *scenario.Scenario) string {
		return s.Name
	}, "scenario")
	if err != nil {
		return err
	}
	if *markdown && (len(somePeers) < len(peers) || len(some) < len(all)) {
		return fmt.Errorf("-markdown writes all peers and scenarios")
	}

	dir, err := os.MkdirTemp("", "scenarios")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := build(dir, somePeers); err != nil {
		return fmt.Errorf("building the peers: %w", err)
	}
	begin, load := time.Now(), loadAverage()
	table := measure(dir, somePeers, some)
	if *markdown {
		return writeMarkdown(dir, table, begin, time.Since(begin), load)
	}
	return nil
}

// loadAverage says how busy the machine is, if the system tells.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	load, _, _ := strings.Cut(string(text), " ")
	return fmt.Sprintf(", and had a load average of %s before", load)
}

// pick returns the elements of all whose names are in names, or all.
func pick[T any](names string, all []T, name func(T) string, kind string) (some []T, err error) {
	if names == "" {
		return all, nil
	}
	for want := range strings.SplitSeq(names, ",") {
		found := false
		for _, one := range all {
			if name(one) == want {
				some, found = append(some, one), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no %s %q; -list lists them", kind, want)
		}
	}
	return some, nil
}

// Table has the cells by scenario and peer.
type Table map[string]map[string]scenario.Cell

// measure measures all cells, some at a time, and prints each.
func measure(dir string, some []Peer, scenarios []*scenario.Scenario) Table {
	table := make(Table)
	var mu sync.Mutex // guards table and the output
	var wg sync.WaitGroup
	tokens := make(chan struct{}, *parallel)
	for _, s := range scenarios {
		table[s.Name] = make(map[string]scenario.Cell)
		for _, p := range some {
			tokens <- struct{}{}
			wg.Go(func() {
				defer func() { <-tokens }()
				var trace strings.Builder
				var w io.Writer
				if *verbose {
					w = &trace
				}
				cell := scenario.Run(s, filepath.Join(dir, p.Name), w)
				mu.Lock()
				defer mu.Unlock()
				table[s.Name][p.Name] = cell
				fmt.Printf("%s%-18s %-8s %v\n", trace.String(), s.Name, p.Name, cell)
			})
		}
	}
	wg.Wait()
	return table
}
