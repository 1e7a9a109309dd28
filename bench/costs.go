package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a filesystem costs while nobody waits for it.
type costs struct {
	pssEmpty, pssFull, locked int64 // bytes
	wakeups                   float64
}

// empty takes what a filesystem needs that holds nothing.
func (r *report) empty(list []*rival) {
	r.spent = make(map[*rival]*costs)
	for _, rv := range list {
		if rv.absent == "" && rv.server != nil {
			r.spent[rv] = &costs{pssEmpty: rv.sum("smaps_rollup", "Pss:")}
		}
	}
}

// After work there is tidying up, which is not idleness; and what happens once
// a minute is not to be missed, or counted thrice.
const settled, idle = 15 * time.Second, time.Minute

// costs fills in the rest: with 100 caches of 64 KiB, and idle.
func (r *report) costs(b *bench, list []*rival) {
	for _, rv := range list {
		c := r.spent[rv]
		if c == nil {
			continue
		}
		_, err := b.helper("fill", rv.dir+"/hundred", "100", "65536")
		c.pssFull, c.locked = rv.sum("smaps_rollup", "Pss:"), rv.sum("status", "VmLck:")
		if err == nil {
			_, err = b.helper("erase", rv.dir+"/hundred")
		}
		rv.failed(err)
	}
	time.Sleep(settled)
	before := make(map[*rival]int64)
	for rv := range r.spent {
		before[rv] = rv.switches()
	}
	time.Sleep(idle)
	for rv, c := range r.spent {
		c.wakeups = float64(rv.switches()-before[rv]) * float64(time.Minute) / float64(idle)
	}
}

// sum adds up a line in kB of a file of every process in /proc.
func (r *rival) sum(name, key string) (n int64) {
	for _, pid := range r.family() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == key {
				kb, _ := strconv.ParseInt(f[1], 10, 64)
				n += kb << 10
			}
		}
	}
	return n
}

// switches is how often a thread of the rival went to sleep of its own accord:
// as often as it was woken.
func (r *rival) switches() (n int64) {
	for _, pid := range r.family() {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, t := range tasks {
			b, _ := os.ReadFile(t)
			if _, after, ok := bytes.Cut(b, []byte("\nvoluntary_ctxt_switches:")); ok {
				v, _ := strconv.ParseInt(string(bytes.Fields(after)[0]), 10, 64)
				n += v
			}
		}
	}
	return n
}

// cpu is what the rival's threads and all finished clients have used so far.
func (r *rival) cpu() (d time.Duration) {
	for _, pid := range r.family() {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, t := range tasks {
			b, _ := os.ReadFile(t)
			if f := bytes.Fields(b); len(f) > 0 {
				ns, _ := strconv.ParseInt(string(f[0]), 10, 64)
				d += time.Duration(ns)
			}
		}
	}
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_CHILDREN, &u)
	return d + time.Duration(u.Utime.Nano()+u.Stime.Nano())
}
