//go:build linux

// Command rolling counts the requests that clients lose in a rolling update.
// Three replicas of a program run behind HAProxy, which checks their health.
// Under constant load, one replica after another is stopped with SIGTERM and
// started again. The command compares examples/server, which is stopped by
// package quit with and without a Delay, with programs that are stopped by
// hand, and prints a table.
//
//	go run . -requests 20000 -rounds 1   # 20,000 of each kind; two minutes
//	go run . -update                     # 200,000; a quarter of an hour
//
// With -update it writes the table to README.md. Run it in its own folder, with
// haproxy and go in the PATH. Its exit status is 1 if quit has lost a request
// that was sent on a connection, or, with a Delay or with HAProxy's retries,
// any request.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gracefulgo/graceful/quit"
)

// delay is longer than HAProxy takes to notice that a replica fails its checks:
// at most fall × (inter + timeout check) = 2 × (100 ms + 400 ms). The rest is
// for requests that were given to the replica just then, and for a busy
// machine.
const delay = 1500 * time.Millisecond

// linger is how long a replica without a Delay waits for HAProxy to use an idle
// connection once more. It is longer than HAProxy takes to notice that
// connections are refused: fall × inter = 2 × 100 ms. From then on HAProxy uses
// none of its idle connections.
const linger = time.Second

// check is how long HAProxy waits for the answer to a check.
const check = 400 * time.Millisecond

// variant is a way to stop a replica.
type variant struct {
	name    string
	command []string // relative to the folder of the programs
	promise promise
}

// promise is the kind of loss that a variant may have.
type promise int

const (
	anything promise = iota
	refused          // refused connections, which HAProxy's retries hide
	nothing
)

var variants = []variant{
	{"`quit` with `Delay`", []string{"server", "-admin=", "-delay=" + delay.String()}, nothing},
	{"`quit` without `Delay`", []string{"server", "-admin=", "-linger=" + linger.String()},
		refused},
	{"`http.Server.Shutdown`, by hand", []string{"byhand", "-pattern=shutdown"}, anything},
	{"the pattern of a widely copied article", []string{"byhand", "-pattern=article"}, anything},
}

// kept reports whether v may have these losses with the given number of
// retries.
func (v variant) kept(retries int, lost map[string]int) bool {
	for kind := range lost {
		switch {
		case v.promise == anything:
		case v.promise == refused && retries == 0 && kind == "503":
		default:
			return false
		}
	}
	return true
}

// retries are the compared settings of HAProxy: its default, and none.
var retries = []int{3, 0}

// plan says how a variant is tested.
type plan struct {
	requests, rate int           // in all rounds, and in a second
	rounds         int           // the variants take turns, so that a busy machine affects all
	every          time.Duration // from the stop of one replica to the stop of the next
	away           time.Duration // a replica stays away this long, once HAProxy has noticed
	check          time.Duration // HAProxy waits this long for the answer to a check
}

func main() {
	q := quit.GetQuitEvent()
	p, update := parseFlags()
	q.NotifySignal()

	var kept bool
	q.Go(func(ctx context.Context) error {
		defer q.Fire() // done: there is nothing left to wait for
		text, ok, err := compare(ctx, p)
		if err != nil && ctx.Err() != nil {
			return ctx.Err() // interrupted: nothing is lost
		}
		if err != nil {
			return err
		}
		fmt.Print(text)
		kept = ok
		if update {
			return updateFile("README.md", text)
		}
		return nil
	}, quit.Name("comparison"))

	// The drain waits for the comparison, which ends the processes it has
	// started.
	err := q.WaitSignal()
	var sig *quit.SignalError
	switch {
	case err != nil:
		exit(1, err)
	case errors.As(q.Cause(), &sig):
		os.Exit(sig.ExitCode())
	case !kept:
		exit(1, errors.New("quit has lost requests that it must not lose"))
	}
}

