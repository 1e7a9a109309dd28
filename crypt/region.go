package crypt

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const pageSize = 4096

// region is a memfd and its shared mapping. The fd is what survives a process;
// the mapping is this process's view of it.
type region struct {
	name   string
	fd     int
	mem    []byte
	secret bool   // memfd_secret(2): outside the kernel's direct map
	locked int64  // bytes that cannot reach swap
	step   func() // called now and then by what takes as long as there is memory
}

// newRegion makes a memfd of size bytes, sparse until touched, and maps it.
func newRegion(name string, size int64, secret bool) (*region, error) {
	var fd int
	var err error
	if secret {
		fd, err = memfdSecret()
	} else {
		fd, err = unix.MemfdCreate("tokenfs-"+name, unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
		if err == unix.EINVAL { // MFD_NOEXEC_SEAL came with Linux 6.3
			fd, err = unix.MemfdCreate("tokenfs-"+name, unix.MFD_CLOEXEC)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("making the %s memory: %w", name, err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("sizing the %s memory to %d bytes: %w", name, size, err)
	}
	r, err := mapRegion(name, fd, secret)
	if err != nil || !secret {
		return r, err
	}
	if err := r.touch(); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// touch puts memory behind every page of a new region. Kernels differ in when
// they count secretmem against RLIMIT_MEMLOCK: when it is mapped, or page by page
// as it is touched, over all processes of the user, and then refuse with SIGBUS.
// A page that the kernel is to write to is refused with an error instead; and one
// that is there stays, for later processes, too.
func (r *region) touch() error {
	zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("touching the %s memory: /dev/zero: %w", r.name, err)
	}
	defer unix.Close(zero)
	for off := 0; off < len(r.mem); {
		n, err := unix.Read(zero, r.mem[off:])
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("touching the %s memory at %d of %d bytes: %w", r.name, off, len(r.mem), err)
		}
		off += max(n, 0)
	}
	return nil
}

// mapRegion maps a memfd that may come from another process. It owns fd.
func mapRegion(name string, fd int, secret bool) (*region, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("examining the %s memory: %w", name, err)
	}
	mem, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mapping the %s memory, %d bytes: %w", name, st.Size, err)
	}
	r := &region{name: name, fd: fd, mem: mem, secret: secret}
	if secret {
		r.locked = st.Size // secretmem is never swapped, and counts as locked
	}
	// Refused for secretmem, which no core dump can contain anyway.
	if err := unix.Madvise(mem, unix.MADV_DONTDUMP); err != nil && !secret {
		r.close()
		return nil, fmt.Errorf("excluding the %s memory from core dumps: %w", name, err)
	}
	return r, nil
}

// lock keeps mem[from:to] out of swap, page by page as they are touched. It
// stops at the first refusal: the caller locks what matters most first.
func (r *region) lock(from, to int) bool {
	if r.secret {
		return true
	}
	const onFault = 1 // MLOCK_ONFAULT
	_, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(unsafe.Pointer(&r.mem[from])), uintptr(to-from), onFault)
	if errno != 0 {
		return false
	}
	r.locked += int64(to - from)
	return true
}

// punch zeroes a page-aligned range and gives its memory back.
func (r *region) punch(from, to int64) {
	r.each(from, to, func(from, to int64) {
		if !Unprotected {
			clear(r.mem[from:to])
		}
		r.giveBack(from, to)
	})
}

// giveBack is for a page-aligned range that is zero already: the kernel takes
// pages as they are, and clears them only before it gives them to anybody.
func (r *region) giveBack(from, to int64) {
	if from < to {
		// Where it fails the memory stays ours.
		unix.Fallocate(r.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
	}
}

// zero clears a range.
func (r *region) zero(from, to int64) {
	r.each(from, to, func(from, to int64) { clear(r.mem[from:to]) })
}

// each goes through what memory there is in a range that may be vast and sparse, a
// step at a time.
func (r *region) each(from, to int64, do func(from, to int64)) {
	const step = 1 << 20
	for from < to {
		data, err := unix.Seek(r.fd, from, unix.SEEK_DATA)
		if err == unix.ENXIO || err == nil && data >= to { // holes up to the end
			return
		}
		if err != nil { // a memfd_secret cannot be asked
			do(from, to)
			return
		}
		hole, err := unix.Seek(r.fd, data, unix.SEEK_HOLE)
		if err != nil {
			hole = to
		}
		for from = min(hole, to); data < from; data += step {
			do(data, min(data+step, from))
			if r.step != nil {
				r.step()
			}
		}
	}
}

// erase zeroes everything and gives the memory back.
func (r *region) erase() { r.punch(0, int64(len(r.mem))) }

// eraseForGood is erase where others use the mapping: to them it becomes one that
// can be read only, and is zero.
func (r *region) eraseForGood() {
	clear(r.mem)
	again, err := unix.Mmap(r.fd, 0, len(r.mem), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return
	}
	unix.MmapPtr(r.fd, 0, unsafe.Pointer(&r.mem[0]), uintptr(len(r.mem)), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED)
	clear(again)
}

func (r *region) close() {
	if r.mem != nil {
		unix.Munmap(r.mem)
		r.mem = nil
	}
	unix.Close(r.fd)
}

// allocated says how many bytes of memory stand behind the region.
func (r *region) allocated() int64 {
	var st unix.Stat_t
	if unix.Fstat(r.fd, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// memfdSecret is memfd_secret(2), Linux >= 5.14, off by default before 6.5.
func memfdSecret() (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_MEMFD_SECRET, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// whyNoSecretmem explains an error of memfd_secret or of mapping it.
func whyNoSecretmem(err error) string {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return "this kernel has it off or lacks it; boot with secretmem.enable=1, or Linux >= 6.5"
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM):
		return "more than RLIMIT_MEMLOCK allows"
	case errors.Is(err, unix.EFAULT): // see touch
		return "more than RLIMIT_MEMLOCK allows all processes of the user together, root's included"
	case errors.Is(err, unix.EPERM):
		return "refused by a seccomp filter or security module"
	}
	return err.Error()
}

// LockLimit is RLIMIT_MEMLOCK in bytes, -1 where it does not bind.
func LockLimit() int64 {
	var rl unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &rl) != nil {
		return 0
	}
	if rl.Cur == unix.RLIM_INFINITY || canLockAnything() {
		return -1
	}
	return int64(rl.Cur)
}

// canLockAnything looks for CAP_IPC_LOCK in the effective set (capabilities(7)).
func canLockAnything() bool {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err == nil && caps&(1<<unix.CAP_IPC_LOCK) != 0
		}
	}
	return false
}

// word gives atomic access to 8 bytes of a mapping; off is a multiple of 8.
func (r *region) word(off int) *uint64 {
	return (*uint64)(unsafe.Pointer(&r.mem[off]))
}
