# quiet.awk: of what go test -v prints, show what go test without -v would, and
# besides that what was skipped and why: a line for each reason.

{ held = held $0 "\n" }
/^=== (RUN|NAME|CONT)/ { test = $3 }
/^ +[a-z0-9_]+\.go:[0-9]+: / { said[test] = $0; sub(/^ +[a-z0-9_]+\.go:[0-9]+: /, "", said[test]) }
/^ *--- SKIP: / {
	reason = said[$3]
	if (!(reason in count)) order[++reasons] = reason
	if (++count[reason] == 1) names[reason] = $3
}
/^(ok|FAIL|---|\?) *\t/ {
	printf "%s", ($1 == "FAIL" ? held : $0 "\n")
	for (i = 1; i <= reasons; i++) {
		more = count[order[i]] - 1
		printf "        skipped %s%s: %s\n", names[order[i]], (more ? " and " more " more" : ""), order[i]
	}
	fflush()
	held = test = ""
	reasons = 0
	split("", said); split("", count); split("", order); split("", names)
}
END { printf "%s", held }
