//go:build unix

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gracefulgo/graceful/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

// names are the program and its levels.
var names = []string{"program",
	"mail", "mail/inbox", "mail/outbox", "search", "search/index", "search/crawler"}

// within reports whether name is the level or below it.
func within(name, level string) bool {
	return level == "program" || name == level || strings.HasPrefix(name, level+"/")
}

func start(t *testing.T, args ...string) *process.Process {
	t.Helper()
	return process.Start(t, append([]string{"-tick=20ms"}, args...)...)
}

func ticks(p *process.Process, name string) int {
	return strings.Count("\n"+p.Stdout(), "\n"+name+", ticker 1: tick\n")
}

// awaitTicks waits until each of the levels has ticked a few more times.
func awaitTicks(t *testing.T, p *process.Process, levels ...string) {
	t.Helper()
	for _, name := range levels {
		for want := ticks(p, name) + 3; ticks(p, name) < want; {
			p.Line(name + ", ticker 1: tick")
		}
	}
}

// wantStopped checks that each ticker of the levels reports once that it stops.
func wantStopped(t *testing.T, p *process.Process, n int, levels ...string) {
	t.Helper()
	for _, name := range levels {
		for i := range n {
			stop := fmt.Sprintf("\n%s, ticker %d: stop\n", name, i+1)
			if got := strings.Count("\n"+p.Stdout(), stop); got != 1 {
				t.Errorf("stdout has %q %d times, want 1:\n%s", stop, got, p.Stdout())
			}
		}
	}
}

// started returns those levels that have started. On a slow machine, -after may
// have passed before that.
func started(t *testing.T, p *process.Process, levels []string) (list []string) {
	t.Helper()
	for _, name := range levels {
		if strings.Contains("\n"+p.Stdout(), "\n"+name+", ") {
			list = append(list, name)
		} else {
			t.Logf("%s has not started", name)
		}
	}
	return list
}

func TestAllStop(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		p := start(t, "-n=20")
		awaitTicks(t, p, names...)
		p.Signal(sig)
		p.WantExit(0)
		wantStopped(t, p, 20, names...)
		if !strings.HasSuffix(p.Stdout(), "\nall have stopped\n") {
			t.Errorf("stdout = %q, want it to end with %q", p.Stdout(), "all have stopped")
		}
		// Registered events stop one after another.
		last := strings.LastIndex(p.Stdout(), "\nmail/outbox, ticker ")
		for i := range 20 {
			stop := fmt.Sprintf("\nmail/inbox, ticker %d: stop\n", i+1)
			if got := strings.Index(p.Stdout(), stop); got < last {
				t.Errorf("stdout has %q before the end of mail/outbox:\n%s", stop, p.Stdout())
			}
		}
	}
}

// TestStopAlone stops each level. The levels below it stop, and nothing else
// does.
func TestStopAlone(t *testing.T) {
	t.Parallel()
	for _, level := range names[1:] {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			p := start(t, "-stop="+level, "-after=300ms")
			p.AwaitStdout("\n" + level + " has stopped\n")
			before, _, _ := strings.Cut(p.Stdout(), level+" has stopped\n")
			var below, others []string
			for _, name := range names {
				if within(name, level) {
					below = append(below, name)
				} else {
					others = append(others, name)
				}
			}
			wantStopped(t, p, 1, started(t, p, below)...)
			awaitTicks(t, p, others...)
			for line := range strings.Lines(p.Stdout()[len(before):]) {
				name, said, _ := strings.Cut(line, ", ticker 1: ")
				if slices.Contains(below, name) || said == "stop\n" {
					t.Errorf("stdout has %q after %s has stopped", line, level)
				}
			}
			p.Signal(syscall.SIGTERM)
			p.WantExit(0)
			wantStopped(t, p, 1, started(t, p, names)...)
		})
	}
}

