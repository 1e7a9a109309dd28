// Package hygiene measures where keys and contents are in a running daemon's
// memory: it stops the daemon under load, again and again, and searches
// everything that can be read.
//
// The keys are told by a build with the tag tokenfs_reveal, which nobody ships.
// With tokenfs_unprotected too the same build leaves keys and contents about,
// for the scanner to be seen to find them.
package hygiene

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/scan"
)

var samples = flag.Int("samples", 30, "times that the daemon is stopped and searched, in each test")

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "load" {
		loadMain()
		return
	}
	if isShortLived() {
		shortLivedMain()
	}
	os.Exit(m.Run())
}

// measure takes samples under load.
func measure(t *testing.T, s *subject, n int) *tally {
	t.Helper()
	r, known := s.reveal(t)
	l := startLoad(t, s.Dir, s.seed, 3, false)
	l.advance(1000)
	stop := bombard(s.pids)
	defer stop()
	var y tally
	for i := range n {
		l.advance(20)
		// Kept files keep their keys, so they must be used to be seen in use.
		for range 3 {
			if _, err := os.ReadFile(s.kept[(i*3+rand.IntN(3))%len(s.kept)]); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond) // at no particular moment
		y.add(s.look(t, r, known))
	}
	l.end()
	if now := s.PIDs(t); !slices.Equal(now, s.pids) {
		t.Fatalf("the processes measured, %v, have been replaced by %v", s.pids, now)
	}
	return &y
}

// bombard sends every thread of the daemon signals, until it is told to stop: a
// thread that takes one leaves its registers on a stack.
func bombard(pids []int) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			for _, pid := range pids {
				tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
				for _, task := range tasks {
					if tid, err := strconv.Atoi(task.Name()); err == nil {
						unix.Tgkill(pid, tid, unix.SIGURG) // which means nothing to a Go program
					}
				}
			}
		}
	}()
	return func() { close(end); <-ended }
}

func TestUnderLoad(t *testing.T) {
	for _, secretmem := range []string{"off", "on"} {
		t.Run("secretmem="+secretmem, func(t *testing.T) {
			if secretmem == "on" {
				needSecretmem(t)
			}
			s := newSubject(t, secretmem, "tokenfs_reveal")
			y := measure(t, s, *samples)
			t.Log(y)
			if y.dirty > 0 {
				t.Errorf("keys or contents lie where they must not: %v", y)
			}
			if y.allowed["content in slots"] == 0 {
				t.Error("no content was ever seen in the slots: either the load or the search is not what it should be")
			}
			if seen := y.allowed["key in keys"] > 0; seen != (secretmem == "off") {
				t.Errorf("keys seen in the key region: %v", seen)
			}

			// Nothing is under way now, and contents are nowhere.
			r, known := s.reveal(t)
			rest := s.look(t, r, known)
			if n := rest.allowed["content in slots"]; n > 0 || len(rest.leaked) > 0 {
				t.Errorf("at rest, contents lie in the slots %d times; elsewhere: %v", n, rest.leaked)
			}
		})
	}
}

// After a wipe the keys of before are nowhere, not even where they were, and
// no content is anywhere.
func TestWipe(t *testing.T) {
	for _, secretmem := range []string{"off", "on"} {
		t.Run("secretmem="+secretmem, func(t *testing.T) {
			if secretmem == "on" {
				needSecretmem(t)
			}
			s := newSubject(t, secretmem, "tokenfs_reveal")
			l := startLoad(t, s.Dir, s.seed, 2, true)
			for range max(5, *samples/10) {
				l.advance(300)
				r, old := s.reveal(t)
				s.stop(t)
				s.keysNow(t, r, old)
				s.goOn(t)
				s.Run(t, "wipe")
				s.pids = s.PIDs(t) // the worker is another one
				s.stop(t)
				left := map[string]int{}
				for _, pid := range s.pids {
					rep, err := scan.Process(pid, old)
					if err != nil {
						t.Fatal(err)
					}
					for _, h := range rep.Hits {
						left[fmt.Sprint(h.Label, " in ", h.Region)]++
					}
				}
				s.goOn(t)
				if len(left) > 0 {
					t.Errorf("after a wipe keys of before are in %v", left)
				}
			}
			l.end()
			s.Run(t, "wipe")
			s.pids = s.PIDs(t)
			r, keys := s.reveal(t)
			end := s.look(t, r, keys)
			if end.allowed["content in slots"] > 0 || len(end.leaked) > 0 {
				t.Errorf("after a wipe: %v, %v", end.allowed, end.leaked)
			}
		})
	}
}

// The same scanner finds what it looks for where nothing is done against it.
func TestUnprotected(t *testing.T) {
	s := newSubject(t, "off", "tokenfs_reveal", "tokenfs_unprotected")
	// Of each way to look for contents, something. Few bytes are soon written over:
	// where the machine is slow they take more samples.
	found := map[string]bool{}
	for round := 0; round < 5 && len(found) < 4; round++ {
		y := measure(t, s, *samples)
		t.Log(y)
		if y.dirtyKeys == 0 || y.dirtyContent == 0 {
			t.Errorf("the scanner does not find keys and contents that are there: %v", y)
		}
		for what := range y.leaked {
			var content, value int
			fmt.Sscanf(what, "content of %d bytes", &content)
			fmt.Sscanf(what, attribute+" of %d bytes", &value)
			switch {
			case content >= scan.Run:
				found["16 bytes and more"] = true
			case content >= 6:
				found["6 to 15 bytes"] = true
			case content > 0:
				found["3 to 5 bytes"] = true
			case value > 0 && value < 6:
				found["a short attribute"] = true
			}
		}
	}
	if len(found) != 4 {
		t.Errorf("of the contents that are there the scanner finds only %v", found)
	}
}

func needSecretmem(t *testing.T) {
	fd, err := unix.MemfdSecret(0)
	if err != nil {
		t.Skipf("NOT MEASURED: this kernel has no memfd_secret (%v)", err)
	}
	unix.Close(fd)
}
