// Package model proves small models of the concurrent parts of package quit by
// trying all their interleavings: the striped counter, the hand-over between a
// closer's return and its being abandoned, and the goroutine that hands over
// log records.
//
// A model is written by hand. Each of its steps stands for one atomic
// operation, or for one critical section, and names the line of the code that
// it stands for; a test fails if that line no longer exists. For each property
// there is a mutant of the model, a plausible mistake, which the exploration
// has to refute.
//
//	go test ./verify/model -v
package model

import (
	"fmt"
	"strings"
)

// Step is one step that a thread of a model can take.
type Step[S comparable] struct {
	Name string // the thread and its action
	To   S
	Err  error // a property that the step itself violates
}

// Model is a system of threads that share a state.
type Model[S comparable] struct {
	Init  S
	Steps func(s S) []Step[S] // all possible next steps
	Check func(s S) error     // an invariant of all states
	Final func(s S) error     // an invariant of states in which no step can be taken
}

// Violation is a history that violates a property.
type Violation struct {
	History []string
	Err     error
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%v, after\n\t%s", v.Err, strings.Join(v.History, "\n\t"))
}

// Explore tries all histories of m and returns the number of its states. It
// stops at the first violation. A history that returns to an earlier state is a
// violation: it may go on forever.
func Explore[S comparable](m Model[S]) (states int, err error) {
	type frame struct {
		name  string
		state S
		steps []Step[S]
	}
	onPath := map[S]bool{} // the states seen; true: the current path leads through it
	var path []frame
	violated := func(last string, err error) *Violation {
		v := &Violation{Err: err}
		for _, f := range path[1:] {
			v.History = append(v.History, f.name)
		}
		if last != "" {
			v.History = append(v.History, last)
		}
		return v
	}
	enter := func(name string, s S) error {
		onPath[s] = true
		f := frame{name: name, state: s, steps: m.Steps(s)}
		path = append(path, f)
		if err := m.Check(s); err != nil {
			return violated("", err)
		}
		if len(f.steps) == 0 {
			if err := m.Final(s); err != nil {
				return violated("", err)
			}
		}
		return nil
	}
	if err := enter("", m.Init); err != nil {
		return 1, err
	}
	for len(path) > 0 {
		top := &path[len(path)-1]
		if len(top.steps) == 0 {
			onPath[top.state] = false
			path = path[:len(path)-1]
			continue
		}
		step := top.steps[0]
		top.steps = top.steps[1:]
		if step.Err != nil {
			return len(onPath), violated(step.Name, step.Err)
		}
		switch on, seen := onPath[step.To]; {
		case on:
			return len(onPath), violated(step.Name, fmt.Errorf("this can go on forever"))
		case !seen:
			if err := enter(step.Name, step.To); err != nil {
				return len(onPath), err
			}
		}
	}
	return len(onPath), nil
}
