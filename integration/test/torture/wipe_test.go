package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wipePoints are the steps of destroying everything.
var wipePoints = []string{"wipe: said", "wipe: session key gone", "wipe: keys gone", "wipe: arena empty", "wipe: session key drawn",
	"superblock sealed", "wipe: log empty", "wipe: live", "record sealed", "staged", "committed", "wipe: tree begun"}

// populate fills the filesystem, and has the kernel remember all of it.
func populate(t *testing.T, dir string) (open []*os.File) {
	t.Helper()
	for i := range 4 {
		sub := filepath.Join(dir, fmt.Sprint("dir", i))
		if err := os.MkdirAll(filepath.Join(sub, "deep"), 0o700); err != nil {
			t.Fatal(err)
		}
		for j := range 5 {
			name := filepath.Join(sub, fmt.Sprint("file", j))
			if err := os.WriteFile(name, pattern(int64(i*10+j), 9000), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			open = append(open, f)
		}
	}
	return open
}

// gone wants everything that populate made to be so, and room for it again.
func gone(t *testing.T, s *subject, open []*os.File) {
	t.Helper()
	if names, err := os.ReadDir(s.Dir); err != nil || len(names) > 0 {
		t.Errorf("after a wipe there are %v, %v", names, err)
	}
	// A successor may still be telling the kernel to forget.
	limit := time.Now().Add(time.Second)
	for _, name := range []string{"dir0", "dir1/file1", "dir2/deep", "dir3/file4"} {
		for {
			_, err := os.Lstat(filepath.Join(s.Dir, name))
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if time.Now().After(limit) {
				t.Errorf("after a wipe %s is there: %v", name, err)
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	if late := time.Since(limit.Add(-time.Second)); late > 5*time.Millisecond {
		t.Logf("names were there for %v after the wipe", late.Round(time.Millisecond))
	}
	if err := os.Mkdir(filepath.Join(s.Dir, "dir0"), 0o700); err != nil {
		t.Errorf("after a wipe: %v", err)
	} else if f, err := os.OpenFile(filepath.Join(s.Dir, "dir0/file1"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		t.Errorf("after a wipe: %v", err)
	} else {
		f.Close()
	}
	for _, f := range open {
		if n, err := f.ReadAt(make([]byte, 100), 0); n > 0 || !errors.Is(err, unix.EIO) {
			t.Errorf("what was open before a wipe gives %d bytes and %v", n, err)
		}
		f.Close()
	}
	if err := os.RemoveAll(filepath.Join(s.Dir, "dir0")); err != nil {
		t.Error(err)
	}
	s.balanced(t)
}

// An interrupted wipe is completed and never undone, wherever it was
// interrupted.
func TestWipe(t *testing.T) {
	s := newSubject(t)
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 4))
	random := max(10, *kills/10)
	for i := range len(wipePoints) + random {
		open := populate(t, s.Dir)
		s.ready(t)
		at := "random"
		old := s.worker(t, 0)
		if i < len(wipePoints) {
			at = wipePoints[i]
			s.dieAt(point{at, 0, 0})
			s.Run(t, "wipe")
			if !s.cancel() {
				t.Errorf("a wipe does not pass %q", at)
			}
		} else {
			wiped := make(chan struct{})
			go func() { defer close(wiped); s.Run(t, "wipe") }()
			time.Sleep(time.Duration(rng.IntN(30000)) * time.Microsecond)
			unix.Kill(old, unix.SIGKILL)
			<-wiped
		}
		s.worker(t, old)
		gone(t, s, open)
		if t.Failed() {
			t.Fatalf("a wipe with a worker killed at: %s", at)
		}
	}
	s.tidy(t)
}

// Paths that are wiped are gone with all below, and nothing else is, also when
// the worker dies in between: then it is said, and asked for again.
func TestWipePath(t *testing.T) {
	s := newSubject(t)
	again := 0
	for _, name := range []string{"served", "changed", "record sealed", "staged", "committed", "cells freed", "keys erased", "wipe: contents erased", "wipe: file erased"} {
		for _, times := range []int{0, 2, 5} {
			t.Logf("killed at %s, passed %d times", name, times)
			open := populate(t, s.Dir)
			s.ready(t)
			old := s.worker(t, 0)
			if name != "served" { // which only requests are
				s.dieAt(point{name, 0, times})
			}
			args := []string{"wipe", "--mountpoint", s.Dir, filepath.Join(s.Dir, "dir1"), filepath.Join(s.Dir, "dir2/file3")}
			if out, err := exec.Command(s.command, args...).CombinedOutput(); err != nil {
				again++
				s.worker(t, old)
				s.ready(t)
				// What was done of it is done.
				if out2, err := exec.Command(s.command, args...).CombinedOutput(); err != nil && !gonePaths(s.Dir) {
					t.Fatalf("wipe paths, killed at %s: %s, then %s: %v", name, out, out2, err)
				}
			}
			died := s.cancel()
			if !gonePaths(s.Dir) {
				t.Errorf("%s: what was wiped is there", name)
			}
			for i := range open {
				d, f := i/5, i%5
				b := make([]byte, 9000)
				n, err := open[i].ReadAt(b, 0)
				if wiped := d == 1 || d == 2 && f == 3; wiped && n > 0 {
					t.Errorf("%s: a wiped file gives %d bytes, %v", name, n, err)
				} else if !wiped && (n != len(b) || string(b) != string(pattern(int64(d*10+f), 9000))) {
					t.Errorf("%s: a file that was not wiped gives %d bytes, %v", name, n, err)
				}
				open[i].Close()
			}
			if err := os.Mkdir(filepath.Join(s.Dir, "dir1"), 0o700); err != nil {
				t.Errorf("%s: the name of what was wiped cannot be used again: %v", name, err)
			}
			for i := range 4 {
				if err := os.RemoveAll(filepath.Join(s.Dir, fmt.Sprint("dir", i))); err != nil {
					t.Error(err)
				}
			}
			if !t.Failed() {
				// Of a file that was open and wiped by a worker that died the
				// kernel may keep the name and the directory, out of reach and
				// empty, until it needs the memory.
				s.balancedBut(t, 2*again*len(open)/4)
			}
			if t.Failed() {
				t.Fatalf("wiping paths with a worker killed at: %s, passed %d times (%v)", name, times, died)
			}
		}
	}
	t.Logf("of 27 wipes of paths %d had to be asked for twice", again)
}

func gonePaths(dir string) bool {
	_, err1 := os.Lstat(filepath.Join(dir, "dir1"))
	_, err2 := os.Lstat(filepath.Join(dir, "dir2/file3"))
	return errors.Is(err1, os.ErrNotExist) && errors.Is(err2, os.ErrNotExist)
}
