package main

// The rules of the interface:
//
//   - What was asked for goes to standard output; everything else goes to
//     standard error, and each line of it starts with "tokenfs: ".
//   - No capitals at the start, no full stop at the end.
//   - An error says what failed on what, and ends with what to try.
//   - No question is ever asked, no colour is used, no line is overwritten.
//   - What comes from outside (names above all, and so every error) is printed
//     as what a terminal shows, in one line; see package printable.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"tokenfs/cmd/internal/printable"
)

// output is where results go. The first error counts: see finish.
type output struct{}

var outputErr error

func (output) Write(p []byte) (int, error) {
	n, err := os.Stdout.Write(p)
	outputErr = cmp.Or(outputErr, err)
	return n, err
}

// printf prints a result.
func printf(format string, args ...any) {
	fmt.Fprintf(output{}, format, printable.Args(args)...)
}

// printRaw prints what another program reads.
func printRaw(text string) { io.WriteString(output{}, text) }

// complainRaw prints the usage where none was asked for.
func complainRaw(text string) { os.Stderr.WriteString(text) }

// complainf prints everything that is not a result.
func complainf(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, printable.Args(args)...), "\n")
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(os.Stderr, "tokenfs: %s\n", line)
	}
}

// warn is for what does not keep a verb from its work.
func warn(err error) {
	for _, line := range printable.Lines(err) {
		complainf("warning: %s", line)
	}
}

// table prints lines whose cells, which tabs part, are below each other.
type table struct{ w *tabwriter.Writer }

func newTable() table { return table{tabwriter.NewWriter(output{}, 0, 0, 2, ' ', 0)} }

func (t table) line(format string, args ...any) {
	fmt.Fprintf(t.w, format+"\n", printable.Args(args)...)
}

func (t table) flush() { t.w.Flush() }

func printJSON(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	output{}.Write(printable.JSON(b.Bytes()))
	return nil
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

// didYouMean proposes one of the words that can be typed, if it is near.
func didYouMean(typed string, words []string) string {
	best, nearest := 3, ""
	slices.Sort(words)
	for _, word := range words {
		if d := distance(typed, word); d < best && d < len(word) {
			best, nearest = d, word
		}
	}
	if nearest == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", nearest)
}

// distance is how many letters have to be changed, left out or put in.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
