#!/usr/bin/env bash
# Measures everything, and writes testdata/cost.txt: RUNS runs (10 by default)
# of all benchmarks, one after the other, so that a busy time of the machine
# affects a peer and its baseline alike. It begins no run that would end more
# than SECONDS_AT_MOST seconds (1500 by default) after the start.
#
# PROGRAMS is the folder of the programs, if they are built already.
#
# Short operations run for 100 ms each. Operations with n closers, goroutines or
# events run once, or several times in one run if n is small. An exit runs three
# times. A request runs ten times for 50 ms, since its time varies by more than
# quit adds to it.
set -euo pipefail
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT

go test -c -o "$tmp/bench.test" .
bench() {
	"$tmp/bench.test" ${PROGRAMS:+"-programs=$PROGRAMS"} \
		-test.run '^$' -test.bench "$1" -test.benchtime "$2" -test.timeout 30m
}
{
	printf 'go: %s\ncores: %s\nkernel: %s\n' "$(go env GOVERSION)" "$(nproc)" "$(uname -sr)"
	bench '^BenchmarkBinary$' 1x
	begin=$SECONDS
	for ((run = 1; run <= ${RUNS:-10}; run++)); do
		[ $(((SECONDS - begin) * run)) -le $((${SECONDS_AT_MOST:-1500} * (run - 1))) ] || break
		bench '^Benchmark(HasFired|AddDone|Go|Register|Wait|CacheLine)$' 100ms
		for ((i = 0; i < 10; i++)); do
			bench '^BenchmarkRequest$' 50ms
		done
		bench '^Benchmark(Shutdown|Nested)$' 1x
		bench '^BenchmarkDrain$' 1x
		bench '^BenchmarkExit$' 3x
		echo "run $run has ended after $((SECONDS - begin)) s" >&2
	done
} >"$tmp/out"
mkdir -p testdata
mv "$tmp/out" testdata/cost.txt
