package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How long a filesystem takes to begin, and its contents to end.

const starts = 5

var wiped = []int{1, 100, 10000}

type lifetime struct {
	start  []time.Duration
	end    map[int]time.Duration // of so many files
	failed error
}

func (r *report) lifetimes(b *bench, list []*rival) {
	r.lives = make(map[*rival]*lifetime)
	for _, rv := range list {
		if rv.absent != "" {
			continue
		}
		l := &lifetime{end: make(map[int]time.Duration)}
		r.lives[rv] = l
		for range starts {
			if len(rv.serve) == 0 {
				break // tmpfs
			}
			b.stop(rv)
			if err := b.create(rv); err != nil {
				l.failed = err
				break
			}
			d, err := b.start(rv)
			if err != nil {
				l.failed = err
				break
			}
			l.start = append(l.start, d)
		}
		slices.Sort(l.start)
		if l.failed == nil {
			r.ends(b, rv, l)
		}
	}
}

// ends measures what destroys all files: tokenfs wipe, which returns when the
// keys are gone, or unlinking them one by one.
func (r *report) ends(b *bench, rv *rival, l *lifetime) {
	for _, n := range wiped {
		if n > 100 && rv.name != ours && rv.name != "tmpfs" {
			continue // making them would take longer than all the rest
		}
		dir := rv.dir + "/wiped"
		if _, err := b.helper("fill", dir, strconv.Itoa(n), "2000"); err != nil {
			l.failed = err
			return
		}
		end := func() (string, error) { return b.helper("erase", dir) }
		if rv.name == ours {
			end = func() (string, error) {
				began := time.Now()
				out, err := b.asUser(exec.Command(b.tools+"/tokenfs", "wipe", "--mountpoint", rv.dir)).CombinedOutput()
				if err != nil {
					err = fmt.Errorf("wipe: %v: %s", err, out)
				}
				return time.Since(began).String(), err
			}
		}
		out, err := end()
		if err != nil {
			l.failed = err
			return
		}
		if l.end[n], err = time.ParseDuration(out); err != nil {
			l.failed = err
		}
	}
}

// helper runs a part of this program as the user and returns what it says.
func (b *bench) helper(args ...string) (string, error) {
	out, err := b.asUser(exec.Command("/proc/self/exe", args...)).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %v: %s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// fill makes files: DIRECTORY HOW-MANY SIZE.
func fill(args []string) error {
	n, err := strconv.Atoi(args[1])
	size, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err, err2, os.MkdirAll(args[0], 0o700)); err != nil {
		return err
	}
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for i := range n {
		if err := os.WriteFile(fmt.Sprintf("%s/%d", args[0], i), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// erase removes a directory and says how long that took.
func erase(args []string) error {
	began := time.Now()
	err := os.RemoveAll(args[0])
	fmt.Println(time.Since(began))
	return err
}
