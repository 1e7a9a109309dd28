package fs

import (
	"bytes"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A rewrite may exceed the quota, but not what there is memory for: there it is cut
// off, as it would be at the quota, and goes on when others make room.
func TestRewriteEndsAtMost(t *testing.T) {
	const pages, beyond = 256, 10
	b := newBench(t, pages*blockSize, 16)
	b.mostPages = pages + beyond
	data := bytes.Repeat([]byte{'x'}, 25*blockSize)
	put := func(node, off uint64, data []byte) (n int) {
		t.Helper()
		switch errno := b.writeAt(node, off, data); errno {
		case 0:
			return int(as[fuse.WriteOut](b.r.reply[outHeaderSize:]).Size)
		case unix.ENOSPC:
			return 0
		default:
			t.Fatalf("write: %v", errno)
			return 0
		}
	}
	truncate := func(node uint64) {
		t.Helper()
		b.send(opOpen, node, u32(unix.O_WRONLY|unix.O_TRUNC, 0))
		if errno := b.call(); errno != 0 {
			t.Fatalf("truncate: %v", errno)
		}
	}

	cache, other, small := b.createFile(t, "cache"), b.createFile(t, "other"), b.createFile(t, "small")
	put(cache, 0, data)
	put(small, 0, data[:blockSize])
	truncate(cache)
	for off := uint64(0); ; {
		n := put(other, off, data)
		if off += uint64(n); n == 0 {
			break
		}
	}
	if b.usedPages != pages {
		t.Fatalf("%d pages are in use, of %d", b.usedPages, pages)
	}
	if n := put(cache, 0, data); n != beyond*blockSize {
		t.Errorf("the first write took %d bytes, want %d", n, beyond*blockSize)
	}
	if n := put(cache, beyond*blockSize, data); n != 0 || b.usedPages != pages+beyond {
		t.Errorf("the next one took %d bytes, want none; %d pages are in use, of at most %d", n, b.usedPages, pages+beyond)
	}
	truncate(small)
	if n := put(cache, beyond*blockSize, data); n != blockSize {
		t.Errorf("when a page was free, %d bytes were taken, want %d", n, blockSize)
	}
}
