package fs

import (
	"encoding/binary"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/crypt"
	"tokenfs/fs/fuse"
)

// bench is a server without a kernel: requests are laid into a slot by hand,
// and answers are read from it.
type bench struct {
	*Server
	r       *request
	unique  uint64
	owner   uint64                                         // table of descriptors of who sends
	thread  uint32                                         // and its number
	flags   uint32                                         // of what it has opened
	look    func(want Answer, thread, other uint32) Answer // see answers
	silence func()                                         // ends that
	end     func()                                         // gives the memory back, which an ordinary user has little of
}

func newBench(t testing.TB, quota int64, inodes int) *bench {
	t.Helper()
	mem, err := crypt.NewMemory(MemoryConfig(quota, inodes, crypt.SecretmemAuto))
	if err != nil {
		t.Fatal(err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(null, mem, Config{Quota: quota, Inodes: inodes, WholeSaves: true, Logf: t.Logf})
	s.quietly(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.begin()
	})
	t.Cleanup(func() { unix.Close(null) })
	return newBenchOf(t, s)
}

func newBenchOf(t testing.TB, s *Server) *bench {
	b := &bench{Server: s, r: s.newRequest(0), silence: func() {}}
	b.end = sync.OnceFunc(func() {
		s.Close()
		s.mem.Detach()
	})
	t.Cleanup(func() { b.end() })
	return b
}

// keep leaves the memory to somebody who goes on looking at it.
func (b *bench) keep() { b.end = func() {} }

// send lays a request of opcode op on node into the slot: fixed is what stands
// between the header and data.
func (b *bench) send(op uint32, node uint64, fixed []byte, data ...[]byte) {
	at := b.r.mem[inHeaderSize:inHeaderSize]
	at = append(at, fixed...)
	for _, d := range data {
		at = append(at, d...)
	}
	b.unique += 2
	*as[fuse.InHeader](b.r.mem) = fuse.InHeader{Length: uint32(inHeaderSize + len(at)), Opcode: op, Unique: b.unique, NodeId: node,
		Caller: fuse.Caller{Pid: b.thread}}
}

// call serves the request in the slot as a serving thread would, and leaves
// the reply where it is.
func (b *bench) call() unix.Errno {
	n := *b.r.length()
	b.r.req = b.r.mem[:n:n]
	b.r.in = as[fuse.InHeader](b.r.req)
	b.r.reply, b.r.looked, b.r.done = nil, 0, 0
	errno, _ := b.dispatch(b.r)
	return errno
}

func u32(v ...uint32) (b []byte) {
	for _, v := range v {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func u64(v ...uint64) (b []byte) {
	for _, v := range v {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func cstr(s string) []byte { return append([]byte(s), 0) }

// createFile makes a file in the root and returns its node.
func (b *bench) createFile(t testing.TB, name string) uint64 {
	t.Helper()
	b.send(opCreate, rootIno, u32(unix.O_RDWR, unix.S_IFREG|0o600, 0, 0), cstr(name))
	if errno := b.call(); errno != 0 {
		t.Fatalf("create: %v", errno)
	}
	return as[fuse.EntryOut](b.r.reply[outHeaderSize:]).NodeId
}

// writeFixed is what stands before the data of READ and WRITE, of no handle.
func writeFixed(off uint64, n int) []byte {
	return ioFixed(0, off, n, readLockOwner, 0, 0)
}

func ioFixed(fh, off uint64, n int, ioFlags uint32, owner uint64, flags uint32) []byte {
	b := append(u64(fh, off), u32(uint32(n), ioFlags)...)
	return append(append(b, u64(owner)...), u32(flags, 0)...)
}

func (b *bench) writeAt(node, off uint64, data []byte) unix.Errno {
	return b.writeBy(node, 0, off, data)
}

func (b *bench) writeBy(node, fh, off uint64, data []byte) unix.Errno {
	b.send(opWrite, node, ioFixed(fh, off, len(data), 0, b.owner, b.flags), data)
	return b.call()
}

func (b *bench) readAt(node, off uint64, n int) ([]byte, unix.Errno) {
	return b.readBy(node, 0, off, n)
}

func (b *bench) readBy(node, fh, off uint64, n int) ([]byte, unix.Errno) {
	b.send(opRead, node, ioFixed(fh, off, n, readLockOwner, b.owner, 0))
	if errno := b.call(); errno != 0 {
		return nil, errno
	}
	return b.r.reply[outHeaderSize:], 0
}
