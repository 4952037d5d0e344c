package model

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// explore checks that there is no violation or, with a mutant, that there is
// one that contains want.
func explore[S comparable](t *testing.T, m Model[S], mutant bool, want string) {
	t.Helper()
	states, err := Explore(m)
	var v *Violation
	switch {
	case !mutant && err != nil:
		t.Error(err)
	case mutant && !errors.As(err, &v):
		t.Errorf("%d states, and the mutant is not refuted", states)
	case mutant && !strings.Contains(v.Err.Error(), want):
		t.Errorf("the mutant is refuted by %v, want %q", v, want)
	case mutant:
		t.Logf("refuted after %d states, in %d steps: %v", states, len(v.History), v.Err)
	default:
		t.Logf("%d states", states)
	}
}

var large = flag.Bool("large", false, "explore the larger bounds too")

func TestCounter(t *testing.T) {
	configs := []CounterConfig{
		{Adders: 3, Waits: 1},
		{Adders: 2, Waits: 2},
		{Adders: 2, Waits: 1, Drain: true},
		{Adders: 1, Tries: 2, Drain: true},
		{Adders: 1, Tries: 1, Drain: true, GiveUp: true},
		{Adders: 2, Tries: 1, Drain: true, GiveUp: true},
		{Adders: 1, Tries: 1, Waits: 1, Drain: true, GiveUp: true},
		{Adders: 1, Extra: 1, Waits: 1, Drain: true},
	}
	if *large {
		configs = append(configs, []CounterConfig{
			{Adders: 4, Waits: 1},
			{Adders: 2, Tries: 1, Waits: 1, Drain: true, GiveUp: true},
			{Adders: 1, Tries: 2, Waits: 1, Drain: true, GiveUp: true},
			{Adders: 2, Tries: 2, Drain: true, GiveUp: true},
			{Adders: 3, Tries: 1, Drain: true, GiveUp: true},
			{Adders: 2, Tries: 1, Waits: 2, Drain: true},
			{Adders: 3, Waits: 2, Drain: true},
			{Adders: 2, Extra: 1, Waits: 1, Drain: true, GiveUp: true},
		}...)
	}
	for _, c := range configs {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) { explore(t, Counter(c), false, "") })
	}
}

func TestCounterMutants(t *testing.T) {
	const early, endless = "the wait has ended while", "never ends"
	mutants := map[CounterMutant]struct {
		config CounterConfig
		want   string
	}{
		LoadThenMark:       {CounterConfig{Adders: 2, Waits: 1}, ""},
		CloseWithoutMutex:  {CounterConfig{Adders: 2, Waits: 1}, ""},
		MarkUnnoticed:      {CounterConfig{Adders: 2, Waits: 1}, ""},
		WaitDoesNotLook:    {CounterConfig{Adders: 2, Waits: 1}, early},
		ZeroKept:           {CounterConfig{Adders: 2, Waits: 1}, "go on forever"},
		ZeroNotClosed:      {CounterConfig{Adders: 1, Waits: 1}, endless},
		SumWithoutClosing:  {CounterConfig{Adders: 2, Waits: 1}, ""},
		OpenedAfterClose:   {CounterConfig{Adders: 2, Waits: 2}, ""},
		TryLooksOnceBefore: {CounterConfig{Tries: 1, Drain: true}, "was let in, and runs after"},
		TryLooksOnceAfter:  {CounterConfig{Tries: 1, Drain: true}, ""},
	}
	for m := NoCounterMutant + 1; m < CounterMutants; m++ {
		t.Run(fmt.Sprint(m), func(t *testing.T) {
			c := mutants[m].config
			explore(t, Counter(c), false, "")
			c.Mutant = m
			explore(t, Counter(c), true, mutants[m].want)
		})
	}
}

func TestHandover(t *testing.T) {
	configs := []HandoverConfig{{Closers: 1}, {Closers: 2}, {Closers: 2, Concurrent: true}}
	if *large {
		configs = append(configs, HandoverConfig{Closers: 3})
	}
	for _, c := range configs {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) { explore(t, Handover(c), false, "") })
	}
}

func TestHandoverMutants(t *testing.T) {
	const endless = "never ends"
	wants := map[HandoverMutant]string{
		AbandonDoesNotAsk: endless,
		GoexitDoesNotAsk:  endless,
		AskBeforeFinish:   endless,
		BothEnd:           "running is",
		EndToldToAll:      "ends twice",
		RunningUnnoticed:  "2 steps run at once",
		RecordAfterEnding: "before the record of closer",
		EndingNotAwaited:  "before the record of closer",
		StacksNotAwaited:  "before the stacks of closer",
	}
	for m := NoHandoverMutant + 1; m < HandoverMutants; m++ {
		t.Run(fmt.Sprint(m), func(t *testing.T) {
			closers := 2
			if m == RunningUnnoticed { // a late return, which asks, and two more
				closers = 3
			}
			explore(t, Handover(HandoverConfig{Closers: closers, Mutant: m}), true, wants[m])
		})
	}
}

func TestLog(t *testing.T) {
	for _, c := range []LogConfig{
		{Producers: [2]int{1, 1}, Goexits: 1},
		{Producers: [2]int{2, 1}, Goexits: 2},
		{Producers: [2]int{3, 0}, Goexits: 1, Blocks: true},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) { explore(t, Log(c), false, "") })
	}
}

func TestLogMutants(t *testing.T) {
	wants := map[LogMutant]string{
		LookThenStart:   "",
		EmptyThenEnd:    "",
		GoexitEnds:      "",
		LostForgotten:   "records were lost, and 0 told to be",
		LostToldAgain:   "",
		IdleNotTold:     "waits for the log for ever",
		IdleAlwaysWaits: "waits for the log for ever",
	}
	for m := NoLogMutant + 1; m < LogMutants; m++ {
		t.Run(fmt.Sprint(m), func(t *testing.T) {
			explore(t, Log(LogConfig{Producers: [2]int{2, 1}, Goexits: 1, Mutant: m}),
				true, wants[m])
		})
	}
}

// TestLines checks that each line that a model stands for is in the code: after
// a change there, the model must be checked again.
func TestLines(t *testing.T) {
	models, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range models {
		model, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range regexp.MustCompile(`(?m)// (\w+\.go): (.+)$`).FindAllStringSubmatch(
			string(model), -1) {
			code, err := os.ReadFile(filepath.Join("../../quit", line[1]))
			if err != nil {
				t.Fatal(err)
			}
			found++
			if !strings.Contains(string(code), line[2]) {
				t.Errorf("%s: no line of quit/%s has %q", file, line[1], line[2])
			}
		}
	}
	if found < 10 {
		t.Errorf("%d lines found, want more", found)
	}
}
