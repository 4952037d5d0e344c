//go:build unix

package scenario

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// App is an application in neutral terms. An adapter builds it on its library
// and runs it until it has been stopped.
type App struct {
	Timeout time.Duration // for the whole shutdown
	Signals []os.Signal   // that stop it: SIGINT, SIGTERM, and SIGHUP in one scenario
	Parts   []*Part       // in the order in which they are opened
	Workers []*Worker
	Servers []*Server
	Group   *Group // a nested application; nil if there is none

	// Ops is set by the adapter before it opens anything.
	Ops Ops

	round    int
	scenario *Scenario
	started  func() // called in a goroutine of its own once the application runs
}

const defaultTimeout = 3 * time.Second

// Part is a resource that is opened at the start, and closed in reverse order.
type Part struct {
	Name string
	// Shared: the workers and the handlers use it, so it is to be closed once
	// they have ended.
	Shared bool
	// Alone: it does not depend on others, nor they on it; it may be closed at
	// the same time.
	Alone bool
	Open  func() error
	Stop  func(ctx context.Context) error
}

// Worker runs until ctx is done, and then finishes its work in hand.
type Worker struct {
	Name string
	// Last: it works on requests that the servers let in, so it is to be told
	// to end when they have been shut down.
	Last bool
	Run  func(ctx context.Context) error
}

// Server is an HTTP server. Its address is "127.0.0.1:0", or, in one scenario,
// an address that is taken.
type Server struct {
	Addr    string
	Handler http.Handler
}

// Group is a nested application.
type Group struct {
	Name    string
	Parts   []*Part
	Workers []*Worker
}

// Ops has the calls that a running program can make to the library. A function
// is nil if the library has no such feature.
type Ops struct {
	// Add registers one more part, which is open. The returned function takes
	// it out again; it is nil if there is no way to.
	Add func(p *Part) (remove func())
	// Go starts one more worker, which the shutdown awaits, and reports whether
	// it did.
	Go func(name string, f func(ctx context.Context) error) bool
	// Stopping reports whether the shutdown has begun.
	Stopping func() bool
	// Stop asks for the shutdown, and waits for it if the library's own
	// function does.
	Stop func()
	// Got returns the signal that has stopped the application, for an exit
	// status. It is called when the application has returned.
	Got func() os.Signal
	// Work returns the library's context for work in flight, which outlives the
	// signal.
	Work func() context.Context
}

// Main is the main function of a peer's program. Its argument is the name of a
// scenario.
func Main(run func(a *App) error) {
	s := Find(os.Args[1])
	// A process whose parent was killed ends by itself.
	time.AfterFunc(2*time.Minute, func() { os.Exit(99) })
	var a *App
	var err error
	for round := range max(s.Rounds, 1) {
		a = &App{
			Timeout:  defaultTimeout,
			Signals:  []os.Signal{os.Interrupt, syscall.SIGTERM},
			round:    round,
			scenario: s,
		}
		s.Build(a)
		err = run(a)
		if s.After != nil {
			s.After(a)
		}
	}
	Say("main")
	if err != nil {
		log.Fatal(err)
	}
}

// Listen is for adapters whose library serves a listener.
func (a *App) Listen(s *Server) (net.Listener, error) {
	ln, err := net.Listen("tcp", s.Addr)
	if err == nil {
		a.Listening(ln.Addr())
	}
	return ln, err
}

// Listening is called with the address of a server that listens.
func (a *App) Listening(addr net.Addr) { Say("listening %v", addr) }

// Ready is called by the adapter when everything runs and signals are taken, or
// just before that if the library does not tell later.
func (a *App) Ready() {
	if a.scenario.Needs != nil {
		if why := a.scenario.Needs(&a.Ops); why != "" {
			a.NA(why)
		}
	}
	Say("ready")
	if a.started != nil {
		go a.started()
	}
}

// NA ends the process: the peer cannot play this scenario.
func (a *App) NA(why string) {
	Say("n/a %s", why)
	os.Exit(0)
}

// Rerun is called by adapters of libraries with global state: they cannot run
// twice.
func (a *App) Rerun() {
	if a.scenario.Rounds > 1 {
		a.NA("one stop a process")
	}
}

