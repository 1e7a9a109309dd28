# report.awk: read one log of a test binary (-test.v) and print its line of the
# table; then, indented, what failed and what was skipped and why.
# Set: user, package, status (of the binary), seconds, left (what it left behind)

/^=== (RUN|NAME|CONT)/ { current = $3; next }
/^ *--- (PASS|FAIL|SKIP): / {
	count[$2]++
	if ($2 == "FAIL:") details = details "      failed   " $3 why($3) "\n"
	if ($2 == "SKIP:") details = details "      skipped  " $3 why($3) "\n"
	next
}
/^panic: |^fatal error: |^SIGQUIT|^unexpected fault/ {
	if (!died) { died = 1; details = details "      died     " $0 " (in " current ")\n" }
}
/^ +[a-z0-9_]+\.go:[0-9]+: / && !died {
	sub(/^ +[a-z0-9_]+\.go:[0-9]+: /, "")
	said[current] = $0 # the last is the verdict
}
/^(PASS|FAIL)$/ { last = $0 }

function why(name) { return name in said ? ": " said[name] : "" }

END {
	passed = count["PASS:"] + 0; failed = count["FAIL:"] + 0; skipped = count["SKIP:"] + 0
	if (status != 0 && !failed && !died)
		details = details "      died     exit status " status " after " (current ? current : "nothing") "\n"
	if (status == 0 && last != "PASS")
		details = details "      died     exit status 0, but without the word PASS at its end\n"
	if (left) details = details "      left     " left "\n"
	if (status != 0 || failed || last != "PASS" || left) verdict = "FAILED"
	else if (!passed && skipped) verdict = "skipped"
	else if (!passed) verdict = "no tests"
	else verdict = "passed"
	printf "%-6s %-28s %-9s %5d %6d %7d %7ds\n%s", user, package, verdict, passed, failed, skipped, seconds, details
	exit verdict == "FAILED" || verdict == "no tests"
}