func parseFlags() (p plan, update bool) {
	p.check = check
	flags := flag.NewFlagSet("rolling", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is one line, without the usage
	flags.IntVar(&p.requests, "requests", 200_000, "send `n` requests for each figure")
	flags.IntVar(&p.rounds, "rounds", 4,
		"send them in `n` rounds, in each of which all variants have their turn")
	flags.IntVar(&p.rate, "rate", 2000, "send `n` requests in a second")
	flags.DurationVar(&p.every, "every", 2500*time.Millisecond,
		"`time` from the stop of a replica to the stop of the next")
	flags.DurationVar(&p.away, "away", 0,
		"`time` that a replica stays away, once HAProxy has noticed that it is")
	flags.BoolVar(&update, "update", false, "write the table to README.md")
	err := flags.Parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Println("usage: rolling [flags]")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	}
	switch {
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case p.rate < 1 || p.rounds < 1 || p.every <= 0 || p.away < 0 || p.replacements() < 1:
		err = fmt.Errorf("-requests=%d -rate=%d -rounds=%d -every=%v -away=%v do not suffice for "+
			"a replacement in each round",
			p.requests, p.rate, p.rounds, p.every, p.away)
	}
	if err != nil {
		exit(2, err)
	}
	p.requests -= p.requests % p.rounds
	return p, update
}

func exit(status int, err error) {
	fmt.Fprintln(os.Stderr, "rolling:", err)
	os.Exit(status)
}

// replacements is the number of replicas replaced in a round. It is chosen so
// that the last requests come after the last replacement, and is the same for
// all variants.
func (p plan) replacements() int {
	return int(time.Duration(p.requests/p.rounds)*time.Second/time.Duration(p.rate)/p.every) - 1
}

// compare returns the table, and reports whether every variant kept its
// promise.
func compare(ctx context.Context, p plan) (text string, kept bool, err error) {
	version, err := exec.CommandContext(ctx, "haproxy", "-v").Output()
	if err != nil {
		return "", false, err
	}
	tmp, err := os.MkdirTemp("", "rolling-")
	if err != nil {
		return "", false, err
	}
	defer os.RemoveAll(tmp)
	if err := build(ctx, tmp); err != nil {
		return "", false, err
	}
	sums := make(map[string]*result)
	for round := range p.rounds {
		for _, v := range variants {
			for _, r := range retries {
				key := fmt.Sprintf("%s, retries %d", v.name, r)
				// It takes a while.
				fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, p.rounds, key)
				res, err := p.run(ctx, tmp, v, r)
				if err != nil {
					return "", false, fmt.Errorf("%s: %w", key, err)
				}
				if res.sent > p.requests/p.rounds {
					return "", false, fmt.Errorf("%s: all planned requests were sent before the "+
						"last replica was replaced: make -every longer", key)
				}
				fmt.Fprintf(os.Stderr, "\tlost %s; %s\n", res.losses(), res.times())
				if round > 0 {
					res.add(sums[key])
				}
				sums[key] = res
			}
		}
	}

	var b strings.Builder
	fmt.Fprintf(&b, "For each figure: %d requests, %d in a second, and %d replacements of a "+
		"replica, in %d rounds. %s, %s, %d cores.\n\n",
		p.requests, p.rate, p.rounds*p.replacements(), p.rounds,
		strings.Join(strings.Fields(string(version))[:3], " "), runtime.Version(), runtime.NumCPU())
	b.WriteString("| the replicas are stopped by | lost, HAProxy's default (`retries 3`) | " +
		"answered: 99.9 %, longest | lost, `retries 0` | answered: 99.9 %, longest | " +
		"exit status |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- |\n")
	kept = true
	for _, v := range variants {
		fmt.Fprintf(&b, "| %s |", v.name)
		statuses := make(map[string]int)
		for _, r := range retries {
			res := sums[fmt.Sprintf("%s, retries %d", v.name, r)]
			fmt.Fprintf(&b, " %s | %s |", res.losses(), res.times())
			maps.Copy(statuses, res.statuses)
			kept = kept && v.kept(r, res.lost)
		}
		fmt.Fprintf(&b, " %s |\n", strings.Join(slices.Sorted(maps.Keys(statuses)), ", "))
	}
	return b.String(), kept, nil
}

