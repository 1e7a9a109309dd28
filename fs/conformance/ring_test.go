package conformance

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Just enough of io_uring(7) for one transfer at a time, done by a thread of the
// kernel's rather than by who asks.
const (
	ringRead  = 22 // IORING_OP_READ
	ringWrite = 23 // IORING_OP_WRITE

	ringAsync    = 1 << 4 // IOSQE_ASYNC
	ringGetEvent = 1      // IORING_ENTER_GETEVENTS
	ringSQEs     = 0x10000000
)

type ringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	_                                                    [3]uint32
	sq                                                   struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

type ringSQE struct {
	op, flags uint8
	prio      uint16
	fd        int32
	off, addr uint64
	len       uint32
	_         [36]byte
}

// ringTransfer reads or writes all of b, from the beginning of the file.
func ringTransfer(t *testing.T, op uint8, fd int, b []byte) error {
	t.Helper()
	var p ringParams
	r, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if errno == unix.ENOSYS || errno == unix.EPERM {
		t.Skipf("NOT RUN: no io_uring here: %v", errno)
	} else if errno != 0 {
		return fmt.Errorf("io_uring_setup: %w", errno)
	}
	ring := int(r)
	defer unix.Close(ring)
	// Since Linux 5.4 both rings are in one mapping.
	rings, err := unix.Mmap(ring, 0, int(max(p.sq.array+4*p.sqEntries, p.cq.cqes+16*p.cqEntries)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(rings)
	sqes, err := unix.Mmap(ring, ringSQEs, 64*int(p.sqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(sqes)
	word := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&rings[off])) }
	for done := 0; done < len(b); {
		*(*ringSQE)(unsafe.Pointer(&sqes[0])) = ringSQE{op: op, flags: ringAsync, fd: int32(fd), off: uint64(done),
			addr: uint64(uintptr(unsafe.Pointer(&b[done]))), len: uint32(len(b) - done)}
		*word(p.sq.array) = 0
		atomic.AddUint32(word(p.sq.tail), 1)
		if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, r, 1, 1, ringGetEvent, 0, 0); errno != 0 {
			return fmt.Errorf("io_uring_enter: %w", errno)
		}
		runtime.KeepAlive(b)
		head := atomic.LoadUint32(word(p.cq.head))
		result := int32(*word(p.cq.cqes + 16*(head&*word(p.cq.mask)) + 8))
		atomic.AddUint32(word(p.cq.head), 1)
		if result <= 0 {
			return fmt.Errorf("io_uring: %w after %d of %d bytes", unix.Errno(-result), done, len(b))
		}
		done += int(result)
	}
	return nil
}
