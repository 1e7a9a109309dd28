package fs

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"tokenfs/fs/fuse"
)

// The page before the slots outlives the process. It holds nothing secret.
const (
	savedInitLen = 0  // of the INIT request, once there is one
	savedNextIno = 8  // no inode was ever given a number from here on
	watchWord    = 16 // see Watch
	savedPanics  = 24 // how many there were
	owedNotices  = 32 // the kernel is to be told to forget all inodes below
	staleNames   = 40 // the kernel may have names of inodes below that nobody knows
	progressMade = 48 // steps taken by a server that starts; see Progress
	servingWord  = 56 // it has served what its predecessor left
	servedWord   = 60 // whose request holds the lock: its slot, and 1
	savedInit    = 64 // the INIT request
	savedBlame   = 1024
	savedAltered = 1152 // how many blocks there were that did not authenticate
	savedMapped  = 2048
	mappedBytes  = pageSize - savedMapped // see markMapped
)

const (
	protoMajor = 7
	protoMinor = 45 // the newest this code was written for (Linux 6.18)
	minMinor   = 36 // Linux 5.15
)

// wanted are the features to ask for. What is missing is missing on purpose:
// locks stay in the kernel, there is no write-back cache, appends rely on the
// inode lock (no parallel direct writes), READDIRPLUS saves nothing behind long
// timeouts and would give it references to count.
const wanted = fuse.CAP_ASYNC_READ | fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_BIG_WRITES |
	fuse.CAP_PARALLEL_DIROPS | fuse.CAP_MAX_PAGES | fuse.CAP_HANDLE_KILLPRIV_V2 |
	capInitExt | fuse.CAP_DIRECT_IO_ALLOW_MMAP

const capInitExt = 1 << 30

// protocol is what was negotiated.
type protocol struct {
	minor      uint32
	flags      uint64
	mmapShared bool // shared mappings work with direct I/O
}

// negotiate answers INIT: the kernel's, or the one saved by a predecessor.
func (s *Server) negotiate() error {
	page := s.mem.Slots()[:pageSize]
	n := binary.LittleEndian.Uint64(page[savedInitLen:])
	resumed := n != 0
	if !resumed {
		if err := s.readInit(page); err != nil {
			return err
		}
	}
	in := *as[fuse.InitIn](page[savedInit:])
	if in.Major != protoMajor || in.Minor < minMinor {
		return fmt.Errorf("the kernel speaks FUSE %d.%d, this needs %d.%d (Linux 5.15) or newer", in.Major, in.Minor, protoMajor, minMinor)
	}
	out := s.accept(&in)
	return s.writeInit(in.Unique, &out, resumed)
}

// SavedInit is what was negotiated by the server of these slots.
func SavedInit(slots []byte) []byte {
	n := binary.LittleEndian.Uint64(slots[savedInitLen:])
	return slots[savedInit : savedInit+n]
}

// SaveInit has the next server of these slots agree to the same.
func SaveInit(slots, init []byte) {
	copy(slots[savedInit:savedBlame], init)
	binary.LittleEndian.PutUint64(slots[savedInitLen:], uint64(len(init)))
}

// readInit takes the kernel's first request into the page. Until it is there
// whole it stays in the first slot, where a successor finds it.
func (s *Server) readInit(page []byte) error {
	r := s.newRequest(0)
	for !r.pending() {
		// The kernel refuses a buffer that could not hold the longest request.
		_, err := unix.Read(s.fuse, r.mem[:slotRequest])
		switch err {
		case nil, unix.EINTR, unix.EAGAIN, unix.ENOENT:
		default:
			return fmt.Errorf("reading the kernel's first request: %w", err)
		}
	}
	n := *r.length()
	in := as[fuse.InHeader](r.mem)
	// Kernels before 5.17 send it without the fields from Flags2 on: zero here.
	const shortest = 56
	if in.Opcode != opInit || n < shortest || n > savedBlame-savedInit {
		return fmt.Errorf("the kernel's first request is of kind %d with %d bytes, not an INIT", in.Opcode, n)
	}
	copy(page[savedInit:], r.mem[:n])
	binary.LittleEndian.PutUint64(page[savedInitLen:], uint64(n))
	r.finish()
	return nil
}

// accept is a function of the request alone, so that a successor that answers
// the same request agrees to the same things.
func (s *Server) accept(in *fuse.InitIn) fuse.InitOut {
	flags := in.Flags64()
	if in.Flags&capInitExt == 0 {
		flags = uint64(in.Flags)
	}
	flags &= wanted
	s.proto = protocol{minor: min(in.Minor, protoMinor), flags: flags,
		mmapShared: flags&fuse.CAP_DIRECT_IO_ALLOW_MMAP != 0}
	return fuse.InitOut{
		Major: protoMajor, Minor: s.proto.minor,
		MaxReadAhead: in.MaxReadAhead,
		Flags:        uint32(flags), Flags2: uint32(flags >> 32),
		MaxBackground: 12, CongestionThreshold: 9,
		MaxWrite: maxIO, MaxPages: maxIO / pageSize, TimeGran: 1,
	}
}

func (s *Server) writeInit(unique uint64, out *fuse.InitOut, resumed bool) error {
	reply := make([]byte, outHeaderSize+sizeOf[fuse.InitOut]())
	*as[fuse.OutHeader](reply) = fuse.OutHeader{Length: uint32(len(reply)), Unique: unique}
	*as[fuse.InitOut](reply[outHeaderSize:]) = *out
	_, err := unix.Write(s.fuse, reply)
	if err == unix.ENOENT && resumed {
		return nil // answered by a predecessor
	}
	if err != nil {
		return fmt.Errorf("answering the kernel's INIT: %w", err)
	}
	return nil
}

// reserveIno keeps the promise of savedNextIno, many numbers at a time. The log
// has the exact one, but a wipe takes the log away.
func (s *Server) reserveIno() {
	const many = 1 << 10
	if s.nextIno >= s.reservedIno {
		s.reservedIno = s.nextIno + many
		binary.LittleEndian.PutUint64(s.mem.Slots()[savedNextIno:], s.reservedIno)
	}
}
