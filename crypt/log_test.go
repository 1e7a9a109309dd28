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
func records(m *Memory) (all string, cut bool, err error) {
	cut, err = m.Log.Replay(func(r []byte) error {
		all += string(r) + " "
		return nil
	})
	return all, cut, err
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
		m = successor(t, m)
		got, cut, err := records(m)
		if got != "one two three " || cut || err != nil {
			t.Fatalf("%q %v %v", got, cut, err)
		}
		appendAll(t, m, "four")
		if got, _, err := records(successor(t, m)); got != "one two three four " || err != nil {
			t.Fatalf("%q %v", got, err)
		}
	})
}

// TestGroup leaves a group uncommitted: its frames must not count, not even
// when a record takes the place of the first.
func TestGroup(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	var g Group
	for _, r := range []string{"a", "b"} {
		if err := m.Log.Stage(&g, []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	m.Log.Commit(&g)
	g = Group{}
	for _, r := range []string{"c", "d", "e"} {
		if err := m.Log.Stage(&g, []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	m = successor(t, m)
	if got, cut, err := records(m); got != "a b " || cut || err != nil {
		t.Fatalf("%q %v %v", got, cut, err)
	}
	appendAll(t, m, "f")
	if got, cut, err := records(successor(t, m)); got != "a b f " || cut || err != nil {
		t.Fatalf("%q %v %v", got, cut, err)
	}
}

func TestCompact(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	appendAll(t, m, "old", "older")
	if err := m.Log.Compact(func(emit func([]byte) error) error { return emit([]byte("state")) }); err != nil {
		t.Fatal(err)
	}
	appendAll(t, m, "new")
	m = successor(t, m)
	if got, _, err := records(m); got != "state new " || err != nil {
		t.Fatalf("%q %v", got, err)
	}
	// One that fails, or whose process dies before the switch, changes nothing.
	failed := errors.New("failed")
	if err := m.Log.Compact(func(emit func([]byte) error) error { emit([]byte("half")); return failed }); err != failed {
		t.Fatal(err)
	}
	appendAll(t, m, "newer")
	crashed := *m.Log
	crashed.gen++
	crashed.seq, crashed.end = 0, 0
	m.Keys.freshLogKey(crashed.half())
	crashed.Append([]byte("half"))
	if got, _, err := records(successor(t, m)); got != "state new newer " || err != nil {
		t.Fatalf("%q %v", got, err)
	}
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
	if _, err := successor(t, m).Log.Replay(func([]byte) error { got++; return nil }); err != nil || got != n {
		t.Fatalf("%d records of %d, %v", got, n, err)
	}
}

// TestAlteredLog alters each of three records: the last is lost, any other
// stops the replay with an error, and none is ever applied altered.
func TestAlteredLog(t *testing.T) {
	for i, want := range []struct {
		got string
		cut bool
		err error
	}{{"", false, ErrDamaged}, {"one ", false, ErrDamaged}, {"one two ", true, nil}} {
		m := newTestMemory(t, SecretmemAuto)
		appendAll(t, m, "one", "two", "three")
		m.Log.area(0)[int64(i)*frameSize(3)+frameHead] ^= 1
		got, cut, err := records(successor(t, m))
		if got != want.got || cut != want.cut || !errors.Is(err, want.err) {
			t.Errorf("record %d altered: %q %v %v", i, got, cut, err)
		}
	}
	m := newTestMemory(t, SecretmemAuto)
	m.Log.r.mem[superOff+NonceSize] ^= 1
	if _, _, err := records(successor(t, m)); !errors.Is(err, ErrSealed) {
		t.Errorf("superblock altered: %v", err)
	}
	m = newTestMemory(t, SecretmemAuto)
	m.Log.r.mem[superVersion]++
	if _, _, err := records(successor(t, m)); err == nil || !strings.Contains(err.Error(), fmt.Sprint("format ", FormatVersion+1)) {
		t.Errorf("another format: %v", err)
	}
}

// FuzzReplay alters the log's memory. A replay never panics, and what it
// applies is a beginning of what was written.
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
		appendAll(t, m, list...)
		area := m.Log.area(0)
		for i, b := range xor {
			if j := int(at) + i; j < len(area) {
				area[j] ^= b
			}
		}
		got, _, _ := records(successor(t, m))
		for i := range len(list) + 1 {
			whole := strings.Join(list[:i], " ")
			if i > 0 {
				whole += " "
			}
			if got == whole {
				return
			}
		}
		t.Fatalf("applied %q", got)
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
