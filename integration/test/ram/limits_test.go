package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Each state that the limits speak of is one of states.sh's, and each pattern is one.
func TestLimitsAreOfStates(t *testing.T) {
	l, err := loadLimits()
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("states.sh")
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, m := range regexp.MustCompile(`(?m)^state_(\w+)\(\)`).FindAllStringSubmatch(string(script), -1) {
		states = append(states, strings.ReplaceAll(m[1], "_", "-"))
	}
	for _, x := range l.limits {
		all(t, "state", x.states, states)
		all(t, "pattern", x.patterns, patterns)
		all(t, "kernel", x.kernels, kernelNames)
	}
	for _, x := range l.control {
		all(t, "state", x.states, states)
		all(t, "pattern", x.patterns, patterns)
		all(t, "system", x.systems, systems)
		all(t, "kernel", x.kernels, kernelNames)
	}
}

var kernelNames = []string{"debian", "debian+init", "backports", "backports+init"}

// all reports globs that match nothing there is.
func all(t *testing.T, what string, globs, names []string) {
	t.Helper()
	for _, g := range globs {
		found := false
		for _, name := range names {
			found = found || matches([]string{g}, name)
		}
		if !found {
			t.Errorf("limits: there is no %s %q", what, g)
		}
	}
}

func TestJudge(t *testing.T) {
	l := limits{
		limits:  []limit{{[]string{"wiped"}, []string{names}, []string{"slab *", "free"}, []string{"debian"}, "the kernel's"}},
		control: []control{{[]string{"held"}, []string{"tmpfs"}, []string{contents}, []string{"file on *"}, []string{"*"}}},
	}
	for _, c := range []struct {
		kernel, state, system, pattern string
		where                          map[string]int
		verdict                        string
	}{
		{"debian", "wiped", "tokenfs", names, nil, good},
		{"debian", "wiped", "tokenfs", names, map[string]int{"slab dentry": 16, "free": 20}, allowed},
		{"debian", "wiped", "tokenfs", names, map[string]int{"slab dentry": 16, "anon": 20}, bad},
		{"debian+init", "wiped", "tokenfs", names, map[string]int{"free": 20}, bad},
		{"debian", "unmounted", "tokenfs", names, map[string]int{"free": 20}, bad},
		{"debian", "wiped", "tokenfs", contents, map[string]int{"free": 16}, bad},
		{"debian", "wiped", "nothing", contents, map[string]int{"free": 16}, bad},
		{"debian", "wiped", "ext4", contents, map[string]int{"free": 16}, none},
		{"debian", "held", "tmpfs", contents, nil, blind},
		{"debian", "held", "tmpfs", contents, map[string]int{"swap": 20}, blind},
		{"debian", "held", "tmpfs", contents, map[string]int{"file on tmpfs": 20}, shown},
	} {
		found := 0
		for _, n := range c.where {
			found += n
		}
		r := &result{Kernel: c.kernel, State: c.state, Cells: cells{c.system: {c.pattern: {Of: 100, Found: found, Where: c.where}}}}
		if verdict, _ := l.judge(r, c.system, c.pattern); verdict != c.verdict {
			t.Errorf("%+v: %s", c, verdict)
		}
	}
}