// build builds the compared programs into folder.
func build(ctx context.Context, folder string) error {
	for name, dir := range map[string]string{"server": "../server", "byhand": "byhand"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(folder, name), ".")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return errors.Join(fmt.Errorf("building %s: %w\n%s", name, err, out), ctx.Err())
		}
	}
	return nil
}

// result is the outcome of the requests.
type result struct {
	sent      int             // in one round
	lost      map[string]int  // by kind
	rounds    []int           // lost in each
	latencies []time.Duration // of those answered
	statuses  map[string]int  // exit statuses of the replaced replicas
}

// run runs one round: it replaces replicas, stopped as v says, while requests
// are sent. It sends the planned number of requests, or more, until the last
// replica is replaced.
func (p plan) run(ctx context.Context, programs string, v variant, retries int) (*result, error) {
	command := slices.Clone(v.command)
	command[0] = filepath.Join(programs, command[0])
	f, err := start(ctx, programs, retries, p.check, command)
	if err != nil {
		return nil, err
	}
	defer f.kill()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	enough, loaded := make(chan struct{}), make(chan []*answer, 1)
	go func() { loaded <- load(ctx, enough, f.addr, p.requests/p.rounds, p.rate) }()
	statuses, err := p.replaceAll(ctx, f)
	if err != nil {
		cancel()
		<-loaded
		return nil, err
	}
	close(enough)
	answers := <-loaded
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	res := tally(answers)
	res.statuses = statuses
	return res, nil
}

// replaceAll replaces one replica after another, and counts their exit
// statuses.
func (p plan) replaceAll(ctx context.Context, f *fleet) (map[string]int, error) {
	statuses := make(map[string]int)
	ticker := time.NewTicker(p.every)
	defer ticker.Stop()
	for n := range p.replacements() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		status, err := f.replace(ctx, n%replicas, p.away)
		if err != nil {
			return nil, err
		}
		statuses[status]++
	}
	return statuses, nil
}

// tally is the result of one round.
func tally(answers []*answer) *result {
	res := &result{sent: len(answers), lost: make(map[string]int), rounds: make([]int, 1)}
	for _, a := range answers {
		if a.lost != "" {
			res.lost[a.lost]++
			res.rounds[0]++
		} else {
			res.latencies = append(res.latencies, a.latency)
		}
	}
	return res
}

// add adds the result of other rounds.
func (r *result) add(other *result) {
	r.rounds = append(r.rounds, other.rounds...)
	r.latencies = append(r.latencies, other.latencies...)
	for kind, n := range other.lost {
		r.lost[kind] += n
	}
	for status, n := range other.statuses {
		r.statuses[status] += n
	}
}

// losses are the numbers of lost requests, as a cell of the table.
func (r *result) losses() string {
	var sum int
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(r.lost)) {
		sum += r.lost[kind]
		kinds = append(kinds, fmt.Sprintf("%d × %s", r.lost[kind], kind))
	}
	if sum == 0 {
		return "0"
	}
	var spread string
	if len(r.rounds) > 1 {
		spread = fmt.Sprintf(" (%d to %d in a round)", slices.Min(r.rounds), slices.Max(r.rounds))
	}
	return fmt.Sprintf("%d%s: %s", sum, spread, strings.Join(kinds, ", "))
}

// times are the 99.9th percentile and the maximum of the latencies, as a cell.
func (r *result) times() string {
	n := len(r.latencies)
	if n == 0 {
		return "none"
	}
	slices.Sort(r.latencies)
	return fmt.Sprintf("%d ms, %d ms",
		r.latencies[n*999/1000].Milliseconds(), r.latencies[n-1].Milliseconds())
}

// updateFile replaces the text between the two markers in the file.
func updateFile(name, text string) error {
	const from, to = "<!-- figures: written by go run . -update -->\n", "<!-- end of figures -->"
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(old), from)
	_, after, ok2 := strings.Cut(rest, to)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no markers for the figures", name)
	}
	return os.WriteFile(name, []byte(before+from+"\n"+text+"\n"+to+after), 0o644)
}
