# quiet.awk: of what go test -v prints, show what go test without -v would, and
# besides that what was skipped and why.

{ held = held $0 "\n" }
/^=== (RUN|NAME|CONT)/ { test = $3 }
/^ +[a-z0-9_]+\.go:[0-9]+: / { said[test] = $0; sub(/^ +[a-z0-9_]+\.go:[0-9]+: /, "", said[test]) }
/^ *--- SKIP: / { skipped = skipped "        skipped " $3 ": " said[$3] "\n" }
/^(ok|FAIL|---|\?) *\t/ {
	printf "%s%s", ($1 == "FAIL" ? held : $0 "\n"), skipped
	fflush()
	held = skipped = test = ""
	split("", said)
}
END { printf "%s", held }