// NoHangup is called by adapters of libraries with signals of their own.
func (a *App) NoHangup() {
	if slices.Contains(a.Signals, os.Signal(syscall.SIGHUP)) {
		a.NA("takes no SIGHUP")
	}
}

// NoGroup is called by adapters of libraries without groups.
func (a *App) NoGroup() {
	if a.Group != nil {
		a.NA("no groups")
	}
}

// Is reports whether the scenario has that name, for a peer that cannot play
// it.
func (a *App) Is(name string) bool { return a.scenario.Name == name }

// Open opens all parts, until one fails.
func (a *App) Open(each func(p *Part)) error {
	for _, p := range a.Parts {
		if err := p.Open(); err != nil {
			return err
		}
		each(p)
	}
	return nil
}

// Close closes parts as main does it by hand: with one defer statement for
// each, written when it was opened. So the last is closed first, and one that
// panics does not keep the others from being closed. The errors are joined.
func Close(ctx context.Context, parts []*Part) (err error) {
	for _, p := range parts {
		defer func() { err = errors.Join(err, p.Stop(ctx)) }()
	}
	return nil
}

// Clean returns nil if err says that a worker has ended because it was told to,
// by the test that is common in programs.
func Clean(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Served returns nil if err is that of an http.Server that was shut down.
func Served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// journal is the pipe to the parent. Stdout and stderr stay free, to be broken
// or full.
var (
	journalMu sync.Mutex // guards the writes
	journal   = os.NewFile(3, "journal")
)

// Say writes a line to the journal, with the time.
func Say(format string, args ...any) {
	journalMu.Lock()
	defer journalMu.Unlock()
	fmt.Fprintf(journal, "%d %s\n", time.Now().UnixMicro(), fmt.Sprintf(format, args...))
}

// part returns a part that says when it is opened, called and closed, and how
// much time its context has left.
func part(name string, stop func(ctx context.Context) error) *Part {
	return &Part{
		Name: name,
		Open: func() error { Say("opened %s", name); return nil },
		Stop: func(ctx context.Context) error {
			Say("close %s %s", name, left(ctx))
			err := stop(ctx)
			Say("closed %s", name)
			return err
		},
	}
}

// shared returns p, which workers and handlers use.
func shared(p *Part) *Part {
	p.Shared = true
	return p
}

// left says how much time ctx has left.
func left(ctx context.Context) string {
	if ctx.Err() != nil {
		return "over"
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return "endless"
	}
	return fmt.Sprint(time.Until(deadline).Milliseconds())
}

// The following functions are behaviours of parts when they are closed.

func ok(context.Context) error { return nil }

func after(d time.Duration) func(context.Context) error {
	return func(context.Context) error { time.Sleep(d); return nil }
}

func fails(text string) func(context.Context) error {
	return func(context.Context) error { return errors.New(text) }
}

// panicked is the value of the panics in scenarios.
const panicked = "out of order"

func panics(context.Context) error { panic(panicked) }

// stuck never returns. A stack shows its name.
//
//go:noinline
func stuck(context.Context) error {
	for {
		time.Sleep(time.Hour)
	}
}

// theMailer is a part that hangs. A report that names its type or its method
// names the part.
type theMailer struct{}

func (theMailer) open() error { Say("opened the-mailer"); return nil }

func (theMailer) stop(ctx context.Context) error {
	Say("close the-mailer %s", left(ctx))
	return stuck(ctx)
}

func mailer() *Part {
	return &Part{Name: "the-mailer", Open: theMailer{}.open, Stop: theMailer{}.stop}
}

// worker returns a worker that says when it begins and ends.
func worker(name string, run func(ctx context.Context) error) *Worker {
	return &Worker{Name: name, Run: func(ctx context.Context) error {
		Say("begin %s", name)
		err := run(ctx)
		Say("end %s", name)
		return err
	}}
}

// untilTold is a worker that has nothing to finish.
func untilTold(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// web returns a server on a port that the system picks.
func web(handler http.HandlerFunc) *Server { return &Server{"127.0.0.1:0", handler} }

// goroutines counts the goroutines, without those of the runtime, of os/signal
// and of the caller.
func goroutines() (n int, stacks string) {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for i, g := range strings.Split(string(buf), "\n\n") {
		if i > 0 && !strings.Contains(g, "os/signal.") {
			n++
			stacks += g + "\n\n"
		}
	}
	return n, stacks
}
