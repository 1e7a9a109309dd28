#!/bin/sh
# govulncheck.sh COMMAND...: run govulncheck. A machine that cannot reach its
# database says so; what is found, and every other error, fails.
set -u
out=$("$@" 2>&1)
status=$?
case $out in
*'fetching vulnerabilities'* | *'dial tcp'* | *'no such host'* | *'vuln.go.dev'*'db/'*)
	echo "NOT RUN: govulncheck cannot reach its database from here" >&2
	exit 0
	;;
esac
printf '%s\n' "$out"
exit $status
