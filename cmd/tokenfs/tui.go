package main

// The rules of the interface:
//
//   - What was asked for goes to standard output; everything else goes to
//     standard error, and each line of it starts with "tokenfs: ".
//   - No capitals at the start, no full stop at the end.
//   - An error says what failed on what, and ends with what to try.
//   - No question is ever asked, no colour is used, no line is overwritten.
//   - File names that a terminal could take for something else are quoted.

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// printf prints a result.
func printf(format string, args ...any) { fmt.Fprintf(os.Stdout, format, args...) }

// complainf prints everything that is not a result.
func complainf(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(os.Stderr, "tokenfs: %s\n", line)
	}
}

// fileName makes a name from the filesystem, where every byte but / and NUL
// can be in one, safe to print.
func fileName(name string) string {
	if quoted := strconv.QuoteToGraphic(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// bytesText is a size as people write it: three digits suffice.
func bytesText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < 3 {
		value, unit = value/1024, unit+1
	}
	text := strconv.FormatFloat(value, 'f', 1, 64)
	return strings.TrimSuffix(text, ".0") + " " + []string{"KiB", "MiB", "GiB", "TiB"}[unit]
}

// ago is how long something has been, in its largest units.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	switch d := now.Sub(t); {
	case d < 0:
		return t.Local().Format(time.DateTime) // set by a program, to the future
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh %dm ago", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd ago", int(d.Hours()/24))
	}
}

func filesText(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}
