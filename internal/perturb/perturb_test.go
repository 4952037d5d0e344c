package perturb

import "testing"

func TestChoose(t *testing.T) {
	const points, passes = 2000, 200
	most := map[action]int{yield: 8, spin: 10_000, sleep: 2_000}
	var count [sleep + 1]int
	for n := range points {
		for times := range uint32(passes) {
			what, size := choose(1, n, times)
			if again, same := choose(1, n, times); again != what || same != size {
				t.Fatalf("choose(1, %d, %d) = %d, %d, then %d, %d",
					n, times, what, size, again, same)
			}
			if size < 0 || size > most[what] || what != nothing && size == 0 {
				t.Fatalf("choose(1, %d, %d) = %d, %d", n, times, what, size)
			}
			count[what]++
		}
	}
	for what, n := range count {
		if n < points*passes/1000 {
			t.Errorf("action %d was chosen %d times in %d", what, n, points*passes)
		}
	}
	if n := count[nothing]; n < points*passes*9/10 {
		t.Errorf("nothing was done only %d times in %d", n, points*passes)
	}
}

func TestSeedsDiffer(t *testing.T) {
	same := 0
	for n := range 1000 {
		if hot(1, n) && hot(2, n) {
			same++
		}
	}
	if same > 5 {
		t.Errorf("two seeds have %d hot points of 1000 in common", same)
	}
}

// hot reports whether the seed has the point disturbed most of the time.
func hot(seed uint64, n int) bool {
	disturbed := 0
	for times := range uint32(100) {
		if what, _ := choose(seed, n, times); what != nothing {
			disturbed++
		}
	}
	return disturbed > 25
}

func TestNoSeed(t *testing.T) {
	old := seed
	defer func() { seed = old }()
	seed = 0
	defer func() {
		if recover() == nil {
			t.Error("P did not panic without a seed")
		}
	}()
	P(1)
}

func TestPasses(t *testing.T) {
	old := seed
	defer func() { seed = old }()
	seed = 1
	before := passed[7]
	for range 100 {
		if !B(7) {
			t.Error("B = false")
		}
	}
	if got := passed[7] - before; got != 100 {
		t.Errorf("counted %d passes, want 100", got)
	}
}
