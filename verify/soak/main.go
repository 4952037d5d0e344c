//go:build unix

// Command soak runs thousands of programs that shut down by package quit, each
// chosen by a seed. They have closers that return, fail, panic, exit, hang or
// are late, events in events, workers, registrations during the shutdown, a
// server under load, log handlers that block or panic, and a stderr that is
// closed or full. The command signals each program at random moments, and
// checks the outcome: the order, that each closer was called once and nothing
// after the end, that no accepted job is lost and no connection broken, that
// each closer had its minimum time, the total time, and the exit status.
//
//	go run ./verify/soak -runs 200
//	go run ./verify/soak -seed 17 -runs 1 -v    # repeats a seed that has failed
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// asProgram is the environment variable with the seed of the plan.
const asProgram = "QUIT_SOAK_SEED"

func main() {
	if text := os.Getenv(asProgram); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			exit(err)
		}
		program(newPlan(seed))
		return
	}
	first := flag.Uint64("seed", uint64(time.Now().UnixNano()),
		"the `seed` of the first run; each run has the next one")
	runs := flag.Int("runs", 200, "how many")
	parallel := flag.Int("parallel", 6, "how many at once")
	verbose := flag.Bool("v", false, "print the closers of each plan, the journal and stderr")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}
	fmt.Println("seed", *first)
	if signal.Ignored(os.Interrupt) {
		// A background job of a script ignores SIGINT, and so would its
		// children, unless it handles the signal.
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}

	var failed, calm, accepted, forced atomic.Int64
	var wg sync.WaitGroup
	next := make(chan uint64)
	for range *parallel {
		wg.Go(func() {
			for seed := range next {
				p := newPlan(seed)
				o, err := run(seed, p)
				faults := []string{}
				if err != nil {
					faults = append(faults, err.Error())
				} else {
					faults = check(p, o)
				}
				if len(faults) > 0 {
					failed.Add(1)
					fmt.Printf("seed %d (%+v):\n\t%s\n", seed, *p, strings.Join(faults, "\n\t"))
				}
				if *verbose {
					p.print(os.Stdout)
					if err == nil {
						fmt.Printf("%s\n%s", strings.Join(o.journal, "\n"), o.stderr.String())
					}
				}
				if err == nil {
					if p.calm() {
						calm.Add(1)
					}
					if o.status == "exit status 130" {
						forced.Add(1)
					}
					accepted.Add(int64(len(o.accepted)))
				}
			}
		})
	}
	for n := range *runs {
		next <- *first + uint64(n)
	}
	close(next)
	wg.Wait()
	fmt.Printf(
		"%d runs, %d of them with time for everything, %d forced, %d jobs accepted: %d failed\n",
		*runs, calm.Load(), forced.Load(), accepted.Load(), failed.Load())
	if failed.Load() > 0 {
		os.Exit(1)
	}
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, "soak:", err)
	os.Exit(2)
}

// run runs the program of a seed, and signals it according to its plan.
func run(seed uint64, p *plan) (*outcome, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asProgram+"="+strconv.FormatUint(seed, 10))
	journal, journalEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer journal.Close()
	cmd.ExtraFiles = []*os.File{journalEnd}
	stderr, stderrEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	cmd.Stderr = stderrEnd
	if p.stderr == "full" {
		fill(stderrEnd)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	journalEnd.Close()
	stderrEnd.Close()
	o := new(outcome)
	var log sync.WaitGroup
	watchdog := time.AfterFunc(2*time.Minute, func() { cmd.Process.Signal(syscall.SIGQUIT) })
	defer watchdog.Stop()
	switch p.stderr {
	case "closed":
		stderr.Close()
	case "kept":
		log.Go(func() { io.Copy(&o.stderr, stderr) }) // ends with the process
	}

	armed, listens := make(chan struct{}), make(chan string, 1)
	read := make(chan struct{})
	go func() { // ends with the process
		defer close(read)
		lines := bufio.NewScanner(journal)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			line := lines.Text()
			o.journal = append(o.journal, line)
			if line == "armed" {
				close(armed)
			} else if addr, found := strings.CutPrefix(line, "listens "); found {
				listens <- addr
			}
		}
		close(listens)
	}()
	select {
	case <-armed:
	case <-read:
		cmd.Wait()
		log.Wait()
		return nil, fmt.Errorf("the program has not begun: %v\n%s",
			cmd.ProcessState, o.stderr.String())
	}

	load := clients{mayRefuse: p.concurrent}
	var loaders sync.WaitGroup
	loaders.Go(func() {
		if addr, ok := <-listens; ok {
			load.run(addr, read)
		}
	})
	last := time.Now()
	for _, s := range p.signals {
		time.Sleep(s.after)
		last = time.Now()
		cmd.Process.Signal(s.sig) // it may have ended
	}
	err = cmd.Wait()
	o.took = time.Since(last)
	var exitErr *exec.ExitError
	if err != nil && !errors.As(err, &exitErr) {
		return nil, err
	}
	o.status = cmd.ProcessState.String()
	<-read
	log.Wait()
	loaders.Wait()
	o.accepted, o.broken = load.accepted, load.broken
	return o, nil
}

// clients send jobs, each on a new connection, since a server that stops gives
// an idle one only a moment.
type clients struct {
	mu       sync.Mutex // guards the fields below
	accepted []string
	broken   []string

	mayRefuse bool // a 503 is fine: the queue is closed beside the server
}

func (l *clients) run(addr string, ended <-chan struct{}) {
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for i := 0; ; i++ {
				select {
				case <-ended:
					return
				case <-time.After(2 * time.Millisecond):
				}
				job := fmt.Sprintf("%d-%d", n, i)
				resp, err := c.Post("http://"+addr, "text/plain", strings.NewReader(job))
				if errors.Is(err, syscall.ECONNREFUSED) {
					return
				}
				l.mu.Lock()
				if err != nil {
					l.broken = append(l.broken, err.Error())
				} else if resp.StatusCode == http.StatusAccepted {
					l.accepted = append(l.accepted, job)
				} else if resp.StatusCode != http.StatusServiceUnavailable || !l.mayRefuse {
					l.broken = append(l.broken, resp.Status)
				}
				l.mu.Unlock()
				if err != nil {
					return
				}
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
}

// fill fills a pipe, so that a write to it blocks.
func fill(pipe *os.File) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		exit(err)
	}
	chunk := make([]byte, 4096)
	raw.Write(func(fd uintptr) bool {
		for {
			if _, err := syscall.Write(int(fd), chunk); err != nil {
				return true
			}
		}
	})
}
