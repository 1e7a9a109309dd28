package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// errFailed means that the verdict was printed, and is not a good one.
var errFailed = errors.New("something that must not be there was found, or the other way round")

// A result is what one look at a machine has shown.
type result struct {
	Date    string `json:"date"`
	Kernel  string `json:"kernel"`  // debian, backports, and +init where booted with init_on_free=1
	Release string `json:"release"` // of the kernel
	Program string `json:"program"` // tokenfs version
	State   string `json:"state"`
	Note    string `json:"note,omitempty"`
	Attack  string `json:"attack,omitempty"`
	Cells   cells  `json:"cells"`
}

func (r *result) save(path string) error {
	r.Date = time.Now().UTC().Format(time.DateOnly)
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(b, '\n')); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func loadResults(paths []string) (all []result, err error) {
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			var r result
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			// A state that was looked at again counts as it was seen last.
			i := slices.IndexFunc(all, func(o result) bool { return o.Kernel == r.Kernel && o.State == r.State })
			if i < 0 {
				all = append(all, r)
			} else {
				all[i] = r
			}
		}
	}
	return all, nil
}

// text is the result for eyes, with a verdict for each cell that has one.
func (r *result) text(l limits) string {
	var b strings.Builder
	fmt.Fprintf(&b, "== %s, %s: %s\n", r.Kernel, r.Release, r.State)
	if r.Note != "" {
		fmt.Fprintf(&b, "   %s\n", r.Note)
	}
	if r.Attack != "" {
		fmt.Fprintf(&b, "   attack: %s\n", r.Attack)
	}
	r.each(func(system, pattern string, c *cell) {
		verdict, wrong := l.judge(r, system, pattern)
		fmt.Fprintf(&b, "   %-10s %-13s %-7s %7d of %7d%s%s\n", system, pattern, verdict, c.Found, c.Of, places(c), wrong)
	})
	return b.String()
}

// each calls f for every cell, in the table's order.
func (r *result) each(f func(system, pattern string, c *cell)) {
	for _, system := range systems {
		for _, pattern := range patterns {
			if c := r.Cells[system][pattern]; c != nil && c.Of > 0 {
				f(system, pattern, c)
			}
		}
	}
}

// systems in the table's order. "nothing" is the client alone.
var systems = []string{"nothing", "tokenfs", "ext4", "tmpfs", "gocryptfs", "keyring", "ssh-agent"}

func places(c *cell) string {
	var all []string
	for where, n := range c.Where {
		all = append(all, fmt.Sprintf("%s %d", where, n))
	}
	slices.Sort(all)
	if c.InPlace > 0 {
		all = append(all, fmt.Sprintf("(%s %d)", inPlace, c.InPlace))
	}
	if len(all) == 0 {
		return ""
	}
	return ": " + strings.Join(all, ", ")
}
