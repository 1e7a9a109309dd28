package crypt

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// What punching a hole leaves lies in free pages, where nobody can look. A pipe
// that vmsplice(2) has put pages into keeps them, also when a file has given them
// up: what comes out of it afterwards is what the kernel took back.

// keep holds on to the pages behind mem, and tells in the end what is in them.
func keepPages(t *testing.T, mem []byte) (now func() []byte) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	iov := unix.Iovec{Base: &mem[0]}
	iov.SetLen(len(mem))
	if n, err := unix.Vmsplice(p[1], []unix.Iovec{iov}, 0); err != nil || n != len(mem) {
		t.Fatalf("vmsplice: %d of %d bytes, %v", n, len(mem), err)
	}
	return func() []byte {
		b := make([]byte, len(mem))
		n, err := unix.Read(p[0], b)
		if err != nil || n != len(mem) {
			t.Fatalf("read the kept pages: %d of %d bytes, %v", n, len(mem), err)
		}
		return b
	}
}

func wantZero(t *testing.T, what string, b []byte) {
	t.Helper()
	if n := len(b) - bytes.Count(b, []byte{0}); n > 0 {
		t.Errorf("%s: the kernel took pages back with %d bytes that are not zero", what, n)
	}
}

func TestPunchZeroes(t *testing.T) {
	for what, give := range map[string]func(m *Memory){
		"a wipe":  func(m *Memory) { Quietly(m.Fresh) },
		"the end": (*Memory).Erase,
		"a crash": func(m *Memory) { m.Arena.Reclaim(); m.Arena.Sweep() },
	} {
		t.Run(what, func(t *testing.T) {
			m := newTestMemory(t, SecretmemOff)
			key, _ := m.Keys.New()
			var s Sealed
			for range 2 * groupCells * keepGroups { // beyond those that stay
				if !m.Arena.Seal(key, Place{}, bytes.Repeat([]byte{7}, BlockSize), &s) {
					t.Fatal("no free cell")
				}
			}
			cell := m.Arena.cell(s.Cell)
			if bytes.Count(cell, []byte{0}) > BlockSize/2 {
				t.Fatal("the cell is empty")
			}
			was := keepPages(t, cell)
			give(m)
			wantZero(t, what, was())
		})
	}
}

func TestCompactionZeroesTheOldHalf(t *testing.T) {
	m := newTestMemory(t, SecretmemOff)
	for range 3 {
		if err := m.Log.Append(bytes.Repeat([]byte{7}, BlockSize)); err != nil {
			t.Fatal(err)
		}
	}
	was := keepPages(t, m.Log.area(m.Log.side())[:3*BlockSize])
	Quietly(func() {
		if err := m.Log.Compact(func(emit func([]byte) error) error { return emit([]byte("all")) }); err != nil {
			t.Error(err)
		}
	})
	wantZero(t, "a compaction", was())
}

// The last cell of a group that is freed gives the group's memory back.
func TestFreeZeroesBeforeItGivesBack(t *testing.T) {
	m := newTestMemory(t, SecretmemOff)
	key, _ := m.Keys.New()
	cells := make([]Sealed, 2*groupCells*keepGroups)
	for i := range cells {
		if !m.Arena.Seal(key, Place{}, bytes.Repeat([]byte{7}, BlockSize), &cells[i]) {
			t.Fatal("no free cell")
		}
	}
	first, _ := m.Arena.groups(keepGroups, keepGroups+1)
	was := keepPages(t, m.Arena.r.mem[first:first+8*BlockSize])
	for i := range cells {
		m.Arena.Free(cells[i].Cell)
	}
	wantZero(t, "freed cells", was())
}

// Zeroing takes a step for each part of what there is, and none for holes.
func TestZeroingTakesSteps(t *testing.T) {
	r, err := newRegion("test", 1<<36, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	steps := 0
	r.step = func() { steps++ }
	for _, at := range []int64{0, 1 << 30, 1 << 35} {
		for off := int64(0); off < 5<<20; off += pageSize {
			r.mem[at+off] = 1
		}
	}
	r.punch(0, 1<<36)
	if steps < 15 || steps > 20 {
		t.Errorf("15 MiB were zeroed in %d steps", steps)
	}
	if n := r.allocated(); n != 0 {
		t.Errorf("%d bytes are left behind the region", n)
	}
}

// The block that was sealed or opened last is nowhere but in its cell.
func TestScratchIsCleared(t *testing.T) {
	m := newTestMemory(t, SecretmemOff)
	key, _ := m.Keys.New()
	var s Sealed
	locked := m.Slots()[:BlockSize]
	look := func(after string) {
		t.Helper()
		if n := len(m.Arena.scratch) - bytes.Count(m.Arena.scratch[:], []byte{0}); n > 0 {
			t.Errorf("after %s %d bytes of ciphertext are on the heap", after, n)
		}
	}
	Quietly(func() {
		if !m.Arena.Seal(key, Place{Owner: 1}, bytes.Repeat([]byte{7}, BlockSize), &s) {
			t.Error("no free cell")
		}
		look("a seal")
		if err := m.Arena.Open(key, Place{Owner: 1}, &s, locked); err != nil {
			t.Error(err)
		}
		look("an open")
		if err := m.Arena.Open(key, Place{Owner: 2}, &s, locked); err == nil {
			t.Error("opened elsewhere")
		}
		look("an open that failed")
	})
}
