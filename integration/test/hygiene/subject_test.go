package hygiene

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/mounted"
	"tokenfs/integration/test/scan"
)

// A subject is a daemon to be looked at.
type subject struct {
	*mounted.Mount
	pids    []int // of the daemon's processes; the last one serves
	seed    [32]byte
	content *scan.Set
	kept    []string // files that hold still
}

// revealed is what a tokenfs_reveal build says on request. The keys are
// inverted, so that the answer is none of what is looked for.
type revealed struct {
	Keys    []string
	Regions []span
}

// A span is memory of the serving process that keys ("keys") or requests
// ("slots") may be in.
type span struct {
	Start, End uint64
	What       string
}

func newSubject(t *testing.T, secretmem string, tags ...string) *subject {
	t.Helper()
	return newSubjectOf(t, mounted.Build(t, tags...), secretmem)
}

func newSubjectOf(t *testing.T, command, secretmem string) *subject {
	t.Helper()
	s := &subject{Mount: mounted.New(t, command, "--secretmem="+secretmem)}
	s.pids = s.PIDs(t)
	if os.Getuid() != 0 {
		for _, pid := range s.pids {
			if _, err := scan.Process(pid, new(scan.Set)); !os.IsPermission(err) {
				t.Fatalf("the memory of process %d is not refused to its own user: %v", pid, err)
			}
		}
		t.Skip("NOT MEASURED: only root may read the daemon's memory; that it is refused to its user was seen")
	}
	rand.Read(s.seed[:])
	ps := plan(s.seed)
	var err error
	if s.content, err = patterns(ps); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.Dir, "kept")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, p := range ps {
		if p.xattr != "" || p.offset > 0 {
			continue
		}
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, p.content, 0o600); err != nil {
			t.Fatal(err)
		}
		s.kept = append(s.kept, path)
	}
	return s
}

func (s *subject) reveal(t *testing.T) (revealed, *scan.Set) {
	t.Helper()
	reply := s.Control(t, `{"v":1,"verb":"reveal"}`)
	var r revealed
	if err := json.Unmarshal(reply, &r); err != nil || len(r.Keys) < 3 || len(r.Regions) < 2 {
		t.Fatalf("the daemon revealed %d keys and %d regions (%v): %.200s", len(r.Keys), len(r.Regions), err, reply)
	}
	var keys scan.Set
	for i, k := range r.Keys {
		b, err := hex.DecodeString(k)
		if err != nil {
			t.Fatalf("revealed key %d: %v", i, err)
		}
		for j := range b {
			b[j] = ^b[j]
		}
		addKeys(&keys, fmt.Sprintf("key %d revealed", i), b)
	}
	return r, &keys
}

// addKeys adds what looks random among b, which holds keys: zeros and small
// numbers among them say nothing.
func addKeys(set *scan.Set, label string, b []byte) {
	start := -1
	for i := 0; i <= len(b); i++ {
		for start < 0 && i+8 <= len(b) && binary.LittleEndian.Uint64(b[i:]) == 0 {
			i += 8 // most of a key region is empty
		}
		random := i+scan.Run <= len(b) && distinct(b[i:i+scan.Run]) > scan.Run/2
		switch {
		case random && start < 0:
			start = i
		case !random && start >= 0:
			set.Add(fmt.Sprintf("%s, from byte %d", label, start), b[start:i-1+scan.Run])
			start = -1
		}
	}
}

func distinct(b []byte) (n int) {
	var seen [256]bool
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n
}

// server is the process that has the keys in use.
func (s *subject) server() int { return s.pids[len(s.pids)-1] }

// stop halts the daemon, the keeper first, who would else take a worker that
// has halted for one that is stuck.
func (s *subject) stop(t *testing.T) {
	t.Helper()
	for _, pid := range s.pids {
		if err := scan.Stop(pid); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *subject) goOn(t *testing.T) {
	t.Helper()
	for _, pid := range slices.Backward(s.pids) {
		if err := scan.Continue(pid); err != nil {
			t.Fatal(err)
		}
	}
}

// keysNow adds what is in the stopped daemon's key region, if that can be read.
func (s *subject) keysNow(t *testing.T, r revealed, set *scan.Set) (readable bool) {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", s.server()))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for _, reg := range r.Regions {
		if reg.What != "keys" {
			continue
		}
		b := make([]byte, reg.End-reg.Start)
		if _, err := mem.ReadAt(b, int64(reg.Start)); err == nil {
			addKeys(set, "key", b)
			readable = true
		} else if !errors.Is(err, unix.EIO) {
			t.Fatalf("read the key region: %v", err)
		}
	}
	return readable
}
