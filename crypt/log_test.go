package crypt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// records replays m's log into one string.
func records(m *Memory) (all string, found Damage, err error) {
	found, err = m.Log.Replay(func() { all = "" }, func(r []byte) error {
		all += string(r) + " "
		return nil
	})
	return all, found, err
}

// want checks what a successor finds in m's log, and that it is whole.
func want(t testing.TB, m *Memory, all string) *Memory {
	t.Helper()
	m = successor(t, m)
	if got, found, err := records(m); got != all || found.Lost+found.superblocks() > 0 || found.Checkpoint || err != nil {
		t.Fatalf("the log holds %q, %+v, %v; want %q", got, found, err, all)
	}
	return m
}

func (d Damage) superblocks() uint64 {
	if d.Superblock {
		return 1
	}
	return 0
}

func appendAll(t testing.TB, m *Memory, list ...string) {
	t.Helper()
	for _, r := range list {
		if err := m.Log.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLog(t *testing.T) {
	both(t, func(t *testing.T, sm Secretmem) {
		m := newTestMemory(t, sm)
		appendAll(t, m, "one", "two", "three")
		m = want(t, m, "one two three ")
		appendAll(t, m, "four")
		want(t, m, "one two three four ")
	})
}

// TestGroup leaves a group uncommitted: its records must not count, not even
// when a record takes the place of the first.
func TestGroup(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	stage := func(list ...string) {
		for i, r := range list {
			if err := m.Log.Stage([]byte(r), i+1 < len(list)); err != nil {
				t.Fatal(err)
			}
		}
	}
	stage("a", "b")
	if !m.Log.Staged() {
		t.Error("nothing is staged")
	}
	m.Log.Commit()
	if m.Log.Staged() {
		t.Error("something is staged after a commit")
	}
	stage("c", "d", "e")
	m = want(t, m, "a b ")
	appendAll(t, m, "f")
	want(t, m, "a b f ")
}

func TestCompact(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	appendAll(t, m, "old", "older")
	if err := m.Log.Compact(func(emit func([]byte) error) error { return emit([]byte("state")) }); err != nil {
		t.Fatal(err)
	}
	appendAll(t, m, "new")
	m = want(t, m, "state new ")
	// One that fails, or whose process dies before the switch, changes nothing.
	failed := errors.New("failed")
	if err := m.Log.Compact(func(emit func([]byte) error) error { emit([]byte("half")); return failed }); err != failed {
		t.Fatal(err)
	}
	appendAll(t, m, "newer")
	m.Log.BeginCheckpoint()
	m.Log.Checkpoint([]byte("half"))
	appendAll(t, m, "newest")
	m = want(t, m, "state new newer newest ")
	// What comes while one is written is put into both.
	m.Log.BeginCheckpoint()
	m.Log.Checkpoint([]byte("all"))
	for _, put := range []func([]byte) error{m.Log.Append, m.Log.Checkpoint} {
		if err := put([]byte("meanwhile")); err != nil {
			t.Fatal(err)
		}
	}
	m.Log.Switch()
	appendAll(t, m, "then")
	want(t, m, "all meanwhile then ")
}

// A replaced log is zeroed step by step, and before the next checkpoint.
func TestWipeStale(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	for range 3 {
		if err := m.Log.Append(make([]byte, 300<<10)); err != nil {
			t.Fatal(err)
		}
	}
	zero := func(side int) bool {
		area := m.Log.area(side)[:1<<20]
		return bytes.Count(area, []byte{0}) == len(area)
	}
	m.Log.BeginCheckpoint()
	m.Log.Switch()
	if zero(0) {
		t.Error("the log is zeroed at once: this shows nothing")
	}
	steps := 1
	for m.Log.WipeStale() {
		steps++
	}
	if steps != 4 || !zero(0) || m.Log.WipeStale() {
		t.Errorf("after %d steps it is zeroed: %v", steps, zero(0))
	}
	appendAll(t, m, "more")
	m.Log.BeginCheckpoint()
	m.Log.Switch()
	m.Log.BeginCheckpoint()
	if !zero(1) {
		t.Error("a checkpoint is written over what an older log has left")
	}
	m.Log.AbandonCheckpoint()
	want(t, m, "")
}

func TestLogFull(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	record := make([]byte, MaxRecord)
	n := 0
	for ; m.Log.Room(len(record)); n++ {
		if err := m.Log.Append(record); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Log.Append(record); !errors.Is(err, ErrLogFull) {
		t.Fatalf("appending to a full log: %v", err)
	}
	if err := m.Log.Append(make([]byte, MaxRecord+1)); !errors.Is(err, ErrLogFull) {
		t.Fatalf("a record that is too long: %v", err)
	}
	got := 0
	if _, err := successor(t, m).Log.Replay(func() {}, func([]byte) error { got++; return nil }); err != nil || got != n {
		t.Fatalf("%d records of %d, %v", got, n, err)
	}
}

// TestAlteredLog alters each of three records: that one and what follows is lost,
// what is lost is told, and nothing is ever applied altered.
func TestAlteredLog(t *testing.T) {
	for i, whole := range []string{"", "one ", "one two "} {
		for what, at := range map[string]int64{"head": 0, "length": 4, "more": 7, "nonce": 8, "sealed": frameHead, "tag": frameSize(3) - 8} {
			m := newTestMemory(t, SecretmemAuto)
			appendAll(t, m, "one", "two", "six")
			m.Log.area(0)[int64(i)*frameSize(3)+at] ^= 0x40
			for range 2 { // and the next one finds the same
				m = successor(t, m)
				got, found, err := records(m)
				if got != whole || found.Lost != uint64(3-i) || found.Of != 3 || err != nil {
					t.Errorf("%s of record %d altered: %q %+v %v", what, i, got, found, err)
				}
			}
		}
	}
}

// A group of which a part was altered is lost whole.
func TestAlteredGroup(t *testing.T) {
	for at, whole := range map[int64]string{0: "", 1: "one ", 2: "one ", 3: "one ", 4: "one two six ten "} {
		m := newTestMemory(t, SecretmemAuto)
		appendAll(t, m, "one")
		for i, r := range []string{"two", "six", "ten"} {
			if err := m.Log.Stage([]byte(r), i < 2); err != nil {
				t.Fatal(err)
			}
		}
		m.Log.Commit()
		appendAll(t, m, "end")
		m.Log.area(0)[at*frameSize(3)+frameHead] ^= 1
		got, found, err := records(successor(t, m))
		if got != whole || found.Lost != 5-uint64(strings.Count(whole, " ")) || err != nil {
			t.Errorf("record %d altered: %q %+v %v", at, got, found, err)
		}
	}
}

// The arena's superblock repeats what the key region says: it is put right, and
// nothing is lost, whichever bit of it was altered.
func TestAlteredSuperblock(t *testing.T) {
	for _, gen := range []int{0, 1, 2} {
		for _, at := range []int{0, superVersion, superGen, superGen + 1, superGen + 7, superOff, superOff + NonceSize, superOff + superStride, superOff + superStride + NonceSize + superLen} {
			m := newTestMemory(t, SecretmemAuto)
			for range gen {
				m.Log.BeginCheckpoint()
				m.Log.Switch()
			}
			appendAll(t, m, "one", "two")
			m.Log.r.mem[at] ^= 1
			m = successor(t, m)
			got, found, err := records(m)
			inUse := at < superOff || (at-superOff)/superStride == gen&1
			// An even mark, less one, is what a process leaves that ends while it switches.
			late := at == superGen && gen&1 == 1
			if got != "one two " || found.Lost > 0 || err != nil || found.Superblock != (inUse && !late) {
				t.Errorf("generation %d, byte %d of the superblock altered: %q %+v %v", gen, at, got, found, err)
			}
			appendAll(t, m, "three")
			want(t, m, "one two three ")
		}
	}
}

// Where a process ends while it switches to a checkpoint that is altered before
// the next one starts, the log before it is still there. Once that has no key any
// more, the checkpoint is what there is.
func TestAlteredCheckpoint(t *testing.T) {
	for _, c := range []struct {
		key  bool // of the log before
		want string
		lost uint64
	}{{true, "one two ", 0}, {false, "all ", 1}} {
		m := newTestMemory(t, SecretmemAuto)
		appendAll(t, m, "one", "two")
		key := bytes.Clone(m.Keys.logKey(0))
		m.Log.BeginCheckpoint()
		m.Log.Checkpoint([]byte("all"))
		m.Log.Checkpoint([]byte("too"))
		m.Log.Switch()
		if c.key { // as if it had ended before that was gone
			copy(m.Keys.logKey(0), key)
			m.Keys.setCount(0, 2)
		}
		m.Log.area(1)[frameSize(3)+frameHead] ^= 1
		m = successor(t, m)
		got, found, err := records(m)
		if got != c.want || found.Lost != c.lost || found.Checkpoint != c.key || err != nil {
			t.Errorf("with the key %v: %q %+v %v", c.key, got, found, err)
		}
		if c.key {
			appendAll(t, m, "three")
			want(t, m, "one two three ")
		}
	}
	// One that was begun and not switched to is none.
	m := newTestMemory(t, SecretmemAuto)
	appendAll(t, m, "one", "two")
	m.Log.BeginCheckpoint()
	m.Log.Checkpoint([]byte("all"))
	m.Log.area(0)[frameSize(3)+frameHead] ^= 1
	if got, found, err := records(successor(t, m)); got != "one " || found.Lost != 1 || found.Checkpoint || err != nil {
		t.Errorf("a checkpoint that was begun, and the log altered: %q %+v %v", got, found, err)
	}
}

func TestAnotherFormat(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	m.Keys.setFormat(FormatVersion + 1)
	if _, _, err := records(successor(t, m)); err == nil || !strings.Contains(err.Error(), fmt.Sprint("format ", FormatVersion+1)) {
		t.Errorf("another format: %v", err)
	}
}

// FuzzReplay alters the log's memory. A replay never panics, what it applies is a
// beginning of what was written, in whole groups, and it says how much is lost.
func FuzzReplay(f *testing.F) {
	f.Add(uint16(0), []byte{1})
	f.Add(uint16(7), []byte{0x80})
	f.Add(uint16(8), []byte{1, 2, 3})
	f.Add(uint16(24), []byte{0xff})
	f.Add(uint16(4), []byte{0xff, 0xff, 0xff, 0x7f})
	f.Add(uint16(200), bytes.Repeat([]byte{0xff}, 300))
	list := []string{"first", strings.Repeat("second", 20), "third", "fourth"}
	f.Fuzz(func(t *testing.T, at uint16, xor []byte) {
		m := newTestMemory(t, SecretmemOff)
		appendAll(t, m, list[:1]...)
		for i, r := range list[1:3] {
			if err := m.Log.Stage([]byte(r), i == 0); err != nil {
				t.Fatal(err)
			}
		}
		m.Log.Commit()
		appendAll(t, m, list[3:]...)
		area := m.Log.area(0)
		for i, b := range xor {
			if j := int(at) + i; j < len(area) {
				area[j] ^= b
			}
		}
		got, found, err := records(successor(t, m))
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(list) + 1 {
			whole := strings.Join(list[:i], " ")
			if i > 0 {
				whole += " "
			}
			if got == whole && i != 2 && found.Lost == uint64(len(list)-i) {
				return
			}
		}
		t.Fatalf("applied %q, and found %+v", got, found)
	})
}

// runLimited runs TestLockLimit in a child with that RLIMIT_MEMLOCK.
func runLimited(t *testing.T, limit uint64) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLockLimit$")
	cmd.Env = append(os.Environ(), "TOKENFS_LOCK_CHILD=1")
	if os.Getuid() == 0 { // root may lock anything
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var old unix.Rlimit
	unix.Prlimit(0, unix.RLIMIT_MEMLOCK, nil, &old)
	if old.Cur < limit {
		t.Skipf("NOT RUN: RLIMIT_MEMLOCK is only %d here", old.Cur)
	}
	// The child inherits the limit of the thread group that starts it.
	if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	defer unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &old, nil)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprint(err, ": ", string(out))
	}
	return string(out)
}
