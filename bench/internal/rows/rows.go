// Package rows reads the output of the benchmarks.
package rows

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// Row names a benchmark's figures for one peer and one value of the key.
type Row struct {
	Benchmark string
	Peer      string // or, if nothing is compared, the case
	Value     string // of the operation's key; empty if it has none
	Unit      string
}

// Rows are all figures that were read.
type Rows struct {
	figures map[Row][]float64
	order   []Row
	System  []string // of the machine, as in "cpu: …"
}

// Read reads the output of go test -bench.
func Read(r io.Reader, name string) (*Rows, error) {
	rows := &Rows{figures: make(map[Row][]float64)}
	in := benchfmt.NewReader(r, name)
	for in.Scan() {
		switch record := in.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, record
		case *benchfmt.Result:
			if err := rows.add(record); err != nil {
				return nil, err
			}
		}
	}
	return rows, in.Err()
}

func (r *Rows) add(result *benchfmt.Result) error {
	for _, key := range []string{"goos", "goarch", "cpu", "go", "cores", "kernel"} {
		if value := result.GetConfig(key); value != "" {
			if line := key + ": " + value; !slices.Contains(r.System, line) {
				r.System = append(r.System, line)
			}
		}
	}
	base, parts := result.Name.Parts()
	row := Row{Benchmark: string(base)}
	for _, part := range parts {
		key, value, ok := strings.Cut(strings.TrimPrefix(string(part), "/"), "=")
		switch {
		case key == "peer" || key == "case":
			row.Peer = value
		case ok:
			row.Value = value
		case !strings.HasPrefix(key, "-"): // that is GOMAXPROCS
			return fmt.Errorf("%s: %q is not key=value", result.Name, part)
		}
	}
	for _, v := range result.Values {
		row.Unit = v.Unit
		value := v.Value
		if v.OrigUnit != "" {
			row.Unit, value = v.OrigUnit, v.OrigValue
		}
		if _, known := r.figures[row]; !known {
			r.order = append(r.order, row)
		}
		r.figures[row] = append(r.figures[row], value)
	}
	return nil
}

// Median returns the median of a row's figures, and whether there is one.
func (r *Rows) Median(row Row) (float64, bool) {
	all := r.Figures(row)
	if len(all) == 0 {
		return 0, false
	}
	return median(all), true
}

// Figures returns the figures of a row, in ascending order.
func (r *Rows) Figures(row Row) []float64 {
	return slices.Sorted(slices.Values(r.figures[row]))
}

// Peers returns the peers of a benchmark, in the order in which they ran first.
func (r *Rows) Peers(benchmark, unit string) []string {
	return r.distinct(benchmark, unit, func(row Row) string { return row.Peer })
}

// Values returns the values of a benchmark's key, numbers in ascending order.
func (r *Rows) Values(benchmark, unit string) []string {
	values := r.distinct(benchmark, unit, func(row Row) string { return row.Value })
	slices.SortStableFunc(values, func(a, b string) int {
		x, errX := strconv.Atoi(a)
		y, errY := strconv.Atoi(b)
		if errX != nil || errY != nil {
			return 0
		}
		return x - y
	})
	return values
}

func (r *Rows) distinct(benchmark, unit string, of func(Row) string) []string {
	var all []string
	for _, row := range r.order {
		if row.Benchmark == benchmark && row.Unit == unit && !slices.Contains(all, of(row)) {
			all = append(all, of(row))
		}
	}
	return all
}

// Runs returns how often a benchmark was measured: the number of figures of the
// row that has the fewest.
func (r *Rows) Runs(benchmark string) int {
	runs := 0
	for _, row := range r.order {
		if n := len(r.figures[row]); row.Benchmark == benchmark && (runs == 0 || n < runs) {
			runs = n
		}
	}
	return runs
}

// Check returns an error if an operation was not measured, or if a figure has
// no baseline or no figure of quit beside it.
func (r *Rows) Check() error {
	for _, o := range Operations {
		for _, m := range o.Measures {
			values := r.Values(o.Benchmark, m.Unit)
			if len(values) == 0 {
				return fmt.Errorf("%s has no figures in %s", o.Benchmark, m.Unit)
			}
			for _, value := range values {
				for _, peer := range []string{o.Baseline, Quit} {
					if _, ok := r.Median(Row{o.Benchmark, peer, value, m.Unit}); !ok {
						return fmt.Errorf("%s has no figure in %s of %s where %s=%s",
							o.Benchmark, m.Unit, peer, o.Key, value)
					}
				}
			}
		}
	}
	return nil
}

// Ratio returns the median of the ratios of two rows, each of figures of the
// same run.
func (r *Rows) Ratio(of, to Row) (float64, bool) {
	x, y := r.figures[of], r.figures[to]
	if len(x) == 0 || len(x) != len(y) {
		return 0, false
	}
	ratios := make([]float64, len(x))
	for i := range x {
		ratios[i] = x[i] / y[i]
	}
	return median(slices.Sorted(slices.Values(ratios))), true
}

func median(sorted []float64) float64 {
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
