package crypt

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// WithBuffer is for a program that has secrets pass through it and keeps none. It
// runs f on a quiet thread, with memory that is not the heap's, is in no core dump,
// and is out of swap where the limit on locked memory allows. When it returns, buf is
// zero and given back, and no register of the thread has what f has read. What f
// takes out of buf is not looked after.
func WithBuffer(size int, f func(buf []byte) error) (err error) {
	buf, err := unix.Mmap(-1, 0, max(size, 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("mapping a buffer of %d bytes: %w", size, err)
	}
	defer unix.Munmap(buf)
	unix.Madvise(buf, unix.MADV_DONTDUMP)
	unix.Mlock(buf)
	Quietly(func() {
		defer clear(buf)
		err = f(buf[:size:size])
	})
	return err
}
