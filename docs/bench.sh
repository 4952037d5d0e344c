#!/usr/bin/env bash
# Runs the benchmarks and writes docs/benchmarks.md: medians of COUNT runs (10 by
# default). The runs are of all benchmarks, one run after the other, so that a busy time of
# the machine meets a benchmark and its baseline. With a file as the argument, it takes the
# output of go test from there.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -gt 0 ]; then
	out=$1
else
	tmp=$(mktemp -d)
	trap 'rm -r "$tmp"' EXIT
	out=$tmp/out
	go test -c -o "$tmp/quit.test" ./quit
	go test -c -o "$tmp/quithttp.test" ./quit/quithttp
	for ((run = 0; run < ${COUNT:-10}; run++)); do
		(cd quit && "$tmp/quit.test" -test.run '^$' -test.bench .)
		(cd quit/quithttp && "$tmp/quithttp.test" -test.run '^$' -test.bench .)
	done | tee "$out" >&2
fi

{
	cat <<-'TEXT'
	# Benchmarks

	Written by `docs/bench.sh`: medians of several runs of all benchmarks, with the lowest and the highest figure in brackets. A shared machine is noisy. Compare a figure with its baseline, which ran next to it, and not with a figure of another day.

	HasFired is 100 calls before the fire. Fire is with 100,000 goroutines parked on Done. Signal is from SIGTERM to the end of a shutdown with nothing to do. Report is that of a forced end, with stacks. Request is a request on a kept-alive connection, over loopback and over one in memory. Tracked is the time that `quithttp.Serve` adds to it, measured alone.

	TEXT
	awk '
	/^(goos|goarch|cpu):/ && !told[$0]++ { system_[++lines] = $0 }
	/^Benchmark/ {
		name = $1; sub(/-[0-9]+$/, "", name); sub(/^Benchmark/, "", name)
		if (!(name in runs)) order[++names] = name
		for (i = 3; i < NF; i += 2) add(name, $(i + 1), $i)
		runs[name]++
	}
	function add(n, unit, v) { values[n, unit, ++count[n, unit]] = v }
	function sort_(n, unit,   i, j, v) {
		for (i = 2; i <= count[n, unit]; i++) {
			v = values[n, unit, i]
			for (j = i - 1; j >= 1 && values[n, unit, j] + 0 > v + 0; j--) values[n, unit, j + 1] = values[n, unit, j]
			values[n, unit, j + 1] = v
		}
	}
	function median(n, unit,   c) {
		c = count[n, unit]
		return c % 2 ? values[n, unit, (c + 1) / 2] : (values[n, unit, c / 2] + values[n, unit, c / 2 + 1]) / 2
	}
	function show(ns, unit) {
		if (unit == "cpu-ms/op") return sprintf("%.1f ms CPU", ns)
		return ns >= 1e6 ? sprintf("%.1f ms", ns / 1e6) : ns >= 1e4 ? sprintf("%.1f µs", ns / 1e3) : sprintf("%.1f ns", ns)
	}
	# The baseline of A/quit and A/quit/x is A/baseline=name and A/baseline=name/x.
	function baseline(n,   i, top, rest) {
		top = n; sub(/\/.*/, "", top)
		rest = n; sub(/^[^\/]*\/quit[^\/]*/, "", rest)
		for (i = 1; i <= names; i++)
			if (index(order[i], top "/baseline=") == 1 && substr(order[i], length(order[i]) - length(rest) + 1) == rest) return order[i]
		return ""
	}
	END {
		for (i = 1; i <= lines; i++) print "    " system_[i]
		print "\n| benchmark | time | allocations | baseline | its time | ratio |\n| --- | --- | --- | --- | --- | --- |"
		for (i = 1; i <= names; i++) {
			sort_(order[i], "ns/op"); sort_(order[i], "ns/closer"); sort_(order[i], "cpu-ms/op")
		}
		for (i = 1; i <= names; i++) {
			n = order[i]
			if (n ~ /baseline=/) continue
			unit = count[n, "cpu-ms/op"] ? "cpu-ms/op" : count[n, "ns/closer"] ? "ns/closer" : "ns/op"
			c = count[n, unit]
			t = show(median(n, unit), unit) " (" show(values[n, unit, 1], unit) "–" show(values[n, unit, c], unit) ")" (unit == "ns/closer" && n !~ /=0$/ ? " a closer" : "")
			if (count[n, "B/closer"]) { sort_(n, "B/closer"); t = median(n, "B/closer") " bytes a closer" }
			allocs = count[n, "allocs/op"] ? values[n, "allocs/op", 1] : ""
			b = baseline(n); bt = ""; ratio = ""
			if (b != "") {
				if (unit == "ns/closer") unit = "ns/op"
				bt = show(median(b, unit), unit); ratio = sprintf("%.2f", median(n, unit) / median(b, unit))
				sub(/^[^=]*=/, "", b)
			}
			printf "| %s | %s | %s | %s | %s | %s |\n", n, t, allocs, b, bt, ratio
		}
	}' "$out"
} >docs/benchmarks.md
