package lifecycle

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfo is what waitid(2) fills of siginfo_t, 128 bytes: its third int says
// what became of the process.
type siginfo struct {
	signo, errno, code int32
	_                  [116]byte
}

const cldStopped = 5 // CLD_STOPPED, <asm-generic/siginfo.h>

func waitid(pid int, info *siginfo, options int) error {
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(pid), uintptr(unsafe.Pointer(info)), uintptr(options), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
