//go:build unix

package article

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	ok          = "exit status 0"
	failed      = "exit status 1"
	forced      = "exit status 130"
	terminated  = "signal: terminated"
	interrupted = "signal: interrupt"
	runsOn      = "" // after patience
)

// want is the expected outcome of a stop.
type want struct {
	lost int
	end  string
}

// releases reports whether the work ends at the end of its time. If all of it
// is lost, the program does not wait for it, and neither does the test: a slow
// machine must not save any of it.
func (w want) releases() bool { return w.lost < inFlight }

// The programs of the article's fragments, with their losses if the work takes
// 1 s and 5 s more.
var fragments = []struct {
	program  string
	kind     kind
	original []want // with the package of the article; nil: it is not used
	quit     []want
}{
	{"listen", requests, nil, []want{{50, terminated}, {50, terminated}}},
	{"closer", requests, []want{{50, failed}, {50, failed}}, []want{{50, failed}, {50, failed}}},
	{"closer_mended", requests, nil, []want{{0, ok}, {0, ok}}},
	{"hook", requests, []want{{0, ok}, {50, ok}}, []want{{50, ok}, {50, ok}}},
	{"hook_mended", requests, nil, []want{{0, ok}, {0, ok}}},
	{"grpc", calls, nil, []want{{50, terminated}, {50, terminated}}},
	{"grpc_stop", calls, []want{{0, ok}, {50, ok}}, []want{{0, ok}, {0, ok}}},
	{"loop", jobs, []want{{0, ok}, {50, ok}}, []want{{0, ok}, {0, ok}}},
	{"queue", waiting, []want{{49, ok}, {50, ok}}, []want{{49, ok}, {49, ok}}},
	{"queue_mended", waiting, nil, []want{{0, ok}, {0, ok}}},
	{"service", jobs, []want{{0, ok}, {50, ok}}, []want{{50, ok}, {50, ok}}},
	{"service_mended", jobs, nil, []want{{0, ok}, {0, ok}}},
	{"framework", jobs, []want{{50, ok}, {50, ok}}, []want{{50, ok}, {50, ok}}},
	{"framework_mended", jobs, nil, []want{{0, ok}, {0, ok}}},
}

var holds = []time.Duration{time.Second, 5 * time.Second}

// The ways to stop the programs that are stopped with other packages.
const (
	once     = "SIGTERM"
	twice    = "SIGTERM twice"
	ctrlC    = "Ctrl-C twice"
	fails    = "the poller fails"
	hangs    = "the cache hangs"
	inOrder  = "order"           // of the ends, with once
	dbClosed = "database closed" // with hangs
)

var ways = map[string]stop{
	once:  {kind: requests, signals: []os.Signal{syscall.SIGTERM}},
	twice: {kind: requests, signals: []os.Signal{syscall.SIGTERM, syscall.SIGTERM}},
	ctrlC: {kind: requests, signals: []os.Signal{os.Interrupt, os.Interrupt}},
	fails: {kind: requests, signals: []os.Signal{syscall.SIGUSR1}, fault: "fail"},
	hangs: {kind: nothing, signals: []os.Signal{syscall.SIGTERM}, fault: "hang"},
}

var peers = []struct {
	program string
	fires   bool
	ends    map[string]want
	order   string // of the ends after a SIGTERM
	closed  bool   // the database was closed, although the cache hangs
}{
	{"with_errgroup", false, map[string]want{
		once: {0, ok}, twice: {50, terminated}, ctrlC: {50, interrupted},
		fails: {0, failed}, hangs: {0, runsOn},
	}, "poller, requests, cache, database", false},
	{"with_errgroup_quit", true, map[string]want{
		once: {0, ok}, twice: {0, ok}, ctrlC: {50, forced}, fails: {0, failed}, hangs: {0, failed},
	}, "poller, requests, cache, database", true},
	{"with_run", false, map[string]want{
		once: {0, ok}, twice: {50, terminated}, ctrlC: {50, interrupted},
		fails: {0, failed}, hangs: {0, runsOn},
	}, "poller, requests, cache, database", false},
	{"with_run_quit", true, map[string]want{
		once: {0, ok}, twice: {0, ok}, ctrlC: {50, forced}, fails: {0, failed}, hangs: {0, runsOn},
	}, "requests, poller, cache, database", false},
	{"with_fx", false, map[string]want{
		once: {0, ok}, twice: {0, ok}, ctrlC: {0, ok}, fails: {0, failed}, hangs: {0, failed},
	}, "requests, poller, cache, database", false},
	{"with_fx_quit", true, map[string]want{
		once: {0, ok}, twice: {0, ok}, ctrlC: {50, forced}, fails: {0, failed}, hangs: {0, failed},
	}, "poller, requests, cache, database", false},
	{"with_quit", true, map[string]want{
		once: {0, ok}, twice: {0, ok}, ctrlC: {50, forced}, fails: {0, failed}, hangs: {0, failed},
	}, "poller, requests, cache, database", true},
}

