//go:build unix

package scenario

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Line is a line of the journal.
type Line struct {
	At   time.Time
	Text string
}

// Proc is the process of a peer. Its methods are for Drive.
type Proc struct {
	cmd      *exec.Cmd
	addr     string
	cleanups []func()
	breaks   func() // breaks a pipe of the process; nil if none is to break

	mu      sync.Mutex // guards the fields below
	lines   []Line
	changed chan struct{} // closed and replaced by each line, and at the end
	ended   bool

	result *Result
}

// Result is the record of a process.
type Result struct {
	Lines          []Line
	Stdout, Stderr string
	Status         int           // of the exit; -1 after a signal
	Signal         os.Signal     // that ended it; nil if none did
	Killed         bool          // it hung, and was killed
	Told           time.Time     // of the first signal; of its start if there was none
	Took           time.Duration // from Told to its end
	Timeout        time.Duration

	// The requests of the clients.
	Answered, Broken int
	Breaks           []Break

	Marks map[string]time.Time // the times that Drive noted
	Kept  bool                 // whether Drive found the promise kept
}

// settle is the time from "ready" to the first signal. A library that takes the
// signals in another goroutine, or in a function that blocks, cannot say when
// it has done so.
const settle = 150 * time.Millisecond

// Run plays s with the program, which is a peer's, and returns the cell. If
// trace is not nil, it gets the journal and the output.
func Run(s *Scenario, program string, trace io.Writer) Cell {
	cell := run(s, program, trace)
	if s.Timed && cell.Verdict != Kept && cell.Verdict != NA {
		// The machine may have been too busy.
		if trace != nil {
			fmt.Fprintf(trace, "%v; once more\n", cell)
		}
		if again := run(s, program, trace); again.Verdict == Kept {
			return again
		}
	}
	return cell
}

func run(s *Scenario, program string, trace io.Writer) Cell {
	times := max(s.Times, 1)
	var sum Cell
	for i := range times {
		r, err := play(s, program)
		if err != nil {
			return Cell{Verdict: NA, Note: "does not start: " + err.Error()}
		}
		cell := judge(s, r)
		if trace != nil {
			r.dump(trace)
			if times > 1 {
				fmt.Fprintf(trace, "%d of %d: %v\n", i+1, times, cell)
			}
		}
		switch {
		case i == 0:
			sum = cell
		case cell.Verdict == Lost:
			sum = Cell{Lost, sum.N + cell.N, cell.Note}
		case sum.Verdict == Lost && cell.Verdict == Kept:
		default:
			sum = cell
		}
		if sum.Verdict != Kept && sum.Verdict != Lost {
			return sum // another process would not change that
		}
	}
	if times > 1 && sum.Verdict != NA {
		sum.Note = note([]string{sum.Note, fmt.Sprintf("in %d stops", times)})
	}
	return sum
}

func judge(s *Scenario, r *Result) Cell {
	if why, is := r.rest("n/a "); is {
		return Cell{Verdict: NA, Note: why}
	}
	if r.Killed {
		cell := Cell{Verdict: Hung}
		if does := s.Judge(r); does.Verdict == Lost && does.N > 0 {
			cell.Note = fmt.Sprint(does.N, " lost")
		}
		return cell
	}
	if !s.Crash {
		if cell, is := r.crashed(); is {
			return cell
		}
	}
	return s.Judge(r)
}

// crashed reports whether the process ended by a panic, a fatal error of the
// runtime, or a signal.
func (r *Result) crashed() (Cell, bool) {
	if r.Signal != nil {
		return Cell{Verdict: Crashed, Note: fmt.Sprint("signal: ", r.Signal)}, true
	}
	if r.Status == 2 {
		for _, line := range strings.Split(r.Stderr, "\n") {
			if text, is := strings.CutPrefix(line, "panic: "); is {
				if strings.HasPrefix(text, panicked) {
					return Cell{Verdict: Crashed, Note: "panic"}, true // the scenario's own
				}
				return Cell{Verdict: Crashed, Note: "panic: " + short(text)}, true
			}
			if text, is := strings.CutPrefix(line, "fatal error: "); is {
				return Cell{Verdict: Crashed, Note: short(text)}, true
			}
		}
	}
	return Cell{}, false
}

