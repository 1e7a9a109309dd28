package main

import (
	_ "embed"
	"fmt"
	"path"
	"slices"
	"strings"
)

//go:embed limits
var limitsFile string

// limits is the table of what is expected, the file limits: see its head.
type limits struct {
	limits  []limit
	control []control
}

// A limit allows something that was found.
type limit struct {
	states, patterns, places, kernels []string // globs, of which one must match
	reason                            string
}

// A control is a cell that must have something in one of these places: else the search,
// or the plan, is broken.
type control struct{ states, systems, patterns, places, kernels []string }

func loadLimits() (l limits, err error) {
	for i, line := range strings.Split(limitsFile, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var f []string
		for field := range strings.SplitSeq(line, "|") {
			f = append(f, strings.TrimSpace(field))
		}
		globs := func(field string) (all []string) {
			for g := range strings.SplitSeq(field, ",") {
				all = append(all, strings.TrimSpace(g))
			}
			return all
		}
		switch {
		case f[0] == "limit" && len(f) == 6 && f[5] != "":
			l.limits = append(l.limits, limit{globs(f[1]), globs(f[2]), globs(f[3]), globs(f[4]), f[5]})
		case f[0] == "control" && len(f) == 6:
			l.control = append(l.control, control{globs(f[1]), globs(f[2]), globs(f[3]), globs(f[4]), globs(f[5])})
		default:
			return l, fmt.Errorf("limits, line %d: want: limit | STATES | PATTERNS | PLACES | KERNELS | REASON, or: control | STATES | SYSTEMS | PATTERNS | PLACES | KERNELS", i+1)
		}
	}
	return l, nil
}

func matches(globs []string, s string) bool {
	for _, g := range globs {
		if ok, err := path.Match(g, s); ok && err == nil {
			return true
		}
	}
	return false
}

// Verdicts on a cell.
const (
	good    = "ok"     // 0, as it must be
	allowed = "limit"  // found, and said so in the documentation
	shown   = "found"  // a control: found, as it must be
	none    = "-"      // nothing is expected of it
	bad     = "FAILED" // found, and must not be
	blind   = "BLIND"  // not found, and must be
)

// judge says what to think of a cell, and for a bad one why.
func (l limits) judge(r *result, system, pattern string) (verdict, wrong string) {
	c := r.Cells[system][pattern]
	for _, x := range l.control {
		if matches(x.states, r.State) && matches(x.systems, system) && matches(x.patterns, pattern) && matches(x.kernels, r.Kernel) {
			for where := range c.Where {
				if matches(x.places, where) {
					return shown, ""
				}
			}
			return blind, "; the search must find something in: " + strings.Join(x.places, ", ")
		}
	}
	if system != "tokenfs" && system != "nothing" {
		return none, ""
	}
	if c.Found == 0 {
		return good, ""
	}
	var not []string
	for where := range c.Where {
		if l.reason(r, pattern, where) == "" {
			not = append(not, where)
		}
	}
	if len(not) > 0 {
		slices.Sort(not)
		return bad, "; must not be in: " + strings.Join(not, ", ")
	}
	return allowed, ""
}

// reason is why something may be where it was found, or nothing.
func (l limits) reason(r *result, pattern, where string) string {
	for _, x := range l.limits {
		if matches(x.states, r.State) && matches(x.patterns, pattern) && matches(x.places, where) && matches(x.kernels, r.Kernel) {
			return x.reason
		}
	}
	return ""
}
