package fs

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// A rewrite may exceed the quota up to its grace, but not what there is memory for:
// there it is cut off, as at the quota, and goes on when others make room.
func TestRewriteEndsWhereRoomDoes(t *testing.T) {
	const pages, beyond = 256, 80
	b := newBench(t, pages*blockSize, 16)
	b.mostPages = pages + beyond
	b.cfg.WholeSaves = false
	data := bytes.Repeat([]byte{'x'}, 30*blockSize)
	// put writes data at off and counts what was taken.
	put := func(node, off uint64, data []byte) (n uint64) {
		t.Helper()
		switch errno := b.writeAt(node, off, data); errno {
		case 0:
			return uint64(as[fuse.WriteOut](b.r.reply[outHeaderSize:]).Size)
		case unix.ENOSPC:
			return 0
		default:
			t.Fatalf("write: %v", errno)
			return 0
		}
	}
	fill := func(node uint64) (size uint64) {
		t.Helper()
		for {
			n := put(node, size, data)
			if size += n; n == 0 {
				return size
			}
		}
	}
	truncate := func(node uint64) {
		t.Helper()
		b.send(opOpen, node, u32(unix.O_WRONLY|unix.O_TRUNC, 0))
		if errno := b.call(); errno != 0 {
			t.Fatalf("truncate: %v", errno)
		}
	}

	first, second, small, other := b.createFile(t, "first"), b.createFile(t, "second"), b.createFile(t, "small"), b.createFile(t, "other")
	for _, node := range []uint64{first, second, small} {
		put(node, 0, data[:100])
	}
	truncate(first)
	truncate(second)
	if fill(other); b.usedPages != pages {
		t.Fatalf("%d pages are in use, of %d", b.usedPages, pages)
	}
	// Its grace ends within a page, the rest of which takes no more room.
	const grace = (100+rewriteExtra)/blockSize + 1
	if size := fill(first); size != grace*blockSize {
		t.Errorf("a file of 100 bytes may grow to %d, want %d", size, grace*blockSize)
	}
	grown := fill(second)
	if grown != (beyond-grace)*blockSize || b.usedPages != pages+beyond {
		t.Errorf("another one may grow to %d, want %d; %d pages are in use, of at most %d", grown, (beyond-grace)*blockSize, b.usedPages, pages+beyond)
	}
	truncate(small)
	if n := put(second, grown, data); n != blockSize {
		t.Errorf("when a page was free, %d bytes were taken, want %d", n, blockSize)
	}
}
