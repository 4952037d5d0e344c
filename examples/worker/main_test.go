//go:build unix

package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

var named = regexp.MustCompile(`((?:order|report) \d+) was not finished: `)

// wantAccount checks that each order is finished, or named as unfinished, or
// still in the queue, and that each report is finished or named. It returns how
// many were finished and how many were not.
func wantAccount(t *testing.T, p *process.Process, orders int) (finished, cut int) {
	t.Helper()
	state := make(map[string]string)
	change := func(what, from, to string) {
		if state[what] != from {
			t.Errorf("%s is %s, and was %q, want %q", what, to, state[what], from)
		}
		state[what] = to
	}
	left := -1
	for line := range strings.Lines(p.Stdout()) {
		line = strings.TrimSuffix(line, "\n")
		if what, ok := strings.CutPrefix(line, "took "); ok {
			change(what, "", "taken")
		} else if what, ok := strings.CutPrefix(line, "finished "); ok {
			change(what, "taken", "finished")
			finished++
		} else if n, ok := strings.CutPrefix(line, "orders left in the queue: "); ok {
			left, _ = strconv.Atoi(n)
		} else {
			t.Errorf("stdout has %q", line)
		}
	}
	_, result, _ := strings.Cut(p.Stderr(), "\nworker: ") // after the log
	for _, match := range named.FindAllStringSubmatch(result, -1) {
		change(match[1], "taken", "not finished")
		cut++
	}
	taken := 0
	for what, s := range state {
		if s == "taken" {
			t.Errorf("%s was taken, and is neither finished nor named", what)
		}
		if strings.HasPrefix(what, "order ") {
			taken++
		}
	}
	if taken+left != orders {
		t.Errorf("%d orders were taken and %d are left, want %d together", taken, left, orders)
	}
	return finished, cut
}

// TestStop stops the program at various moments.
func TestStop(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		sig    os.Signal
		args   []string
		orders int
		after  string // line of stdout
	}{
		{"at once", syscall.SIGTERM, []string{"-work=5ms"}, 1000, "took "},
		{"interrupt", os.Interrupt, []string{"-work=5ms"}, 1000, "finished order 50"},
		{"no work at all", syscall.SIGTERM, []string{"-work=0"}, 100000, "finished order 200"},
		{"queue empty", syscall.SIGTERM, []string{"-work=1ms"}, 20, "finished order 20"},
		{"queue never filled", syscall.SIGTERM, []string{"-work=1ms"}, 0, "finished report 3"},
		{"reports", syscall.SIGTERM, []string{"-work=1ms"}, 1000, "took report 20"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := process.Start(t, append(test.args, "-every=2ms",
				"-orders="+strconv.Itoa(test.orders))...)
			p.Line(test.after)
			p.Signal(test.sig)
			p.WantExit(0)
			if _, cut := wantAccount(t, p, test.orders); cut > 0 {
				t.Errorf("%d were cut off, want none", cut)
			}
		})
	}
}

// TestInHand stops the program while all workers have work in hand, and more
// reports wait than are being worked on.
func TestInHand(t *testing.T) {
	t.Parallel()
	p := process.Start(t, "-orders=10", "-work=1s", "-every=1ms")
	inHand := []string{"order 1", "order 2", "report 1", "report 2", "report 3"}
	for _, what := range inHand {
		p.AwaitStdout("took " + what + "\n")
	}
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
	for _, what := range inHand {
		if !strings.Contains(p.Stdout(), "finished "+what+"\n") {
			t.Errorf("%s was in hand, and was not finished", what)
		}
	}
	wantAccount(t, p, 10)
}

// TestOutOfTime uses work that takes longer than the shutdown may.
func TestOutOfTime(t *testing.T) {
	t.Parallel()
	var p *process.Process
	var taken int
	// A tenth of the timeout is left for the workers to name their work.
	process.Patiently(t, 5*time.Second, func(timeout time.Duration) bool {
		p = process.Start(t, "-orders=10", "-work=10h", "-every=1ms",
			fmt.Sprint("-timeout=", timeout))
		for _, what := range []string{"order 1", "order 2", "report 3"} { // reports 2 and 3 wait
			p.AwaitStdout("took " + what + "\n")
		}
		p.Signal(syscall.SIGTERM)
		p.WantExit(1)
		taken = strings.Count(p.Stdout(), "took ")
		_, result, _ := strings.Cut(p.Stderr(), "\nworker: ")
		return len(named.FindAllString(result, -1)) == taken
	})
	if finished, cut := wantAccount(t, p, 10); finished != 0 || cut != taken {
		t.Errorf("%d finished and %d cut off, want 0 and %d", finished, cut, taken)
	}
	for _, want := range []string{
		`(?m)^(worker: )?report 3 was not finished: quit: no time left for work in flight: ` +
			`context deadline exceeded$`,
		`(?m)^(worker: )?quit: goroutine poller: order [12] was not finished: `, // Go names it
		// The goroutine of tick may have ended.
		`(?m)^(worker: )?quit: drain: [34] goroutines left after `,
	} {
		if got := p.Stderr(); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("stderr = %s\nwant %s", got, want)
		}
	}
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	p := process.Start(t, "-work=10h")
	p.AwaitStdout("took order 2\n")
	p.Signal(os.Interrupt)
	p.AwaitFired()
	p.InterruptAgain()
	p.WantExit(130)
	for _, want := range []string{"ending at once", "drain", "1 goroutine of poller:", "main.go:"} {
		if got := p.Stderr(); !strings.Contains(got, want) {
			t.Errorf("stderr = %s\nwant it to have %q", got, want)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for arg, why := range map[string]string{
		"-every=0":     "-every=0s: want no negative number, and some time",
		"-orders=-1":   "-orders=-1",
		"-orders=many": `invalid value "many" for flag -orders`,
		"-hours=1":     "not defined: -hours",
		"start":        `unexpected argument "start"`,
	} {
		process.WantBadStart(t, 2, why, arg)
	}
	p := process.Start(t, "-h")
	p.WantExit(0)
	if !strings.HasPrefix(p.Stdout(), "usage: worker [flags]\n") ||
		!strings.Contains(p.Stdout(), "  -orders number\n") || p.Stderr() != "" {
		t.Errorf("-h: stdout = %q, stderr = %q, want the usage on stdout", p.Stdout(), p.Stderr())
	}
}
