package fs

import (
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// FuzzRequest serves whatever could stand in a slot, twice. Nothing may panic,
// and what is recorded must be what a successor reads back.
func FuzzRequest(f *testing.F) {
	f.Add(uint32(opLookup), uint64(rootIno), []byte("name\x00"))
	f.Add(uint32(opCreate), uint64(rootIno), append(u32(unix.O_RDWR, unix.S_IFREG|0o600, 0, 0), "new\x00"...))
	f.Add(uint32(opWrite), uint64(2), append(writeFixed(0, 5), "hello"...))
	f.Add(uint32(opWrite), uint64(2), append(writeFixed(1<<63-6, 5), "hello"...))
	f.Add(uint32(opWrite), uint64(2), append(writeFixed(0, 500), "hello"...))
	f.Add(uint32(opRead), uint64(2), writeFixed(0, 1<<20))
	f.Add(uint32(opRead), uint64(2), writeFixed(1<<63, 4096))
	f.Add(uint32(opRename2), uint64(rootIno), append(append(u64(rootIno), u32(2, 0)...), "file\x00dir\x00"...))
	f.Add(uint32(opRename), uint64(rootIno), append(u64(3), "file\x00to\x00"...))
	f.Add(uint32(opSymlink), uint64(rootIno), []byte("link\x00target\x00"))
	f.Add(uint32(opSymlink), uint64(rootIno), []byte("link\x00target"))
	f.Add(uint32(opLink), uint64(3), append(u64(2), "hard\x00"...))
	f.Add(uint32(opSetxattr), uint64(2), append(u32(3, 0), "user.a\x00abc"...))
	f.Add(uint32(opGetxattr), uint64(2), append(u32(0, 0), "user.x\x00"...))
	f.Add(uint32(opFallocate), uint64(2), append(u64(0, 1<<62, 1<<62), u32(0, 0)...))
	f.Add(uint32(opFallocate), uint64(2), append(u64(0, 100, 9000), u32(3, 0)...))
	f.Add(uint32(opCopyFileRange), uint64(2), u64(0, 0, 2, 0, 8192, 5000, 0))
	f.Add(uint32(opBatchForget), uint64(0), append(u32(1<<31, 0), u64(2, 1)...))
	f.Add(uint32(opForget), uint64(2), u64(1<<63))
	f.Add(uint32(opReaddir), uint64(3), writeFixed(0, 30))
	f.Add(uint32(opReaddir), uint64(rootIno), writeFixed(1<<63, 4096))
	f.Add(uint32(opLseek), uint64(2), append(u64(0, 0), u32(3, 0)...))
	f.Add(uint32(opStatx), uint64(2), make([]byte, 24))
	f.Add(uint32(opSetattr), uint64(2), append(u32(8, 0), append(u64(0, 3), make([]byte, 64)...)...))
	f.Add(uint32(opOpen), uint64(2), u32(unix.O_WRONLY|unix.O_TRUNC, 0))
	f.Add(uint32(opFlush), uint64(2), u64(4, 0, 1))
	f.Add(uint32(opFlush), uint64(3), u64(4, 0, 1))
	f.Add(uint32(opFsync), uint64(2), u64(4, 0))
	f.Add(uint32(opRelease), uint64(2), u64(4, 0, 0))
	f.Add(uint32(opWrite), uint64(2), append(ioFixed(8, 0, 5, 0, 1, 0), "hello"...))
	f.Add(uint32(opWrite), uint64(3), append(ioFixed(8, 0, 5, 0, 1, 0), "hello"...))
	f.Add(uint32(opRead), uint64(2), ioFixed(8, 0, 5, readLockOwner, 1, 0))
	f.Add(uint32(opCopyFileRange), uint64(2), u64(8, 0, 2, 8, 8192, 5000, 0))
	f.Add(uint32(1000), uint64(2), []byte{})
	f.Fuzz(func(t *testing.T, op uint32, node uint64, body []byte) {
		if len(body) > slotRequest-inHeaderSize {
			return
		}
		s := newBench(t, 1<<20, 32)
		s.answers(t, everyone)
		file := s.createFile(t, "file")
		s.writeAt(file, 0, pattern(1, 6000))
		s.send(opMkdir, rootIno, u32(0o700, 0), cstr("dir"))
		s.call()
		s.send(opOpen, file, u32(unix.O_RDWR|unix.O_TRUNC, 0)) // its handle is 8
		s.call()
		s.writeBy(file, 8, 0, pattern(2, 5000))
		for range 2 {
			s.send(op, node, body)
			s.call()
			if n := s.panics(); n != 0 {
				t.Fatalf("%d panics", n)
			}
			if len(s.r.reply) > slotRequest {
				t.Fatalf("a reply of %d bytes", len(s.r.reply))
			}
		}
		if diff := compare(s.Server, s.attach(t).Server); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestShortSlot feeds lengths that no kernel sends.
func TestShortSlot(t *testing.T) {
	s := newBench(t, 1<<20, 32)
	for _, n := range []uint32{1, uint32(inHeaderSize) - 1, slotRequest + 1, 1 << 31} {
		*as[fuse.InHeader](s.r.mem) = fuse.InHeader{Length: n, Opcode: opLookup, NodeId: rootIno}
		s.serveOne(s.r)
		if s.r.pending() {
			t.Errorf("a request of %d bytes was left in the slot", n)
		}
	}
}
