// Package bench measures the cost of package quit, beside its peers: the
// standard library by hand, errgroup, oklog/run, fx, kratos, tomb, suture,
// closer, conc, do, go-zero, and graceful of Ory. Each peer is used as its own
// documentation says.
//
//	go test                         # runs each benchmark once: a minute
//	./run.sh                        # measures: 20 minutes on an idle machine
//	go run ./report                 # writes docs/cost.md from the figures
//	go run ./plot                   # draws the curves, docs/*.svg
//	go run ./scaling                # writes docs/scaling.md
//
// The names of the benchmarks are for benchstat:
//
//	benchstat -col /peer testdata/cost.txt
package bench
