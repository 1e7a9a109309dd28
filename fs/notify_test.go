package fs

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// A successor has the kernel drop the pages of files that were mapped, and does
// not ask about any other: with many files that would take longer than all else.
func TestSuccessorKnowsWhatWasMapped(t *testing.T) {
	b := newBench(t, 1<<20, 100)
	var given []Notice
	b.cfg.Notify = func(n Notice) { given = append(given, n) }
	page := make([]byte, blockSize)
	read := func(node uint64, flags uint32) {
		t.Helper()
		b.send(opRead, node, slices.Concat(u64(0, 0), u32(blockSize, flags), u64(7), u32(unix.O_RDONLY, 0)))
		if errno := b.call(); errno != 0 {
			t.Fatal(errno)
		}
	}
	faulted, direct, stored := b.createFile(t, "faulted"), b.createFile(t, "direct"), b.createFile(t, "stored")
	for _, node := range []uint64{faulted, direct, stored} {
		if errno := b.writeAt(node, 0, page); errno != 0 {
			t.Fatal(errno)
		}
	}
	read(faulted, 0)
	read(direct, readLockOwner)
	b.send(opWrite, stored, slices.Concat(u64(0, 0), u32(blockSize, writeCache), u64(0), u32(0, 0)), page)
	if errno := b.call(); errno != 0 {
		t.Fatal(errno)
	}
	b.attach(t)
	slices.SortFunc(given, func(x, y Notice) int { return int(x.Ino) - int(y.Ino) })
	if len(given) != 2 || given[0].Ino != faulted || given[1].Ino != stored {
		t.Errorf("of the files %d (mapped and read), %d (read), %d (mapped and written) it gives notices %+v", faulted, direct, stored, given)
	}
}
