package crypt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func testConfig(sm Secretmem) MemoryConfig {
	return MemoryConfig{Quota: 4 << 20, Spare: 1 << 20, Keys: 100, Meta: 4 << 20, Slots: 8 * pageSize, Secretmem: sm}
}

func newTestMemory(t testing.TB, sm Secretmem) *Memory {
	t.Helper()
	m, err := NewMemory(testConfig(sm))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// successor attaches to m's memory as another process would after m's died. m
// must not be used any more.
func successor(t testing.TB, m *Memory) *Memory {
	t.Helper()
	fds := m.FDs()
	for _, fd := range []*int{&fds.Keys, &fds.Arena, &fds.Slots} {
		dup, err := unix.FcntlInt(uintptr(*fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		*fd = dup
	}
	var next *Memory
	var err error
	Quietly(func() { next, err = AttachMemory(testConfig(SecretmemAuto), fds) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(next.Detach)
	return next
}

// both runs a test on either kind of key region.
func both(t *testing.T, f func(t *testing.T, sm Secretmem)) {
	for name, sm := range map[string]Secretmem{"secretmem": SecretmemOn, "memfd": SecretmemOff} {
		t.Run(name, func(t *testing.T) {
			if sm == SecretmemOn {
				fd, err := memfdSecret()
				if err != nil {
					t.Skipf("NOT RUN: no memfd_secret here: %s", whyNoSecretmem(err))
				}
				unix.Close(fd)
			}
			f(t, sm)
		})
	}
}

func TestSealOpen(t *testing.T) {
	both(t, func(t *testing.T, sm Secretmem) {
		m := newTestMemory(t, sm)
		key, err := m.Keys.New()
		if err != nil {
			t.Fatal(err)
		}
		plain, got := []byte("a refresh token"), make([]byte, BlockSize)
		place := Place{Owner: 1, Version: 2, Index: 3}
		var s Sealed
		if !m.Arena.Seal(key, place, plain, &s) {
			t.Fatal("no free cell")
		}
		if bytes.Contains(m.Arena.r.mem[m.Arena.layout.cellsOff:][:BlockSize*8], plain) {
			t.Error("the plaintext is in the arena")
		}
		next := successor(t, m)
		if !next.Keys.Claim(key) || !next.Arena.Claim(s.Cell) {
			t.Fatal("claiming what is in use")
		}
		next.Keys.Sweep()
		next.Arena.Sweep()
		if err := next.Arena.Open(key, place, &s, got); err != nil || !bytes.Equal(got[:s.Len], plain) {
			t.Fatalf("opening in another attachment: %v", err)
		}
		for name, wrong := range map[string]Place{"owner": {9, 2, 3}, "version": {1, 9, 3}, "index": {1, 2, 9}} {
			if err := next.Arena.Open(key, wrong, &s, got); !errors.Is(err, ErrSealed) {
				t.Errorf("opening as another %s: %v", name, err)
			}
		}
		next.Keys.Erase(key)
		if err := next.Arena.Open(key, place, &s, got); !errors.Is(err, ErrSealed) {
			t.Errorf("opening after the key was erased: %v", err)
		}
	})
}

func TestAlteredBlock(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	key, _ := m.Keys.New()
	var s Sealed
	m.Arena.Seal(key, Place{}, bytes.Repeat([]byte{7}, BlockSize), &s)
	for range 100 {
		at, bit := rand.IntN(BlockSize), byte(1)<<rand.IntN(8)
		m.Arena.cell(s.Cell)[at] ^= bit
		if err := m.Arena.Open(key, Place{}, &s, make([]byte, BlockSize)); !errors.Is(err, ErrSealed) {
			t.Fatalf("byte %d altered: %v", at, err)
		}
		m.Arena.cell(s.Cell)[at] ^= bit
	}
	stale := s
	m.Arena.Seal(key, Place{}, bytes.Repeat([]byte{8}, BlockSize), &s)
	copy(m.Arena.cell(s.Cell), m.Arena.cell(stale.Cell))
	if err := m.Arena.Open(key, Place{}, &s, make([]byte, BlockSize)); !errors.Is(err, ErrSealed) {
		t.Errorf("an older block in place of the newer: %v", err)
	}
}

func TestFreedIsZeroed(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	key, _ := m.Keys.New()
	var list []Sealed
	for range 600 { // several groups, so that some are punched out
		var s Sealed
		if !m.Arena.Seal(key, Place{}, []byte("x"), &s) {
			t.Fatal("no free cell")
		}
		list = append(list, s)
	}
	before := m.Arena.r.allocated()
	for _, s := range list {
		m.Arena.Free(s.Cell)
	}
	if after := m.Arena.r.allocated(); after >= before { // before reading makes pages
		t.Errorf("%d bytes behind the arena, %d before everything was freed", after, before)
	}
	for _, s := range list {
		if !bytes.Equal(m.Arena.cell(s.Cell), make([]byte, BlockSize)) {
			t.Fatalf("cell %d keeps its contents", s.Cell)
		}
	}
	m.Keys.Erase(key)
	if !bytes.Equal(m.Keys.key(key), make([]byte, keySize)) {
		t.Error("an erased key is not zeroed")
	}
}

func TestNoFreeKeyOrCell(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	var last Key
	for range 100 {
		k, err := m.Keys.New()
		if err != nil {
			t.Fatal(err)
		}
		last = k
	}
	if _, err := m.Keys.New(); !errors.Is(err, ErrNoKeys) {
		t.Errorf("one key too many: %v", err)
	}
	m.Keys.Erase(last)
	if k, err := m.Keys.New(); err != nil || k != last {
		t.Errorf("an erased slot is not used again: %v", err)
	}
	n := 0
	for s := new(Sealed); m.Arena.Seal(last, Place{}, []byte("x"), s); n++ {
	}
	if n != m.Arena.layout.cells-1 {
		t.Errorf("%d cells could be used of %d", n, m.Arena.layout.cells-1)
	}
}

// TestZero clears parts of a sparse region without touching its holes.
func TestZero(t *testing.T) {
	r, err := newRegion("test", 1<<36, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for _, off := range []int64{0, 1 << 20, 1 << 35} {
		r.mem[off] = 1
	}
	before := r.allocated()
	r.zero(pageSize, 1<<36)
	if r.allocated() != before {
		t.Errorf("%d bytes behind the region, %d before it was cleared", r.allocated(), before)
	}
	if r.mem[0] != 1 || r.mem[1<<20] != 0 || r.mem[1<<35] != 0 {
		t.Errorf("cleared %v %v %v, want 1 0 0", r.mem[0], r.mem[1<<20], r.mem[1<<35])
	}
}

// TestTouch takes memory away from behind a region: using it would end the
// process with SIGBUS, touching it must be an error.
func TestTouch(t *testing.T) {
	r, err := newRegion("test", 8*pageSize, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if err := r.touch(); err != nil || r.allocated() != 8*pageSize {
		t.Errorf("%d bytes behind the region: %v", r.allocated(), err)
	}
	unix.Ftruncate(r.fd, 4*pageSize)
	if err := r.touch(); !errors.Is(err, unix.EFAULT) || !strings.Contains(err.Error(), "at 16384 of 32768 bytes") {
		t.Errorf("half of the memory is missing: %v", err)
	}
}

// TestSecretmemIsThere is about kernels that refuse secretmem when it is first
// touched: nothing is left to be touched first.
func TestSecretmemIsThere(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	if !m.Status().Secretmem {
		t.Skip("NOT RUN: no memfd_secret here: " + m.Status().SecretmemWhy)
	}
	mem := m.Keys.r.mem
	there := make([]byte, len(mem)/pageSize)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mem[0])), uintptr(len(mem)), uintptr(unsafe.Pointer(&there[0]))); errno != 0 {
		t.Fatal(errno)
	}
	if n := bytes.Count(there, []byte{0}); n > 0 {
		t.Errorf("%d of %d pages are not there yet", n, len(there))
	}
}

// TestFresh looks for anything left of a session after the next has begun.
func TestFresh(t *testing.T) {
	both(t, func(t *testing.T, sm Secretmem) {
		m := newTestMemory(t, sm)
		key, _ := m.Keys.New()
		var s Sealed
		m.Arena.Seal(key, Place{}, []byte("secret"), &s)
		m.Log.Append([]byte("record"))
		old := bytes.Clone(m.Keys.r.mem[sessionOff:])
		sealed := bytes.Clone(m.Arena.cell(s.Cell)[:6])
		Quietly(m.Fresh)
		for off := 0; off+16 <= len(old); off += 16 {
			if run := old[off : off+16]; interesting(run) && bytes.Contains(m.Keys.r.mem, run) {
				t.Fatalf("16 bytes of the old key region from %d are still there", off)
			}
		}
		if bytes.Equal(m.Arena.cell(s.Cell)[:6], sealed) {
			t.Error("an old block is still there")
		}
		if err := m.Arena.Open(key, Place{}, &s, make([]byte, BlockSize)); !errors.Is(err, ErrSealed) {
			t.Errorf("opening a block of an earlier session: %v", err)
		}
		if err := m.Log.Append([]byte("first")); err != nil {
			t.Fatal(err)
		}
		if got, _, err := records(successor(t, m)); err != nil || got != "first " {
			t.Errorf("the new log holds %q, %v", got, err)
		}
	})
}

// interesting leaves out runs that any memory has, such as sizes and zeros.
func interesting(run []byte) bool {
	kinds := map[byte]bool{}
	for _, b := range run {
		kinds[b] = true
	}
	return len(kinds) > 8
}

// TestInterruptedFresh attaches to memory whose process died in a wipe.
func TestInterruptedFresh(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	m.Log.Append([]byte("old"))
	m.Keys.setState(stateWiping) // the first thing that destroy does
	if got, _, err := records(successor(t, m)); err != nil || got != "" {
		t.Errorf("a wipe that was interrupted left %q, %v", got, err)
	}
}

func TestDestroy(t *testing.T) {
	m := newTestMemory(t, SecretmemAuto)
	m.Keys.New()
	m.Destroy()
	for off, b := range m.Keys.r.mem[sessionOff:] {
		if b != 0 {
			t.Fatalf("byte %d of the key region is not zero", sessionOff+off)
		}
	}
}

func TestSecretmemModes(t *testing.T) {
	if m := newTestMemory(t, SecretmemOff); m.Status().Secretmem || m.Status().SecretmemWhy == "" {
		t.Errorf("off: %+v", m.Status())
	}
	m := newTestMemory(t, SecretmemAuto)
	on, err := NewMemory(testConfig(SecretmemOn))
	if m.Status().Secretmem {
		if err != nil {
			t.Errorf("on, where auto could: %v", err)
		} else {
			on.Close()
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "secretmem=on") {
		t.Errorf("on, where auto could not: %v", err)
	}
}

// present says how many bytes of a mapping would meet no page fault.
func present(mem []byte) (n int) {
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		fmt.Println("error:", err)
		return 0
	}
	defer pagemap.Close()
	for off := 0; off < len(mem); off += pageSize {
		var entry [8]byte
		page := int64(uintptr(unsafe.Pointer(&mem[off])) / pageSize)
		if _, err := pagemap.ReadAt(entry[:], 8*page); err == nil && entry[7]&0x80 != 0 {
			n += pageSize
		}
	}
	return n
}

// TestLockLimit runs itself under a small RLIMIT_MEMLOCK without CAP_IPC_LOCK.
func TestLockLimit(t *testing.T) {
	if os.Getenv("TOKENFS_LOCK_CHILD") != "" {
		cfg := testConfig(SecretmemAuto)
		cfg.Keys = 4000
		on := cfg
		on.Secretmem = SecretmemOn
		if m, err := NewMemory(on); err != nil {
			fmt.Println("on:", err)
		} else {
			m.Close()
		}
		m, err := NewMemory(cfg)
		if err != nil {
			fmt.Println("error:", err)
			return
		}
		st := m.Status()
		fmt.Printf("limit %d secret %v keys %d/%d slots %d/%d, %d there\n", LockLimit(), st.Secretmem, st.KeysLocked, st.KeysSize, st.SlotsLocked, st.SlotsSize, present(m.Slots()))
		return
	}
	for limit, want := range map[uint64]string{
		0:        "error: locking the session key",
		48 << 10: "secret false keys 32768/163840 slots 16384/32768, 32768 there",
		8 << 20:  "slots 32768/32768",
	} {
		out := runLimited(t, limit)
		if !strings.Contains(out, want) {
			t.Errorf("with %d bytes: %q, want %q in it", limit, out, want)
		}
		if refused := strings.Contains(out, "on: secretmem=on, but"); refused != (limit < 1<<20) && !strings.Contains(out, "kernel has it off") {
			t.Errorf("with %d bytes and secretmem=on: %q", limit, out)
		}
	}
}
