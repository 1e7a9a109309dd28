package main

import (
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls without what the Go runtime does around blocking ones: the
// process has one goroutine and no garbage, so nothing else waits for it. A call
// that fails ends the process; the name says which.

// file is a path for the kernel.
type file *byte

func path(elem string) file {
	p, err := unix.BytePtrFromString(elem)
	if err != nil {
		panic(err)
	}
	return p
}

func call(name string, nr uintptr, a ...uintptr) uintptr {
	var v [6]uintptr
	copy(v[:], a)
	r, _, errno := unix.RawSyscall6(nr, v[0], v[1], v[2], v[3], v[4], v[5])
	if errno != 0 {
		die(name, errno)
	}
	return r
}

func die(name string, errno unix.Errno) {
	fmt.Fprintf(os.Stderr, "bench: %s: %v\n", name, errno)
	os.Exit(1)
}

const atFDCWD = ^uintptr(99) // AT_FDCWD, -100

func open(p file, flags int, mode uint32) uintptr {
	return call("open", unix.SYS_OPENAT, atFDCWD, uintptr(unsafe.Pointer(p)), uintptr(flags|unix.O_CLOEXEC), uintptr(mode))
}

func closeFile(fd uintptr) { call("close", unix.SYS_CLOSE, fd) }

func fstat(fd uintptr, st *unix.Stat_t) {
	call("fstat", unix.SYS_FSTAT, fd, uintptr(unsafe.Pointer(st)))
}

func stat(p file, st *unix.Stat_t) (errno unix.Errno) {
	_, _, errno = unix.RawSyscall6(unix.SYS_NEWFSTATAT, atFDCWD, uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(st)), 0, 0, 0)
	return errno
}

func mustStat(p file, st *unix.Stat_t) {
	if errno := stat(p, st); errno != 0 {
		die("stat", errno)
	}
}

func read(fd uintptr, b []byte) int {
	return int(call("read", unix.SYS_READ, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))))
}

func write(fd uintptr, b []byte) {
	if n := call("write", unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))); int(n) != len(b) {
		die("write: short", unix.EIO)
	}
}

func fsync(fd uintptr) { call("fsync", unix.SYS_FSYNC, fd) }

func ftruncate(fd uintptr) { call("ftruncate", unix.SYS_FTRUNCATE, fd, 0) }

func flock(fd uintptr, how int) { call("flock", unix.SYS_FLOCK, fd, uintptr(how)) }

func chmod(p file, mode uint32) {
	call("chmod", unix.SYS_FCHMODAT, atFDCWD, uintptr(unsafe.Pointer(p)), uintptr(mode))
}

func rename(from, to file) {
	call("rename", unix.SYS_RENAMEAT, atFDCWD, uintptr(unsafe.Pointer(from)), atFDCWD, uintptr(unsafe.Pointer(to)))
}

func unlink(p file) { call("unlink", unix.SYS_UNLINKAT, atFDCWD, uintptr(unsafe.Pointer(p)), 0) }

func mkdir(p file) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_MKDIRAT, atFDCWD, uintptr(unsafe.Pointer(p)), 0o700, 0, 0, 0)
	return errno
}

func getdents(fd uintptr, b []byte) int {
	return int(call("getdents", unix.SYS_GETDENTS64, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))))
}

// clock is CLOCK_MONOTONIC, from the vDSO.
func clock() int64 { return int64(time.Since(epoch)) }

var epoch = time.Now()
