#!/usr/bin/env bash
# lossless.sh shuts servers down under load and writes docs/lossless.md: how many
# connections broke, and how long a shutdown took.
#
#	docs/lossless.sh           # 30 shutdowns for each figure
#	STOPS=15 docs/lossless.sh  # 15
#
# The links need root, for network namespaces, and the command ip.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
go test -c -o "$tmp/quithttp.test" ./quit/quithttp
(cd quit/quithttp && "$tmp/quithttp.test" -test.v -test.timeout 5h -test.run TestStopsTable -table "$tmp/table" -stops "${STOPS:-30}") >&2
{
	cat <<-TEXT
	# Connections that a shutdown breaks

	\`docs/lossless.sh\` writes this page. Each cell of the table has the number of connections that were
	broken in ${STOPS:-30} shutdowns of a server, and the median time of a shutdown. 32 clients send
	requests meanwhile. In the last four columns, a part of \`quithttp\` is switched off. A cell such as
	\`4 of 5\` says that 4 connections were broken in 5 shutdowns.

	A connection is broken if the client has sent something on it and gets an end or a reset instead of
	an answer. A connection that is refused is not broken. Each request is sent once. A request of
	HTTP/2 is sent again if the server says that it has not seen the request.

	A link other than loopback is a wire between two network namespaces. Its delay is the time that a
	packet takes, one way.

	The columns are these ways to shut a server down on SIGTERM:

	- \`http.Server.Shutdown\`: the program calls it.
	- \`RegisterQuitCloser\`: package \`quit\` calls \`http.Server.Shutdown\`.
	- \`quithttp\`: the server was started by \`quithttp.ListenAndServe\` or \`ListenAndServeTLS\`.
	- \`handed in\`: the server was started by \`quithttp.Serve\` or \`ServeTLS\` with a listener of the
	  program. The listener may be shared, so the kernel is not told to refuse connections.
	- \`without refuse\`: the kernel is not told to refuse connections.
	- \`without drain\`: the connections that wait to be accepted are not accepted.
	- \`without header\`: the answers do not have \`Connection: close\`.
	- \`without linger\`: idle connections are not kept open for another request.

	TEXT
	cat "$tmp/table"
} >docs/lossless.md
