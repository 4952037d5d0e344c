package main

import "testing"

// TestRepository measures all comments and pages of this repository.
func TestRepository(t *testing.T) {
	t.Chdir("../..")
	r := newResult(defaults)
	if err := r.measure("."); err != nil {
		t.Fatal(err)
	}
	r.sort()
	for _, f := range r.problems() {
		t.Error(f)
	}
	if t.Failed() {
		t.Logf("go run ./verify/prose -words prints each:\n%s", r.table())
	}
}
