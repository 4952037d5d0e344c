#!/usr/bin/env bash
# Stops servers under load and writes docs/lossless.md: how many connections that
# broke, and how long a stop took. STOPS is how many stops a figure is of (30 by
# default). The links need root, for network namespaces, and the command ip.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
go test -c -o "$tmp/quithttp.test" ./quit/quithttp
(cd quit/quithttp && "$tmp/quithttp.test" -test.v -test.timeout 5h -test.run TestStopsTable -table "$tmp/table" -stops "${STOPS:-30}") >&2
{
	cat <<-TEXT
	# What a stop breaks

	Written by \`docs/lossless.sh\`. Each figure is the number of connections that
	were broken in ${STOPS:-30} stops under the load of 32 clients, and the median time of a
	stop. A connection is broken if the client has sent something on it and gets an
	end or a reset instead of an answer; one that is refused is not broken. Each
	request is sent once, and one of HTTP/2 again if the server says that it has not
	seen it. The links are two network namespaces with a wire between
	them on which a packet takes that long, one way.

	\`http.Server.Shutdown\` is called by hand at SIGTERM; \`RegisterQuitCloser\` has
	package quit call it; \`quithttp\` is \`quithttp.ListenAndServe\`, or
	\`ListenAndServeTLS\`; \`handed in\` is \`quithttp.Serve\` with a listener of the
	program, which may be shared, so that the kernel cannot be told to refuse. In the
	other columns a part of the stop is switched off.

	TEXT
	cat "$tmp/table"
} >docs/lossless.md
