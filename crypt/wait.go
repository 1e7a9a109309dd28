package crypt

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The runtime's own code comes between a function and its system call: it gives the
// processor to others, answers the collector, and now and then copies or clears
// something with AVX on the way, which leaves the upper halves in their initial state.
// So the registers are overwritten behind it, where nothing comes before the kernel.

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// ReadAtRest is read(2) for a quiet thread that has touched keys or contents, into
// memory outside the heap: all vector registers are overwritten while it waits.
//
//go:nosplit
func ReadAtRest(fd int, p []byte) (n int, err error) {
	entersyscall()
	if !Unprotected {
		fillRegisters()
	}
	r, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	zeroUpperHalves()
	exitsyscall()
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}
