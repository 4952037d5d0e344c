#!/usr/bin/env bash
# Measures all, and writes testdata/cost.txt: RUNS runs (10 by default), one
# after the other, each of all benchmarks, so that a busy time of the machine
# meets a peer and its baseline. It begins no run that would end more than
# SECONDS_AT_MOST (1500 by default) after the start.
#
# The short operations run for 100 ms each, those with n closers, goroutines or
# events once (small n: several times in one), an exit three times. A request runs
# ten times for 50 ms, since its time varies more than quit adds to it.
set -euo pipefail
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT

go test -c -o "$tmp/bench.test" .
bench() { "$tmp/bench.test" -test.run '^$' -test.bench "$1" -test.benchtime "$2" -test.timeout 30m; }
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
