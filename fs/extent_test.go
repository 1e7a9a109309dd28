package fs

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs/fuse"
)

// pour writes size bytes of x into node, as many at a time as the kernel sends.
func (b *bench) pour(t testing.TB, node uint64, size int64) {
	t.Helper()
	data := bytes.Repeat([]byte{'x'}, maxIO)
	for off := int64(0); off < size; off += maxIO {
		if errno := b.writeAt(node, uint64(off), data[:min(maxIO, size-off)]); errno != 0 {
			t.Fatalf("writing at %d: %v", off, errno)
		}
	}
}

func (b *bench) truncateTo(t testing.TB, node uint64, size int64) {
	t.Helper()
	b.send(opSetattr, node, setSize(size))
	if errno := b.call(); errno != 0 {
		t.Fatalf("truncating to %d: %v", size, errno)
	}
}

// setSize is a SETATTR of the size.
func setSize(size int64) []byte {
	in := make([]byte, sizeOf[fuse.SetAttrInCommon]())
	*as[fuse.SetAttrInCommon](in) = fuse.SetAttrInCommon{Valid: fuse.FATTR_SIZE, Size: uint64(size)}
	return in[inHeaderSize:]
}

// settle waits until the upkeep has nothing left to do.
func (b *bench) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.upkeepStep() {
	}
}

const extentBytes = extentBlocks * blockSize

// Shrinking a file seals one extent of it anew, however large it is.
func TestShrinkingSealsOneExtent(t *testing.T) {
	const size = 20 * extentBytes
	b := newBench(t, 2*size, 16)
	node := b.createFile(t, "large")
	b.pour(t, node, size)
	for _, to := range []int64{size - 1, 7*extentBytes + 3*blockSize, 3 * extentBytes, 2*extentBytes - blockSize/2, 100, 1} {
		cells := map[uint32]bool{}
		for _, x := range b.inodes[node].data.blocks {
			cells[x.Cell] = true
		}
		b.truncateTo(t, node, to)
		sealed := 0
		for _, x := range b.inodes[node].data.blocks {
			if !cells[x.Cell] {
				sealed++
			}
		}
		if sealed > extentBlocks {
			t.Errorf("shrinking to %d bytes sealed %d blocks", to, sealed)
		}
		if got, errno := b.readAt(node, uint64(max(0, to-5000)), 6000); errno != 0 || !bytes.Equal(got, bytes.Repeat([]byte{'x'}, int(min(to, 5000)))) {
			t.Fatalf("the end of %d bytes: %v, %d bytes", to, errno, len(got))
		}
	}
}

