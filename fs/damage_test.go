package fs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// flip alters a bit of the arena.
func (b *bench) flip(t testing.TB, at int64) {
	t.Helper()
	one := make([]byte, 1)
	if _, err := unix.Pread(b.mem.FDs().Arena, one, at); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 1
	if _, err := unix.Pwrite(b.mem.FDs().Arena, one, at); err != nil {
		t.Fatal(err)
	}
}

// frames finds where the records of the first log lie; see crypt/log.go.
func (b *bench) frames(t testing.TB) (at []int64) {
	t.Helper()
	head := make([]byte, 8)
	for off := int64(4096); ; {
		if _, err := unix.Pread(b.mem.FDs().Arena, head, off); err != nil {
			t.Fatal(err)
		}
		word := binary.LittleEndian.Uint64(head)
		if word == 0 {
			return at
		}
		at = append(at, off)
		off += (24 + int64(word>>32&(1<<30-1)) + 7) &^ 7
	}
}

// listening keeps what the server logs.
func (b *bench) listening() *strings.Builder {
	said := &strings.Builder{}
	b.cfg.Logf = func(format string, args ...any) { fmt.Fprintf(said, format+"\n", args...) }
	return said
}

// No bit of the arena's first page can cost anything: what it says stands in the
// key region, too.
func TestAlteredSuperblockCostsNothing(t *testing.T) {
	for _, at := range []int64{0, 3, 8, 16, 17, 23, 128, 140, 155, 160} {
		b := newBench(t, 1<<20, 16)
		said := b.listening()
		node := b.createFile(t, "token")
		b.writeAt(node, 0, []byte("secret"))
		b.flip(t, at)
		next := b.attach(t)
		if diff := compare(b.Server, next.Server); diff != "" {
			t.Errorf("byte %d: %s", at, diff)
		}
		if next.readOnly != "" || !strings.Contains(said.String(), "superblock was altered") {
			t.Errorf("byte %d: read-only %q, and it said %q", at, next.readOnly, said)
		}
		b.end()
		if errno := next.writeAt(node, 0, []byte("new")); errno != 0 {
			t.Errorf("byte %d: writing: %v", at, errno)
		}
	}
}

// Where a record was altered, what was before it can be read and nothing can be
// written, until a wipe; how much is lost is told, by every worker.
func TestAlteredRecordIsTold(t *testing.T) {
	for _, fromEnd := range []int{1, 2, 4} {
		b := newBench(t, 1<<20, 16)
		said := b.listening()
		node := b.createFile(t, "old")
		b.writeAt(node, 0, []byte("kept"))
		for i := range 4 {
			b.createFile(t, fmt.Sprint("new", i))
		}
		at := b.frames(t)
		b.flip(t, at[len(at)-fromEnd]+30)
		for range 2 {
			next := b.attach(t)
			if !strings.Contains(next.readOnly, fmt.Sprintf("the last %d of its %d records are lost", fromEnd, len(at))) {
				t.Errorf("read-only: %q", next.readOnly)
			}
			if !strings.Contains(said.String(), "read-only now") {
				t.Errorf("it said %q", said)
			}
			said.Reset()
			if got, errno := next.readAt(node, 0, 10); errno != 0 || string(got) != "kept" {
				t.Errorf("reading what was before: %q, %v", got, errno)
			}
			if errno := next.writeAt(node, 0, []byte("x")); errno != unix.EROFS {
				t.Errorf("writing: %v", errno)
			}
			b.end()
			b = next
		}
		if len(b.inodes[rootIno].dir.names) != 1+4-fromEnd {
			t.Errorf("%d names are left", len(b.inodes[rootIno].dir.names))
		}
		if err := b.Wipe(); err != nil || b.readOnly != "" {
			t.Errorf("wiping: %v, read-only %q", err, b.readOnly)
		}
		b.pour(t, b.createFile(t, "token"), 10)
		next := b.attach(t)
		if diff := compare(b.Server, next.Server); diff != "" || next.readOnly != "" {
			t.Errorf("after a wipe: %s, read-only %q", diff, next.readOnly)
		}
	}
}

// A log of which nothing is left is not the beginning of a new session.
func TestNothingLeftOfTheLog(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	b.listening()
	b.cfg.Skeleton = []Folder{{Path: "azure", Mode: 0o700}}
	b.createFile(t, "token")
	b.flip(t, b.frames(t)[0]+30)
	for range 2 {
		next := b.attach(t)
		if next.readOnly == "" {
			t.Error("it can be written to")
		}
		next.send(opLookup, rootIno, nil, cstr("token"))
		if errno := next.call(); errno != 0 || as[fuse.EntryOut](next.r.reply[outHeaderSize:]).NodeId != 0 {
			t.Errorf("looking up what is lost: %v", errno)
		}
		b.end()
		b = next
	}
	if err := b.Wipe(); err != nil || b.readOnly != "" || b.inodes[rootIno].dir.get([]byte("azure")) == nil {
		t.Errorf("wiping: %v, read-only %q", err, b.readOnly)
	}
}

// An operation whose edits fill more than one record is lost whole.
func TestAlteredGroupIsLostWhole(t *testing.T) {
	const files = 5000
	b := newBench(t, 1<<20, files+1)
	b.listening()
	defer b.withoutUpkeep()() // its checkpoint would be elsewhere
	for i := range files {
		b.createFile(t, fmt.Sprint("f", i))
	}
	before := len(b.frames(t))
	for _, n := range b.inodes {
		n.nlink += 7
		b.tx.put(n)
	}
	b.tx.commit()
	at := b.frames(t)
	if len(at) < before+2 {
		t.Fatalf("it took %d records", len(at)-before)
	}
	b.flip(t, at[len(at)-1]+30)
	next := b.attach(t)
	if next.readOnly == "" {
		t.Error("it can be written to")
	}
	for ino, n := range next.inodes {
		if n.nlink >= 7 {
			t.Fatalf("inode %d was changed by an operation of which the end is missing", ino)
		}
	}
}

// Contents that were altered are counted, and not returned.
func TestAlteredContentsAreCounted(t *testing.T) {
	b := newBench(t, 1<<20, 16)
	said := b.listening()
	node := b.createFile(t, "token")
	b.pour(t, node, 100)
	b.mem.Arena.Free(b.inodes[node].data.blocks[0].Cell) // as good as altered
	for range 40 {
		if got, errno := b.readAt(node, 0, 100); errno != unix.EIO || got != nil {
			t.Fatalf("read %d bytes, %v", len(got), errno)
		}
	}
	if n := b.Status().Altered; n != 40 {
		t.Errorf("status counts %d", n)
	}
	if n := bytes.Count([]byte(said.String()), []byte("refusing to return it")); n == 0 || n > 20 {
		t.Errorf("the log has it %d times", n)
	}
}
