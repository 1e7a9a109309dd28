package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// report prints the tables of files of results, in Markdown, and fails when a cell is
// not as the limits tell.
func report(args []string) error {
	if len(args) == 0 {
		//lint:ignore ST1005 the usage ends so
		return errors.New("usage: ram report RESULTS...")
	}
	all, err := loadResults(args)
	if err != nil {
		return err
	}
	l, err := loadLimits()
	if err != nil {
		return err
	}
	p := page{limits: l, results: all}
	fmt.Print(p.text())
	if len(p.wrong) > 0 {
		fmt.Fprintf(os.Stderr, "\n%d cells are not as they must be:\n  %s\n", len(p.wrong), strings.Join(p.wrong, "\n  "))
		return errFailed
	}
	return nil
}

// A page has what was seen on every kernel: a table of tokenfs's patterns, one of what
// the others leave, and the reasons for what was found.
type page struct {
	limits  limits
	results []result
	reasons []string
	wrong   []string
}

func (p *page) text() string {
	var b strings.Builder
	var states []string
	for _, r := range p.results {
		if !slices.Contains(states, r.State) {
			states = append(states, r.State)
		}
	}
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	table := func(title string, columns []string, cell func(state, column string) string) {
		row(slices.Concat([]string{title}, columns)...)
		row(slices.Repeat([]string{"---"}, len(columns)+1)...)
		for _, state := range states {
			cells := []string{state}
			for _, column := range columns {
				cells = append(cells, cell(state, column))
			}
			if strings.Join(cells[1:], "") != "" {
				row(cells...)
			}
		}
		b.WriteString("\n")
	}

	row("kernel", "calls itself", "tokenfs", "date")
	row("---", "---", "---", "---")
	for i, r := range p.results {
		same := func(o result) bool { return o.Kernel == r.Kernel }
		if slices.IndexFunc(p.results, same) < i {
			continue
		}
		var programs, dates []string
		for _, o := range p.results {
			if same(o) {
				programs, dates = append(programs, o.Program), append(dates, o.Date)
			}
		}
		row(r.Kernel, r.Release, strings.Join(distinctTexts(programs), ", "), strings.Join(distinctTexts(dates), ", "))
	}
	b.WriteString("\n")
	table("tokenfs", patterns, func(state, pattern string) string { return p.cell(state, "tokenfs", pattern) })
	others := slices.DeleteFunc(slices.Clone(systems), func(system string) bool { return system == "tokenfs" })
	table("contents", others, func(state, system string) string { return p.cell(state, system, contents) })
	for i, reason := range p.reasons {
		fmt.Fprintf(&b, "%d. %s\n", i+1, reason)
	}
	return b.String()
}

// cell is what was found, on all kernels, or on each where they differ.
func (p *page) cell(state, system, pattern string) string {
	var texts []string
	on := map[string][]string{}
	for _, r := range p.results {
		c := r.Cells[system][pattern]
		if r.State != state || c == nil || c.Of == 0 {
			continue
		}
		text := amount(c, pattern)
		switch verdict, why := p.limits.judge(&r, system, pattern); verdict {
		case bad, blind:
			text += " **" + verdict + "**"
			p.wrong = append(p.wrong, fmt.Sprintf("%s: %s: %s, %s: %d of %d bytes%s%s", r.Kernel, state, system, pattern, c.Found, c.Of, places(c), why))
		case allowed, shown:
			text += p.footnotes(&r, pattern, c)
		}
		if on[text] == nil {
			texts = append(texts, text)
		}
		on[text] = append(on[text], r.Kernel)
	}
	if len(texts) > 1 {
		for i, text := range texts {
			texts[i] = text + " on " + strings.Join(on[text], ", ")
		}
	}
	return strings.Join(texts, "; ")
}

// amount is how much was found: of whole tokens their share, of what is shorter bytes.
func amount(c *cell, pattern string) string {
	switch {
	case c.Found == 0:
		return "0"
	case pattern == contents || pattern == recovered || pattern == ciphertext:
		return fmt.Sprintf("%.0f %%", max(1, 100*float64(c.Found)/float64(c.Of)))
	}
	return fmt.Sprintf("%d of %d bytes", c.Found, c.Of)
}

// footnotes refers to the reasons for what was found, and adds those that are new.
func (p *page) footnotes(r *result, pattern string, c *cell) string {
	var marks []string
	for where := range c.Where {
		reason := p.limits.reason(r, pattern, where)
		if reason == "" { // a control needs none
			continue
		}
		i := slices.Index(p.reasons, reason)
		if i < 0 {
			i = len(p.reasons)
			p.reasons = append(p.reasons, reason)
		}
		if mark := fmt.Sprintf("(%d)", i+1); !slices.Contains(marks, mark) {
			marks = append(marks, mark)
		}
	}
	slices.Sort(marks)
	return strings.Join(append([]string{""}, marks...), " ")
}

func distinctTexts(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}
