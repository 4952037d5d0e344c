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
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestRuns does a few runs with fixed seeds.
func TestRuns(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			p := newPlan(seed)
			o, err := run(seed, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, fault := range check(p, o) {
				t.Error(fault)
			}
		})
	}
}

// TestCheck changes the record of a good run, and checks that each fault is
// found.
func TestCheck(t *testing.T) {
	const second = "2026-01-02T03:04:0"
	p := &plan{timeout: time.Second, signals: []signalAt{{0, syscall.SIGTERM}}, closers: []*part{
		{id: 1, act: "ok", afterDrain: true},
		{id: 2, act: "ok", registers: &part{id: 3, act: "ok"}},
		{id: 4, act: "ok", inner: []*part{{id: 5, act: "ok"}, {id: 6, act: "ok"}}},
	}}
	report := `report {"Started":"` + second + `0Z","Deadline":"` + second + `1Z","Steps":[` +
		`{"Phase":"closers","Name":"4","Start":"` + second + `0Z",` +
		`"Deadline":"` + second + `0.8Z"},` +
		`{"Phase":"closers","Name":"2","Start":"` + second + `0Z",` +
		`"Deadline":"` + second + `0.8Z"},` +
		`{"Phase":"closers","Name":"3","Start":"` + second + `0Z",` +
		`"Deadline":"` + second + `0.8Z"},` +
		`{"Phase":"drain","Name":"drain","Start":"` + second + `0Z",` +
		`"Deadline":"` + second + `0.8Z"},` +
		`{"Phase":"after drain","Name":"1","Start":"` + second + `0Z",` +
		`"Deadline":"` + second + `0.8Z"}]}`
	good := func() *outcome {
		return &outcome{
			journal: []string{"armed", "listens 127.0.0.1:1", "call 6 alive", "return 6",
				"call 5 alive", "return 5", "call 2 alive", "registered 3", "return 2",
				"call 3 alive",
				"return 3", "done 1-1", "call 1 alive", "return 1", report, "end false"},
			status:   "exit status 0",
			accepted: []string{"1-1"},
		}
	}
	if faults := check(p, good()); len(faults) > 0 {
		t.Fatalf("a good run has the faults %q", faults)
	}
	replace := func(o *outcome, line string, by ...string) {
		i := slices.Index(o.journal, line)
		if i < 0 {
			t.Fatalf("no line %q", line)
		}
		o.journal = slices.Replace(o.journal, i, i+1, by...)
	}
	for want, change := range map[string]func(o *outcome){
		"closer 5 was called twice": func(o *outcome) {
			replace(o, "return 5", "call 5 alive")
		},
		"closer 3 was never called": func(o *outcome) { replace(o, "call 3 alive") },
		"closer 2 was called with a context": func(o *outcome) {
			replace(o, "call 2 alive", "call 2 dead")
		},
		"in the order [6 5 3 2 1]": func(o *outcome) {
			replace(o, "call 2 alive", "call x alive")
			replace(o, "call 3 alive", "call 2 alive")
			replace(o, "call x alive", "call 3 alive")
		},
		"closer 1 was called after the end": func(o *outcome) {
			replace(o, "call 1 alive")
			o.journal = append(o.journal, "call 1 alive")
		},
		"job 1-1 was done twice": func(o *outcome) {
			replace(o, "done 1-1", "done 1-1", "done 1-1")
		},
		"job 1-1 was accepted and is lost": func(o *outcome) { replace(o, "done 1-1") },
		"job 2-1 was done after the end": func(o *outcome) {
			o.journal = append(o.journal, "done 2-1")
		},
		"a connection broke":         func(o *outcome) { o.broken = []string{"EOF"} },
		"before WaitSignal returned": func(o *outcome) { replace(o, "end false") },
		"failure is false":           func(o *outcome) { o.status = "exit status 1" },
		"no second Ctrl-C":           func(o *outcome) { o.status = "exit status 130" },
		"ended with signal: quit":    func(o *outcome) { o.status = "signal: quit" },
		"the end took 1m0s":          func(o *outcome) { o.took = time.Minute },
		"closer 3 had 30ms": func(o *outcome) {
			replace(o, report, strings.Replace(report,
				`"Name":"3","Start":"`+second+`0Z","Deadline":"`+second+`0.8Z"`,
				`"Name":"3","Start":"`+second+`0Z","Deadline":"`+second+`0.03Z"`, 1))
		},
		"the report is not to be read": func(o *outcome) { replace(o, report, "report ") },
	} {
		o := good()
		change(o)
		if faults := check(p, o); !strings.Contains(strings.Join(faults, "\n"), want) {
			t.Errorf("the faults are %q, want %q", faults, want)
		}
	}
}
