package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// report prints the table of a file of results, in Markdown, and fails when a cell in it
// is not as the limits tell.
func report(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: ram report RESULTS")
	}
	all, err := loadResults(args[0])
	if err != nil {
		return err
	}
	l, err := loadLimits()
	if err != nil {
		return err
	}
	text, wrong := table(all, l)
	fmt.Print(text)
	if len(wrong) > 0 {
		fmt.Fprintf(os.Stderr, "\n%d cells are not as they must be:\n  %s\n", len(wrong), strings.Join(wrong, "\n  "))
		return errFailed
	}
	return nil
}

// table is one table a kernel: tokenfs's patterns, then the contents of the others.
func table(all []result, l limits) (text string, wrong []string) {
	var b strings.Builder
	var reasons []string
	var kernels []string
	for _, r := range all {
		if !slices.Contains(kernels, r.Kernel) {
			kernels = append(kernels, r.Kernel)
		}
	}
	for _, kernel := range kernels {
		rows := slices.DeleteFunc(slices.Clone(all), func(r result) bool { return r.Kernel != kernel })
		others := slices.DeleteFunc(slices.Clone(systems), func(system string) bool {
			return system == "tokenfs" || !slices.ContainsFunc(rows, func(r result) bool { return r.Cells[system][contents] != nil })
		})
		fmt.Fprintf(&b, "### %s\n\n%s, tokenfs %s, %s\n\n", kernel, rows[0].Release, rows[0].Program, rows[len(rows)-1].Date)
		head := slices.Concat([]string{"state"}, patterns, others)
		fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
		for _, r := range rows {
			fmt.Fprintf(&b, "| %s |", r.State)
			for i := range len(head) - 1 {
				system, pattern := "tokenfs", ""
				if i < len(patterns) {
					pattern = patterns[i]
				} else {
					system, pattern = others[i-len(patterns)], contents
				}
				c := r.Cells[system][pattern]
				if c == nil || c.Of == 0 {
					b.WriteString(" |")
					continue
				}
				verdict, why := l.judge(&r, system, pattern)
				mark := ""
				switch verdict {
				case bad, blind:
					mark = " **" + verdict + "**"
					wrong = append(wrong, fmt.Sprintf("%s: %s: %s, %s: %d of %d bytes%s%s", r.Kernel, r.State, system, pattern, c.Found, c.Of, places(c), why))
				case allowed:
					mark = footnotes(&reasons, l, &r, pattern, c)
				}
				fmt.Fprintf(&b, " %s%s |", amount(c, pattern), mark)
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	for i, reason := range reasons {
		fmt.Fprintf(&b, "%d. %s\n", i+1, reason)
	}
	return b.String(), wrong
}

// amount is how much was found: whole tokens by their share, what is shorter in bytes.
func amount(c *cell, pattern string) string {
	switch {
	case c.Found == 0:
		return "0"
	case pattern == contents || pattern == recovered || pattern == ciphertext:
		return fmt.Sprintf("%.3g %%", 100*float64(c.Found)/float64(c.Of))
	}
	return fmt.Sprintf("%d bytes", c.Found)
}

// footnotes refers to the reasons for what was found, and adds those that are new.
func footnotes(reasons *[]string, l limits, r *result, pattern string, c *cell) string {
	var marks []string
	for where := range c.Where {
		reason := l.reason(r, pattern, where)
		i := slices.Index(*reasons, reason)
		if i < 0 {
			i = len(*reasons)
			*reasons = append(*reasons, reason)
		}
		if mark := fmt.Sprintf("(%d)", i+1); !slices.Contains(marks, mark) {
			marks = append(marks, mark)
		}
	}
	slices.Sort(marks)
	return " " + strings.Join(marks, " ")
}