// A copy of the whole arena from before, and every key that is left, do not open
// what a file lost, whichever way it lost it; what it kept can be read.
func TestWhatIsLostHasNoKey(t *testing.T) {
	const size = 3 * extentBytes
	for name, lose := range map[string]struct {
		do    func(t *testing.T, b *bench, node uint64)
		first uint64 // block that must be gone, and all behind it
		end   uint64
	}{
		"the last byte":     {func(t *testing.T, b *bench, node uint64) { b.truncateTo(t, node, size-1) }, 3*extentBlocks - 1, noEnd},
		"half an extent":    {func(t *testing.T, b *bench, node uint64) { b.truncateTo(t, node, extentBytes*3/2) }, extentBlocks * 3 / 2, noEnd},
		"whole extents":     {func(t *testing.T, b *bench, node uint64) { b.truncateTo(t, node, extentBytes) }, extentBlocks, noEnd},
		"all but a byte":    {func(t *testing.T, b *bench, node uint64) { b.truncateTo(t, node, 1) }, 0, noEnd},
		"all":               {func(t *testing.T, b *bench, node uint64) { b.truncateTo(t, node, 0) }, 0, noEnd},
		"extents in a hole": {func(t *testing.T, b *bench, node uint64) { b.punch(t, node, extentBytes, extentBytes) }, extentBlocks, 2 * extentBlocks},
		"its name": {func(t *testing.T, b *bench, node uint64) {
			b.send(opUnlink, rootIno, nil, cstr("file"))
			b.call()
			b.send(opForget, node, u64(1))
			b.call()
		}, 0, noEnd},
		"another file": {func(t *testing.T, b *bench, node uint64) {
			b.createFile(t, "other")
			b.send(opRename2, rootIno, append(u64(rootIno), u32(0, 0)...), cstr("other"), cstr("file"))
			b.call()
			b.send(opForget, node, u64(1))
			b.call()
		}, 0, noEnd},
		"everything wiped": {func(t *testing.T, b *bench, node uint64) { b.Wipe() }, 0, noEnd},
		"a path wiped":     {func(t *testing.T, b *bench, node uint64) { b.WipePath("file") }, 0, noEnd},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 2*size, 16)
			node := b.createFile(t, "file")
			b.pour(t, node, size)
			old := b.inodes[node]
			extents, blocks := slices.Clone(old.data.extents), slices.Clone(old.data.blocks)
			copied := copyOf(t, b.mem)
			lose.do(t, b, node)
			b.settle()
			if n := b.inodes[node]; n != nil {
				for off := int64(0); off < n.size; off += maxIO {
					if _, errno := b.readAt(node, uint64(off), maxIO); errno != 0 {
						t.Fatalf("what was kept, at %d: %v", off, errno)
					}
				}
			}
			copied.restore(t)
			dst := make([]byte, blockSize)
			opened := 0
			was := content{extents: extents}
			for i := range blocks {
				if blocks[i].idx < lose.first || blocks[i].idx >= lose.end {
					continue
				}
				place := old.place(was.extent(blocks[i].idx), blocks[i].idx)
				for key := crypt.Key(1); key < 32; key++ {
					switch err := b.mem.Arena.Open(key, place, &blocks[i].Sealed, dst); {
					case err == nil:
						opened++
					case !errors.Is(err, crypt.ErrSealed):
						t.Fatal(err)
					}
				}
			}
			if opened > 0 {
				t.Errorf("%d blocks can be opened still", opened)
			}
			if lose.first == 0 {
				return
			}
			for key := crypt.Key(1); key < 32; key++ {
				if b.mem.Arena.Open(key, old.place(was.extent(0), 0), &blocks[0].Sealed, dst) == nil {
					return
				}
			}
			t.Error("not even a block that was kept can be opened: this test sees nothing")
		})
	}
}

func (b *bench) punch(t testing.TB, node uint64, off, n int64) {
	t.Helper()
	b.send(opFallocate, node, append(u64(0, uint64(off), uint64(n)), u32(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0)...))
	if errno := b.call(); errno != 0 {
		t.Fatalf("punching a hole: %v", errno)
	}
}

// arenaCopy is what somebody has who copied the arena's memory.
type arenaCopy struct {
	fd    int
	parts map[int64][]byte
}

