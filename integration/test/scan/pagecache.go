package scan

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CachedPages counts the pages of f that the kernel's page cache holds. f
// should have been opened before what is to be looked at: opening a file on a
// FUSE mount may itself drop its pages.
func CachedPages(f *os.File) (pages uint64, how string, err error) {
	var st unix.Cachestat_t
	err = unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &st, 0)
	if err == nil {
		return st.Cache, "cachestat", nil
	}
	if err != unix.ENOSYS {
		return 0, "", fmt.Errorf("cachestat: %w", err)
	}
	pages, err = mincore(f)
	return pages, "mincore", err
}

// mincore does the same before Linux 6.5. The mapping is never touched, so it
// brings no page in.
func mincore(f *os.File) (pages uint64, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return 0, fmt.Errorf("map %s to count its cached pages: %w", f.Name(), err)
	}
	defer unix.Munmap(m)
	page := os.Getpagesize()
	in := make([]byte, (len(m)+page-1)/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&in[0])))
	if errno != 0 {
		return 0, fmt.Errorf("mincore: %w", errno)
	}
	for _, b := range in {
		pages += uint64(b & 1)
	}
	return pages, nil
}