// seen has the cells of the tables, by program and column.
type seen struct {
	mu    sync.Mutex // guards the field below
	cells map[[2]string]string
}

func (s *seen) add(program, column, cell string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cells[[2]string{program, column}] = cell
}

const original = " with the article's package"

// TestStops runs the programs, and checks that docs/migrating.md has the
// outcomes.
func TestStops(t *testing.T) {
	var asIs, withOriginal, clean []string
	for _, f := range fragments {
		if strings.HasSuffix(f.program, "_mended") {
			clean = append(clean, f.program)
		} else {
			asIs = append(asIs, f.program)
		}
		if f.original != nil {
			withOriginal = append(withOriginal, f.program)
		}
	}
	for _, p := range peers {
		clean = append(clean, p.program)
	}
	// The fragments as they are have data races, which do not matter here.
	programs := build(t, asIs, false, false)
	originals := build(t, withOriginal, false, true)
	for name, path := range build(t, clean, race, false) {
		programs[name] = path
	}

	s := &seen{cells: make(map[[2]string]string)}
	complete := t.Run("programs", func(t *testing.T) {
		for _, p := range peers {
			for way, want := range p.ends {
				t.Run(p.program+"/"+way, func(t *testing.T) {
					t.Parallel()
					st := ways[way]
					st.program, st.fires = programs[p.program], p.fires
					if st.kind == requests && want.releases() {
						st.hold = time.Second
						if way == once && strings.HasPrefix(p.order, "poller") {
							st.until = "poller ended\n"
						}
					}
					got := st.run(t, want.end)
					check(t, st, got, want)
					s.add(p.program, way, got.cell(st.kind))
					order := strings.Join(got.order, ", ")
					switch way {
					case once:
						if order != p.order {
							t.Errorf("ended: %s, want %s", order, p.order)
						}
						s.add(p.program, inOrder, order)
					case hangs:
						closed := strings.HasSuffix(order, "database")
						if closed != p.closed {
							t.Errorf("database closed: %v, want %v", closed, p.closed)
						}
						s.add(p.program, dbClosed, map[bool]string{
							true: "yes", false: "no",
						}[closed])
					}
				})
			}
		}
		for _, f := range fragments {
			for i, hold := range holds {
				run := func(t *testing.T, name, program string, w want, tries int) {
					t.Parallel()
					st := stop{program: program, kind: f.kind,
						signals: []os.Signal{syscall.SIGTERM}, fires: true}
					if w.releases() {
						st.hold = hold
					}
					got := st.run(t, w.end)
					for ; tries > 1 && got.lost != w.lost; tries-- {
						t.Logf("%d lost: 3 s were not enough", got.lost)
						got = st.run(t, w.end)
					}
					check(t, st, got, w)
					if want := name == "hook"; got.warned != want {
						t.Errorf("WaitSignal warned: %v, want %v", got.warned, want)
					}
					s.add(name, fmt.Sprint(hold), got.cell(f.kind))
				}
				t.Run(fmt.Sprint(f.program, "/", hold), func(t *testing.T) {
					run(t, f.program, programs[f.program], f.quit[i], 1)
				})
				if f.original != nil {
					t.Run(fmt.Sprint(f.program, original, "/", hold), func(t *testing.T) {
						// Its 3 s may be too short on a slow machine.
						run(t, f.program+original, originals[f.program], f.original[i], 3)
					})
				}
			}
		}
	})
	all := len(peers) * (len(ways) + len([]string{inOrder, dbClosed}))
	all += (len(fragments) + len(withOriginal)) * len(holds)
	switch {
	case len(s.cells) == all:
		checkTables(t, s.cells)
	case complete:
		t.Skipf("%d of %d cells: with -run, the page is not checked", len(s.cells), all)
	}
}

func check(t *testing.T, st stop, got outcome, w want) {
	t.Helper()
	if got.lost != w.lost || got.end != w.end {
		t.Errorf("%d lost, end %q, want %d lost, end %q", got.lost, got.end, w.lost, w.end)
	}
	// If the program waits for the work, the process cannot end before it.
	if st.hold > 0 && w.lost == 0 && got.took < st.hold {
		t.Errorf("it took %v, want %v at least", got.took, st.hold)
	}
}

// cell returns the outcome as a cell of a table.
func (o outcome) cell(k kind) string {
	end := strings.TrimPrefix(o.end, "exit ")
	switch {
	case o.end == runsOn:
		return fmt.Sprintf("still runs after %v", patience)
	case strings.HasPrefix(o.end, "signal: "):
		end = "killed by the signal"
	}
	cell := fmt.Sprintf("%s, %.1f s", end, o.took.Seconds())
	if k != nothing {
		cell = fmt.Sprintf("%d lost, %s", o.lost, cell)
	}
	return cell
}