func short(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	s, _, _ = strings.Cut(s, " [recovered")
	if len(s) > 48 {
		s = s[:47] + "…"
	}
	return s
}

// play runs a process from its start to its end.
func play(s *Scenario, program string) (*Result, error) {
	probe := &App{Timeout: defaultTimeout}
	s.Build(probe)
	p := &Proc{changed: make(chan struct{}),
		result: &Result{Timeout: probe.Timeout, Marks: make(map[string]time.Time)}}
	p.cmd = exec.Command(program, s.Name)
	var stdout, stderr bytes.Buffer
	p.cmd.Stdout, p.cmd.Stderr = &stdout, &stderr
	// The rest of the output, in the pipes, is not awaited for long.
	p.cmd.WaitDelay = 2 * time.Second
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p.cmd.ExtraFiles = []*os.File{w}
	if s.Command != nil {
		s.Command(p, p.cmd)
	}
	p.result.Told = time.Now()
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	read := make(chan struct{})
	go func() { // ends with the process
		defer close(read)
		p.read(r)
	}()
	exited := make(chan struct{})
	var end time.Time
	go func() { // ends with the process, which is killed below
		defer close(exited)
		p.cmd.Wait() // its error is in the state
		end = time.Now()
	}()

	driven := make(chan struct{})
	go func() { // each wait in it is bounded
		defer close(driven)
		if s.Drive != nil {
			s.Drive(p)
		} else {
			p.Ready()
			p.Signal(syscall.SIGTERM)
		}
	}()
	<-driven
	patience := s.Patience
	if patience == 0 {
		patience = probe.Timeout + 4*time.Second
	}
	select {
	case <-exited:
	case <-time.After(patience):
		p.result.Killed = true
		p.cmd.Process.Kill()
		<-exited
	}
	for _, f := range p.cleanups {
		f()
	}
	<-read

	res := p.result
	res.Lines = p.lines
	res.Stdout, res.Stderr = stdout.String(), stderr.String()
	res.Took = end.Sub(res.Told)
	if len(p.lines) > 0 && p.lines[len(p.lines)-1].Text == "main" && !res.Killed {
		// Without the time that the parent needed to notice the end.
		res.Took = min(res.Took, p.lines[len(p.lines)-1].At.Sub(res.Told))
	}
	res.Status = p.cmd.ProcessState.ExitCode()
	if ws, is := p.cmd.ProcessState.Sys().(syscall.WaitStatus); is && ws.Signaled() && !res.Killed {
		res.Signal = ws.Signal()
	}
	return res, nil
}

func (p *Proc) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		stamp, text, _ := strings.Cut(lines.Text(), " ")
		us, _ := strconv.ParseInt(stamp, 10, 64)
		p.mu.Lock()
		p.lines = append(p.lines, Line{time.UnixMicro(us), text})
		p.tell()
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.ended = true
	p.tell()
	p.mu.Unlock()
}

// tell is called with mu held.
func (p *Proc) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Await waits for a line that begins with prefix, and returns its rest. It
// reports false if the process ends before, or takes too long.
func (p *Proc) Await(prefix string) (rest string, ok bool) {
	return p.awaitFor(prefix, 10*time.Second)
}

func (p *Proc) awaitFor(prefix string, d time.Duration) (rest string, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for seen := 0; ; {
		p.mu.Lock()
		for ; seen < len(p.lines); seen++ {
			if rest, is := strings.CutPrefix(p.lines[seen].Text, prefix); is {
				p.mu.Unlock()
				return rest, true
			}
		}
		changed, ended := p.changed, p.ended
		p.mu.Unlock()
		if ended {
			return "", false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", false
		}
	}
}

// Ready waits until the application runs and takes signals.
func (p *Proc) Ready() {
	if _, ok := p.awaitFor("ready", 40*time.Second); ok {
		time.Sleep(settle)
	}
	p.addr, _ = p.has("listening ")
}

