//go:build unix

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gracefulgo/graceful/internal/process"
	"github.com/gracefulgo/graceful/quit"
)

// If this variable is set, the program says when it can take a signal, before
// it does anything else.
const ready = "EXAMPLE_DONE_READY"

func TestMain(m *testing.M) {
	process.Main(m, func() {
		if os.Getenv(ready) != "" {
			quit.GetQuitEvent().NotifySignal()
			fmt.Fprintln(os.Stderr, "ready")
		}
		main()
	})
}

// TestSameOutput runs both programs. It stops them when the output cannot
// depend on the timing: before the first message, and after the last one.
func TestSameOutput(t *testing.T) {
	t.Parallel()
	var sent strings.Builder
	for i := range 10 {
		fmt.Fprintln(&sent, "sent message", i+1)
	}
	for _, test := range []struct {
		name  string
		sig   os.Signal
		every string
		after string // line of stdout
		want  string
	}{
		{name: "before the first", sig: syscall.SIGTERM, every: "1h",
			want: "told to end\n" + sent.String() + "main ends\n"},
		{name: "after the last", sig: os.Interrupt, every: "1ms", after: "sent message 10",
			want: sent.String() + "told to end\nmain ends\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var outputs []string
			for _, with := range []string{"done", "context"} {
				cmd := process.Command(t, "-with="+with, "-every="+test.every)
				cmd.Env = append(cmd.Env, ready+"=1")
				p := process.StartCommand(t, cmd)
				p.AwaitStderr("ready\n")
				if test.after != "" {
					p.Line(test.after)
				}
				p.Signal(test.sig)
				p.WantExit(0)
				outputs = append(outputs, p.Stdout())
			}
			if outputs[0] != outputs[1] {
				t.Errorf("with done: %q\nwith context: %q, want the same", outputs[0], outputs[1])
			}
			if outputs[0] != test.want {
				t.Errorf("stdout = %q, want %q", outputs[0], test.want)
			}
		})
	}
}

// TestNothingIsLost stops both programs at random moments. Each message is
// sent, once and in order.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, with := range []string{"done", "context"} {
		for _, after := range []string{"1", "7", "100", "500"} {
			p := process.Start(t, "-with="+with, "-every=1ms", "-n=500")
			p.Line("sent message " + after)
			p.Signal(syscall.SIGTERM)
			p.WantExit(0)
			var want []string
			for i := range 500 {
				want = append(want, fmt.Sprintf("sent message %d\n", i+1))
			}
			want = append(want, "main ends\n")
			got := slices.Collect(strings.Lines(
				strings.Replace(p.Stdout(), "told to end\n", "", 1)))
			if !slices.Equal(got, want) {
				t.Errorf("-with=%s, stopped after %s: stdout = %q, want all messages",
					with, after, p.Stdout())
			}
		}
	}
}

// TestSecondInterrupt adds so many messages that they are still being sent.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	for _, with := range []string{"done", "context"} {
		cmd := process.Command(t, "-with="+with)
		cmd.Env = append(cmd.Env, ready+"=1")
		cmd.Stdout = process.FullPipe(t) // nobody reads it, so the first message is never sent
		p := process.StartCommand(t, cmd)
		p.AwaitStderr("ready\n")
		p.Signal(os.Interrupt)
		p.AwaitFired()
		p.InterruptAgain()
		p.WantExit(130)
		got := p.Stderr()
		if !strings.Contains(got, "ending at once") || !strings.Contains(got, "drain") {
			t.Errorf("stderr = %q, want it to say what still ran", got)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for arg, why := range map[string]string{
		"-with=errgroup": `-with is context or done, not "errgroup"`,
		"-n=-1":          "-n=-1 -every=1s: want no negative number",
		"-every=0":       "-every=0s: want",
		"-n=some":        `invalid value "some" for flag -n`,
		"-no-such-flag":  "not defined: -no-such-flag",
		"start":          `unexpected argument "start"`,
	} {
		process.WantBadStart(t, 2, why, arg)
	}
	p := process.Start(t, "-h")
	p.WantExit(0)
	if !strings.HasPrefix(p.Stdout(), "usage: done [flags]\n") ||
		!strings.Contains(p.Stdout(), "  -with context\n") || p.Stderr() != "" {
		t.Errorf("-h: stdout = %q, stderr = %q, want the usage on stdout", p.Stdout(), p.Stderr())
	}
}