// TestStuckStoppedAlone uses a goroutine that does not end. It is in a level
// that is stopped alone, or in one below that level. The level still ends in
// time, and the others go on.
func TestStuckStoppedAlone(t *testing.T) {
	t.Parallel()
	for _, stuck := range []string{"mail", "mail/inbox"} {
		process.Patiently(t, 2*time.Second, func(timeout time.Duration) bool {
			p := start(t, "-stop=mail", "-after=1ms", "-stuck="+stuck,
				fmt.Sprint("-timeout=", timeout))
			err := p.Line("mail has not stopped: ")
			awaitTicks(t, p, "program", "search", "search/index", "search/crawler")
			p.Signal(syscall.SIGTERM)
			p.WantExit(1)
			if !strings.Contains(p.Stderr(), "1 goroutine of stuck:") {
				t.Errorf("stderr = %q, want it to name the goroutine", p.Stderr())
			}
			wantStopped(t, p, 1, names...)
			return strings.Contains(err, "drain: 1 goroutine left") &&
				strings.Contains(p.Stderr(), "\ncontext: quit: mail (context/level.go:")
		})
	}
}

// TestStuck stops the program with such a goroutine in one of the levels. The
// program ends in time, all other goroutines have ended, and this one is named.
func TestStuck(t *testing.T) {
	t.Parallel()
	for _, level := range names[1:] {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			// A fifth of the timeout is left for a level to end.
			process.Patiently(t, 2*time.Second, func(timeout time.Duration) bool {
				p := start(t, "-stuck="+level, fmt.Sprint("-timeout=", timeout))
				awaitTicks(t, p, names...)
				p.Signal(syscall.SIGTERM)
				p.WantExit(1)
				if !strings.Contains(p.Stderr(), "1 goroutine of stuck:") {
					t.Errorf("stderr = %q, want it to name the goroutine", p.Stderr())
				}
				top, _, _ := strings.Cut(level, "/")
				stops := strings.Count(p.Stdout(), ": stop\n")
				return stops == len(names) && // so this is the only failure
					strings.Count(p.Stderr(), "\ncontext: quit: ") == 1 &&
					(strings.Contains(p.Stderr(), "\ncontext: quit: "+top+" (context/level.go:") ||
						strings.Contains(p.Stderr(), "\ncontext: quit: goroutine "+top+": "))
			})
		})
	}
}

// TestFails makes a goroutine of any level fail. That ends the program, and the
// failure is in the result once.
func TestFails(t *testing.T) {
	t.Parallel()
	for _, level := range names[1:] {
		p := start(t, "-fail="+level, "-after=500ms")
		p.WantExit(1) // by itself
		wantStopped(t, p, 1, started(t, p, names)...)
		_, result, _ := strings.Cut(p.Stderr(), "\ncontext: ")
		if !strings.HasSuffix(result, "goroutine failing: out of ticks\n") ||
			strings.Count(result, "\n") != 1 {
			t.Errorf("-fail=%s: stderr ends with %q, want a line with the failure", level, result)
		}
	}
}

func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	for _, stuck := range []string{"mail/inbox", "search/index"} {
		p := start(t, "-stuck="+stuck)
		awaitTicks(t, p, names...)
		p.Signal(os.Interrupt)
		p.AwaitFired()
		p.InterruptAgain()
		p.WantExit(130)
		for _, want := range []string{"ending at once", strings.Split(stuck, "/")[0]} {
			if !strings.Contains(p.Stderr(), want) {
				t.Errorf("-stuck=%s: stderr = %q, want it with %q", stuck, p.Stderr(), want)
			}
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for arg, why := range map[string]string{
		"-tick=0s":      "-tick=0s -timeout=25s: want some time",
		"-timeout=-1s":  "-tick=1s -timeout=-1s: want some time",
		"-timeout=soon": `invalid value "soon" for flag -timeout`,
		"-stop=post":    `-stop: there is no level "post"`,
		"-stuck=inbox":  `-stuck: there is no level "inbox"`,
		"-fail=program": `-fail: there is no level "program"`,
		"-no-such-flag": "not defined: -no-such-flag",
		"stray":         `unexpected argument "stray"`,
	} {
		process.WantBadStart(t, 2, why, arg)
	}
	p := process.Start(t, "-h")
	p.WantExit(0)
	if !strings.HasPrefix(p.Stdout(), "usage: context [flags]\n") ||
		!strings.Contains(p.Stdout(), "  -stop level\n") || p.Stderr() != "" {
		t.Errorf("-h: stdout = %q, stderr = %q, want the usage on stdout", p.Stdout(), p.Stderr())
	}
}
