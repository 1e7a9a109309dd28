package lifecycle

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfo is what waitid(2) fills of siginfo_t, 128 bytes on 64-bit machines:
// code says what became of the process, and status with which status or signal.
type siginfo struct {
	signo, errno, code, _ int32
	pid, uid, status      int32
	_                     [100]byte
}

// StatusSignal and the number of a signal is the exit status of a command that it
// killed, as shells have it.
const StatusSignal = 128

// Codes, see <asm-generic/siginfo.h>.
const (
	cldExited  = 1
	cldStopped = 5
)

func waitid(pid int, info *siginfo, options int) error {
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(pid), uintptr(unsafe.Pointer(info)), uintptr(options), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