// has returns the rest of a line that is there already.
func (p *Proc) has(prefix string) (rest string, is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Result{Lines: p.lines}
	return r.rest(prefix)
}

// Signal sends sig; the measured time begins with the first one.
func (p *Proc) Signal(sig os.Signal) {
	if _, told := p.result.Marks["told"]; !told {
		p.Mark("told")
		p.result.Told = p.result.Marks["told"]
	}
	p.cmd.Process.Signal(sig) // it may have ended
}

// Mark records the time under a name.
func (p *Proc) Mark(name string) { p.result.Marks[name] = time.Now() }

// Alive reports whether the process still has its journal open.
func (p *Proc) Alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended
}

// dump writes the journal and the output.
func (r *Result) dump(w io.Writer) {
	const most = 60
	for i, l := range r.Lines {
		if i == most/2 && len(r.Lines) > most {
			fmt.Fprintf(w, "            … %d lines …\n", len(r.Lines)-most)
		}
		if i < most/2 || i >= len(r.Lines)-most/2 {
			fmt.Fprintf(w, "%10.1f ms %s\n", l.At.Sub(r.Told).Seconds()*1e3, l.Text)
		}
	}
	for name, text := range map[string]string{"stdout": r.Stdout, "stderr": r.Stderr} {
		if text != "" {
			fmt.Fprintf(w, "%s:\n\t%s\n",
				name, strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n\t"))
		}
	}
	for _, b := range r.Breaks {
		fmt.Fprintf(w, "broken: sent %v after the first signal, and %v later: %v\n",
			b.Sent.Sub(r.Told), b.At.Sub(b.Sent), b.Err)
	}
	fmt.Fprintf(w, "status %d, signal %v, killed %v, took %v, answered %d, broken %d\n",
		r.Status, r.Signal, r.Killed, r.Took.Round(time.Microsecond), r.Answered, r.Broken)
}

// rest returns the rest of the first line that begins with prefix.
func (r *Result) rest(prefix string) (string, bool) {
	for _, l := range r.Lines {
		if rest, is := strings.CutPrefix(l.Text, prefix); is {
			return rest, true
		}
	}
	return "", false
}

// at returns when the first line with that text was written.
func (r *Result) at(text string) (time.Time, bool) {
	for _, l := range r.Lines {
		if l.Text == text {
			return l.At, true
		}
	}
	return time.Time{}, false
}

// all returns the rests of all lines that begin with prefix.
func (r *Result) all(prefix string) (rests []string) {
	for _, l := range r.Lines {
		if rest, is := strings.CutPrefix(l.Text, prefix); is {
			rests = append(rests, rest)
		}
	}
	return rests
}

// missing counts the names for which there is no line with prefix.
func (r *Result) missing(prefix string, names ...string) (n int) {
	got := r.all(prefix)
	for _, name := range names {
		if !slices.Contains(got, name) {
			n++
		}
	}
	return n
}

// called returns how often each part was called, and the least time that one of
// them had left, if they had a deadline. dead counts those whose context was
// over.
func (r *Result) called() (calls map[string]int, least time.Duration, dead int) {
	calls, least = make(map[string]int), -1
	for _, rest := range r.all("close ") {
		name, left, _ := strings.Cut(rest, " ")
		calls[name]++
		if left == "over" {
			dead++
		} else if ms, err := strconv.Atoi(left); err == nil {
			if d := time.Duration(ms) * time.Millisecond; least < 0 || d < least {
				least = d
			}
		}
	}
	return calls, least, dead
}

// says reports whether the output has text.
func (r *Result) says(text string) bool { return strings.Contains(r.Stdout+r.Stderr, text) }

// inTime reports whether the process ended within its timeout and a second,
// which is for a busy machine.
func (r *Result) inTime() bool { return r.Took <= r.Timeout+time.Second }

// status returns a note of the exit status.
func (r *Result) status() string {
	if r.Signal != nil {
		return fmt.Sprint("signal: ", r.Signal)
	}
	return fmt.Sprint("status ", r.Status)
}