func copyOf(t testing.TB, mem *crypt.Memory) arenaCopy {
	t.Helper()
	c := arenaCopy{mem.FDs().Arena, map[int64][]byte{}}
	for at := int64(0); ; {
		from, err := unix.Seek(c.fd, at, unix.SEEK_DATA)
		if err != nil {
			return c
		}
		if at, err = unix.Seek(c.fd, from, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		part := make([]byte, at-from)
		if n, err := unix.Pread(c.fd, part, from); err != nil || n != len(part) {
			t.Fatalf("copied %d of %d bytes: %v", n, len(part), err)
		}
		c.parts[from] = part
	}
}

// restore puts the copy back to where it was.
func (c arenaCopy) restore(t testing.TB) {
	t.Helper()
	for at, part := range c.parts {
		if n, err := unix.Pwrite(c.fd, part, at); err != nil || n != len(part) {
			t.Fatalf("restored %d of %d bytes: %v", n, len(part), err)
		}
	}
}

// A key that has sealed as often as it may is replaced, for its extent alone,
// by whatever would seal once more with it.
func TestKeysAreReplaced(t *testing.T) {
	b := newBench(t, 8*extentBytes, 16)
	node, other := b.createFile(t, "file"), b.createFile(t, "other")
	b.pour(t, node, 3*extentBytes)
	b.pour(t, other, blockSize)
	for name, seal := range map[string]func() unix.Errno{
		"a write": func() unix.Errno { return b.writeAt(node, extentBytes+5000, []byte("y")) },
		"a hole":  func() unix.Errno { b.punch(t, node, extentBytes+5000, 100); return 0 },
		"a copy": func() unix.Errno {
			b.send(opCopyFileRange, other, u64(0, 0, node, 0, extentBytes+8192, 100, 0))
			return b.call()
		},
	} {
		before := slices.Clone(b.inodes[node].data.extents)
		b.inodes[node].data.extents[1].seals = maxSeals
		if errno := seal(); errno != 0 {
			t.Fatalf("%s: %v", name, errno)
		}
		after := b.inodes[node].data.extents
		if after[1].version == before[1].version || after[1].seals > extentBlocks+2 {
			t.Errorf("%s goes on with the key: %+v became %+v", name, before[1], after[1])
		}
		if after[0] != before[0] || after[2] != before[2] {
			t.Errorf("%s replaced other keys: %+v became %+v", name, before, after)
		}
	}
	next := b.attach(t)
	if diff := compare(b.Server, next.Server); diff != "" {
		t.Error(diff)
	}
	for off := 0; off < 3*extentBytes; off += maxIO {
		if _, errno := next.readAt(node, uint64(off), maxIO); errno != 0 {
			t.Fatalf("reading at %d: %v", off, errno)
		}
	}
}

// Files made of holes can take all keys but those that others have a right to:
// a small file is made, rewritten and given attributes all the same.
func TestHolesTakeNoKeysOfOthers(t *testing.T) {
	const inodes = 8
	b := newBench(t, 4<<20, inodes)
	b.farLimit = 20 // as if the quota were larger
	small := b.createFile(t, "small")
	b.pour(t, small, 100)
	sparse := b.createFile(t, "sparse")
	far := uint64(1)
	for ; ; far++ {
		if errno := b.writeAt(sparse, far*extentBytes, []byte("x")); errno == unix.ENOSPC {
			break
		} else if errno != 0 {
			t.Fatal(errno)
		}
	}
	if far != 21 || b.farKeys != 20 {
		t.Errorf("a file with holes got to %d keys, %d are counted", far-1, b.farKeys)
	}
	if errno := b.writeAt(sparse, extentBytes+blockSize, []byte("x")); errno != 0 {
		t.Errorf("where it has a key: %v", errno)
	}
	for range 3 {
		b.truncateTo(t, small, 0)
		b.pour(t, small, rewriteExtra)
	}
	for i := range inodes - 3 - 1 {
		b.pour(t, b.createFile(t, string(rune('a'+i))), 100)
	}
	b.send(opSetxattr, small, u32(1, 0), cstr("user.x"), []byte("v"))
	if errno := b.call(); errno != 0 {
		t.Errorf("an attribute: %v", errno)
	}
	next := b.attach(t)
	if diff := compare(b.Server, next.Server); diff != "" {
		t.Error(diff)
	}
	b.end()
	next.truncateTo(t, sparse, 0)
	if next.farKeys != 0 {
		t.Errorf("%d keys are counted of a file that was emptied", next.farKeys)
	}
}

// The value that another one replaces, and one that is removed, have no key.
func TestAttributesHaveKeysOfTheirOwn(t *testing.T) {
	b := newBench(t, 4<<20, 16)
	node := b.createFile(t, "file")
	set := func(value string) {
		t.Helper()
		b.send(opSetxattr, node, u32(uint32(len(value)), 0), cstr("user.x"), []byte(value))
		if errno := b.call(); errno != 0 {
			t.Fatal(errno)
		}
	}
	set("first")
	n := b.inodes[node]
	old := n.xattrs.list[0]
	copied := copyOf(t, b.mem)
	set("second")
	copied.restore(t)
	if n.xattrs.list[0].key == old.key {
		t.Error("the second value is sealed under the key of the first")
	}
	opens := func() bool {
		for key := crypt.Key(1); key < 8; key++ {
			if b.mem.Arena.Open(key, n.xattrPlace(&old, 0), &old.blocks[0], make([]byte, blockSize)) == nil {
				return true
			}
		}
		return false
	}
	if opens() {
		t.Error("the first value can be opened still")
	}
	old = n.xattrs.list[0]
	copied = copyOf(t, b.mem)
	b.send(opRemovexattr, node, nil, cstr("user.x"))
	if errno := b.call(); errno != 0 || n.xattrs != nil {
		t.Fatalf("removing it: %v, %+v", errno, n.xattrs)
	}
	copied.restore(t)
	if opens() {
		t.Error("the value that was removed can be opened still")
	}
}
